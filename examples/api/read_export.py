"""Print the verdict and the leaderboard of a finished campaign from its export.

    python examples/api/read_export.py runs/demo/export.json
    python examples/api/read_export.py docs/recorded/export.json

An export holds no row and no label. It needs no server, no task and no model to read.
"""

import argparse
from pathlib import Path

import aarlab


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path, help="export.json of a campaign")
    given = parser.parse_args()

    export = aarlab.load_export(given.export)
    print(f"{export.campaign}: {len(export.submissions)} submissions of {len(export.aars)} AARs")
    print(aarlab.verdict_of(export))
    for task in export.tasks:
        lines = [line for line in export.leaderboard if line.task == task.name]
        if lines:
            print(f"\n{task.name}: verified PGR on hidden selection rows")
        for line in lines:
            rank = "-" if line.rank is None else line.rank
            name = line.short or f"{line.aar}: {line.method}"
            print(f"{rank:>4}  {name:40} {line.pgr:+.2f} [{line.low:+.2f}, {line.high:+.2f}]")


if __name__ == "__main__":
    main()
