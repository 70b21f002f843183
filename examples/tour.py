"""A finished campaign to look around in: nine AARs' worth of posts, code, transcripts, two cheats.

    python examples/tour.py runs/tour
    AARLAB_HOME=runs/tour/data aarlab serve --runs runs/tour/runs

Takes half a minute, needs no model and no key. What the AARs did is written down in
tests/kit/seeded.py, so do not open that first: docs/tour.md asks you to find out.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))

from seeded import make_seeded


def main(folder: Path) -> None:
    if folder.exists():
        sys.exit(f"{folder} exists already: remove it, or give another folder")
    folder.mkdir(parents=True)
    _, run = make_seeded(folder)
    print(f"made {run.path}\nnow: AARLAB_HOME={folder}/data aarlab serve --runs {folder}/runs")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/tour"))
