"""Settings of the student server. The only file of this folder that reads the environment."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class DeviceSettings(BaseSettings):
    """`AARLAB_DEVICE_LOCKS` is the folder of the locks on devices. It is local to the machine.

    By default each user has one: servers of two users do not know of each other.
    """

    model_config = SettingsConfigDict(env_prefix="AARLAB_", frozen=True, extra="ignore")

    device_locks: Path = Field(default_factory=lambda: Path(f"/tmp/aarlab-devices-{os.getuid()}"))


def visible_device(number: int) -> str:
    """Return the name of one of the devices that this process sees, for CUDA_VISIBLE_DEVICES."""
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return seen[number] if number < len(seen) else str(number)
