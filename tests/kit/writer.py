"""`python writer.py SOCKET TOKEN NAME ROWS NOTES`: an AAR in miniature that may be killed anywhere.

Each write has a key made of its number. What was acknowledged is a line of NOTES; started again it
goes on after the last line, so that a write whose line is missing is sent again under its key.
"""

import json
import sys
from pathlib import Path

from aarlab.client.platform import PlatformClient
from aarlab.client.transport import Address
from aarlab.core.wire import NewFinding, NewSnapshot, Run, SnapshotFile, Spend, Submission

KINDS = ("finding", "snapshot", "spend", "submission")


def write(aar: PlatformClient, kind: str, key: str, ids: list[str]) -> str:
    if kind == "finding":
        return aar.post_finding(NewFinding(kind="insight", title=key, text="t"), key=key).id
    if kind == "snapshot":
        code = SnapshotFile(path="method.py", content_b64="")
        return aar.put_snapshot(NewSnapshot(name=key, files=[code]), key=key).id
    if kind == "spend":
        return aar.spend(Spend(kind="device_s", amount=1), key=key).name
    probs = [(position * 37 + len(key)) % 100 / 100 for position in range(len(ids))]
    runs = [Run(seed=0, probs=probs)]
    return aar.submit(Submission(task=TASK, method=key, ids=ids, runs=runs), key=key).submission


def main(socket: str, token: str, name: str, rows: str, notes: str) -> None:
    ids = [json.loads(line)["id"] for line in Path(rows).read_text().splitlines()]
    noted = Path(notes).read_text().splitlines() if Path(notes).exists() else []
    with (
        PlatformClient(Address(Path(socket)), token, deadline_s=120) as aar,
        Path(notes).open("a") as out,
    ):
        for number in range(len(noted), 10**9):
            kind = KINDS[number % len(KINDS)]
            made = write(aar, kind, f"{name}-{number}", ids)
            out.write(f"{kind} {made}\n")
            out.flush()


TASK = "code-world"

if __name__ == "__main__":
    main(*sys.argv[1:])
