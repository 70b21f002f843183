"""Settings of the student server. The only file of this folder that reads the environment."""

import os
import re
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from aarlab.core.errors import BadInput


class DeviceSettings(BaseSettings):
    """`AARLAB_DEVICE_LOCKS` is the folder of the locks on devices. It is local to the machine.

    By default each user has one: servers of two users do not know of each other.
    """

    model_config = SettingsConfigDict(env_prefix="AARLAB_", frozen=True, extra="ignore")

    device_locks: Path = Field(default_factory=lambda: Path(f"/tmp/aarlab-devices-{os.getuid()}"))


DEVICE = r"^((auto|cpu)(:[0-9]{1,9})?|cuda(:[0-9]{1,3})?)$"
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Device(NamedTuple):
    """A device by name: `auto`, `cpu`, `cuda`, or one of several, such as `cuda:1`.

    `cpu:1` is one more server on the same cores. `auto:1` is CUDA where it is found, else `cpu:1`.
    """

    kind: Literal["auto", "cpu", "cuda"]
    number: int | None = None

    @classmethod
    def named(cls, name: str) -> "Device":
        """Return the device of a name; raises BadInput for any other."""
        if not re.fullmatch(DEVICE, name):
            raise BadInput(f"device {name!r}: expected auto, cpu, cuda, or one such as cuda:1")
        kind, _, number = name.partition(":")
        for known in ("auto", "cpu", "cuda"):
            if kind == known:
                return cls(known, int(number) if number else None)
        raise AssertionError(name)


def see_only(number: int) -> None:
    """Have CUDA see one device alone, counted among those that it sees now.

    Call it before CUDA is used. Raises BadInput where there are fewer.
    """
    seen = os.environ.get(VISIBLE)
    if seen is None:
        os.environ[VISIBLE] = str(number)
        return
    named = [word.strip() for word in seen.split(",") if word.strip()]
    if number >= len(named):
        raise BadInput(f"no device cuda:{number}: {VISIBLE} is {seen!r}, {len(named)} devices")
    os.environ[VISIBLE] = named[number]
