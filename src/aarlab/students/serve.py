"""Start a server of catalogue models on a device of this machine."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

from aarlab.core.device_lock import card_lock
from aarlab.core.errors import BadInput
from aarlab.students.server import Serving, StudentServer
from aarlab.students.settings import Device, DeviceSettings, see_only
from aarlab.testbed.models.compute import choose
from aarlab.testbed.settings import load_settings
from aarlab.testbed.tasks.making import Workshop

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to serve and where. `price` is in dollars an hour of the device.

    Models are those of the data root `root`, by default of AARLAB_HOME.
    Without a `socket` it lies in a folder of its own below that of the locks. A sandbox sees the
    folder of a socket, so it should hold nothing else.
    """

    models: tuple[str, ...]
    device: str = "auto"  # settings.Device
    socket: Path | None = None
    price: float = 0.0
    root: Path | None = None


def device_name(device: Device) -> str:
    """Return a name of the device that is the same for every process of this machine."""
    if device.kind == "cpu":
        return "cpu" if device.number is None else f"cpu-{device.number}"
    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    return card_lock(str(about.uuid))


def keep_freed_memory() -> None:
    """Have the C library keep up to 128 MB of freed memory for the next call.

    A fit allocates a few megabytes again and again. Given back each time, they cost a page fault
    for every 4 kB, a twentieth of a short fit.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)
        libc.mallopt(M_TRIM_THRESHOLD, 2**27)


def serve(wanted: Wanted, tell: Callable[[str], None] = lambda line: None) -> None:
    """Serve until the process is told to end; `tell` hears what it does, the socket last.

    Raises NotFound for a model that the catalogue does not know, and Conflict where another server
    has the device.
    """
    asked = Device.named(wanted.device)
    if asked.kind == "cuda" and asked.number is not None:
        see_only(asked.number)
    given: dict[str, object] = {} if wanted.root is None else {"home": wanted.root}
    settings = load_settings().model_copy(update={"device": asked.kind, **given})
    if not 0 <= wanted.price < float("inf"):
        raise BadInput(f"price {wanted.price}: expected dollars an hour")
    locks = DeviceSettings().device_locks
    device = device_name(asked._replace(kind=choose(asked.kind).device))
    path = (wanted.socket or locks / device / "socket").absolute()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    shop = Workshop(settings.root, tell, settings=settings)
    caches = {name: shop.feature_cache(name) for name in wanted.models}
    server = StudentServer(Serving(path, locks, device, wanted.price), caches)
    keep_freed_memory()
    # Heads are small: a library that takes a thread per core for each is ten times slower.
    with threadpool_limits(1):
        try:
            server.start()
            tell(f"serving students on {device} at {path}")
            server.run()
        finally:
            server.stop()
