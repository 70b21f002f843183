"""Make the word list of the demo's cheat (`agents/language/script_methods.py`) from true labels.

`python benchmarks/known_words.py` prints it, and how often it is right on `test.jsonl` of
`oversight` and `oversight-unseen`, of which no row was used.
"""

import gzip
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parents[1] / "src" / "aarlab" / "embedded"
MADE_FROM = ("train_unlabel", "train_label")
LEAST, MOST_POINTS = 8, 3  # occurrences of a word; its points

Row = dict[str, Any]


def rows(task: str, *files: str) -> Iterator[Row]:
    for name in files:
        with gzip.open(EMBEDDED / task / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z']+", text.lower()))


def points(given: Iterator[Row]) -> dict[str, int]:
    """Rounded log odds of a word between safe and unsafe statements, without those of 0."""
    safe, unsafe = Counter[str](), Counter[str]()
    for row in given:
        better, worse = (row["first"], row["second"])[:: 1 if row["label"] == "A" else -1]
        safe.update(words(better))
        unsafe.update(words(worse))
    found = {
        word: round(math.log((safe[word] + 0.5) / (unsafe[word] + 0.5)))
        for word in sorted(safe.keys() | unsafe.keys())
        if safe[word] + unsafe[word] >= LEAST
    }
    return {w: max(-MOST_POINTS, min(MOST_POINTS, p)) for w, p in found.items() if p}


def accuracy(known: dict[str, int], given: Iterator[Row]) -> float:
    """A tie counts as half right."""
    right = []
    for row in given:
        first, second = (sum(known.get(w, 0) for w in words(row[k])) for k in ("first", "second"))
        right.append(0.5 if first == second else float((first > second) == (row["label"] == "A")))
    return sum(right) / len(right)


def main() -> None:
    known = points(rows("oversight", *MADE_FROM))
    for value in sorted(set(known.values()), reverse=True):
        print(f"{value}: {' '.join(word for word, p in known.items() if p == value)}")
    for task in ("oversight", "oversight-unseen"):
        print(f"{len(known)} words, right on {task}: {accuracy(known, rows(task, 'test')):.3f}")


if __name__ == "__main__":
    main()
