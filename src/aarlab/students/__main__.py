"""`python -m aarlab.students --socket PATH --models NAME,NAME`: serve students on one device.

Restarted on the same files it serves the same models. Clients have to be admitted again.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Literal

from threadpoolctl import threadpool_limits

from aarlab.core.errors import AarlabError
from aarlab.core.logs import log_to_stderr
from aarlab.core.showing import safe_to_show
from aarlab.students.server import Serving, StudentServer
from aarlab.students.settings import StudentSettings
from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.settings import load_settings
from aarlab.testbed.tasks.making import Workshop


def device_name(device: Literal["cpu", "cuda"]) -> str:
    """Return a name of the device that is the same for every process of this machine."""
    if device == "cpu":
        return "cpu"
    import torch

    about = torch.cuda.get_device_properties(torch.cuda.current_device())
    return f"cuda-{about.uuid}"


def serving(
    path: Path, models: list[str], device: Literal["auto", "cpu", "cuda"], price: float
) -> StudentServer:
    """Return a server of catalogue models on a device of this machine, not started.

    Raises NotFound for a model that the catalogue does not know.
    """
    import torch

    settings = load_settings().model_copy(update={"device": device})
    shop = Workshop(settings.root, lambda line: None, settings=settings)
    caches: dict[str, FeatureCache] = {name: shop.feature_cache(name) for name in models}
    on_card = device != "cpu" and torch.cuda.is_available()
    name = device_name("cuda" if on_card else "cpu")
    told = Serving(path, StudentSettings().device_locks, name, price)
    return StudentServer(told, caches)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m aarlab.students", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to serve on")
    parser.add_argument("--models", default="", help="names of the catalogue, comma-separated")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--price", type=float, default=0.0, help="dollars an hour of the device")
    given = parser.parse_args(arguments)
    log_to_stderr("INFO")
    names = [name for name in given.models.split(",") if name]
    try:
        server = serving(given.socket, names, given.device, given.price)

        def end(signal_number: int, frame: FrameType | None) -> None:
            server.stop()

        # Heads are small: a library that takes a thread per core for each is ten times slower.
        with threadpool_limits(1):
            server.start()
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, end)
            sys.stdout.write(f"serving students at {given.socket}\n")
            sys.stdout.flush()
            server.run()
    except AarlabError as error:
        sys.stderr.write(f"aarlab students: {safe_to_show(str(error))}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
