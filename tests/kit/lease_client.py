"""A process that takes leases of fake devices, for tests that kill it.

`python lease_client.py FOLDER CLIENT KIND DEVICES ROUNDS`: each hold is a line of `holds.jsonl`
in FOLDER when it begins and another when it ends. A device is a file that nobody else may have.
"""

import fcntl
import json
import os
import random
import sys
import time
from pathlib import Path

from aarlab.sandbox.devices import Device
from aarlab.sandbox.leases import Leases


def card(number: int) -> Device:
    """A card without nodes."""
    return Device(f"nvidia:{number}", "nvidia", {}, f"cuda-{number}")


def note(folder: Path, **facts: object) -> None:
    line = json.dumps({"pid": os.getpid(), "at": time.time(), **facts}) + "\n"
    with (folder / "holds.jsonl").open("ab", buffering=0) as out:
        out.write(line.encode())


def main(folder: Path, client: str, kind: str, devices: list[int], rounds: int) -> None:
    leases, rng = Leases(folder / "locks"), random.Random(client)
    for number in range(rounds):
        with (
            leases.lease(client, kind, [card(n) for n in devices], lambda: False) as lease,
            (folder / f"device-{lease.device.name}").open("ab") as device,
        ):
            # The test's own truth: a lock that fails here is a device with two holders.
            fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note(folder, client=client, number=number, device=lease.device.name, what="begun")
            time.sleep(rng.uniform(0.0, 0.1))
        note(folder, client=client, number=number, what="ended", seconds=lease.seconds)


if __name__ == "__main__":
    where, name, kind, devices, rounds = sys.argv[1:]
    main(Path(where), name, kind, json.loads(devices), int(rounds))
