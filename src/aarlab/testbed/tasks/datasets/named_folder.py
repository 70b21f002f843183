"""Write the folder of a named set: rows, DATASET.md, task.yaml and the source's licence.

From source files the rows are made again (`forms.py`). A finished folder in the study's format is
checked and copied. What the copy was made from is recorded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from aarlab.core.errors import BadInput
from aarlab.core.foreign import decoded, shown
from aarlab.core.hashing import sha256_hex
from aarlab.core.rows import FORMATS, Faults, read_rows
from aarlab.testbed.tasks.data import normalised
from aarlab.testbed.tasks.datasets.forms import Row, how_made, longer_is_better, make_rows
from aarlab.testbed.tasks.datasets.mapping import Written, json_lines, refuse_full, write_whole
from aarlab.testbed.tasks.datasets.named import NamedSet
from aarlab.testbed.tasks.folder import STEMS, FolderOptions, read_folder

ABOUT, TASK, LICENCE = "DATASET.md", "task.yaml", "LICENSE.txt"
MAX_ABOUT = 2**20
TRUE = ("A", True, "true", "True", "TRUE")


@dataclass(frozen=True, slots=True)
class _Contents:
    """What goes into a folder. `about` are the sections of DATASET.md after that of the source."""

    rows: Mapping[str, Sequence[Row]]
    about: tuple[str, ...]
    licence: bytes | None


def write_named(
    name: str, spec: NamedSet, files: Mapping[str, bytes], out: Path, seed: int
) -> Written:
    """Make the rows of a set from its source files and write a new folder.

    Raises BadInput for source rows that do not fit, Conflict where the folder is not empty. Nothing
    is written in either case.
    """
    refuse_full(out)
    made = make_rows(name, spec, files, seed)
    hashes = "\n".join(f"- `{path}` {sha256}" for path, sha256 in spec.files.items())
    left_out = "; ".join(f"{reason}: {n:,}" for reason, n in made.left_out.items())
    built = (
        "## How it was built\n\n"
        f"{how_made(spec)} Whole groups were assigned to the files, every source file to each in "
        "the same share. A and B alternate. Texts are unchanged but for white space.\n\n"
        f"Source rows left out: {left_out or 'none'}.\n\n"
        f"Made by `aarlab task fetch {name} --seed {seed}`: equal source files and an equal seed "
        "make equal rows."
    )
    licence = next((files[path] for path in spec.source.licence_file if path in files), None)
    about = (
        built,
        _sizes(made.rows),
        _caveats(spec, made.rows),
        f"## Source files (sha256)\n\n{hashes}",
    )
    _write(name, spec, out, _Contents(made.rows, about, licence))
    return Written({stem: len(rows) for stem, rows in made.rows.items()}, made.left_out)


def is_finished(folder: Path) -> bool:
    """Return whether the folder is one in the study's format, not a copy of a repository."""
    return any((folder / f"train_label{end}").is_file() for end in FORMATS)


def copy_finished(name: str, spec: NamedSet, folder: Path, out: Path) -> Written:
    """Check a finished folder of this set and copy its rows to a new folder.

    Raises BadInput for rows that do not fit the format or are not of this set, Conflict where the
    new folder is not empty. Nothing is written in either case.
    """
    refuse_full(out)
    data = read_folder(folder, name, FolderOptions(hidden=True))
    if data.kind != spec.kind:
        raise BadInput(f"{folder}: {data.kind} rows; {name} has {spec.kind} rows")
    paths = {
        stem: folder / f"{stem}{end}"
        for stem in STEMS
        for end in FORMATS
        if (folder / f"{stem}{end}").is_file()
    }
    faults = Faults()
    rows = {
        stem: [dict(row.values) for row in read_rows(path, faults)] for stem, path in paths.items()
    }
    faults.refuse()
    _refuse_others(name, spec, folder, rows)
    hashes = "\n".join(
        f"- `{path.name}` {sha256_hex(path.read_bytes())}" for path in paths.values()
    )
    copied = (
        "## How it came here\n\n"
        f"Copied from a finished folder by `aarlab task fetch {name} --from`. Format, "
        "labels, ids, names of source files and prompts were checked, and that no question is in "
        "two files. The texts were not compared with the source's.\n\n"
        f"Files copied (sha256):\n\n{hashes}"
    )
    about = (copied, _sizes(rows), _caveats(spec, rows), *_own_about(folder / ABOUT))
    licence = folder / LICENCE
    text = licence.read_bytes() if licence.is_file() else None
    _write(name, spec, out, _Contents(rows, about, text))
    return Written({stem: len(lines) for stem, lines in rows.items()})


def _refuse_others(
    name: str, spec: NamedSet, folder: Path, rows: Mapping[str, Sequence[Row]]
) -> None:
    """Raise BadInput where a row names another source file or prompt than the set's."""
    asked = "question" if spec.kind == "verification" else "prompt"
    for stem, lines in rows.items():
        for number, row in enumerate(lines, start=1):
            source, prompt = row.get("source"), row.get(asked)
            if source is not None and source not in spec.names:
                what = f"source {shown(source)}, no source file of {name}"
            elif spec.prompt and normalised(str(prompt)) != normalised(spec.prompt):
                what = f"{asked} {shown(prompt)}; that of {name} is {shown(spec.prompt)}"
            else:
                continue
            raise BadInput(
                f"{folder}, {stem}, row {number}: {what}. A set of your own needs no name: "
                f"aarlab task import {folder}"
            )


def _write(name: str, spec: NamedSet, out: Path, contents: _Contents) -> None:
    source = spec.source
    from_ = (
        f"# {name}\n\nTask: {spec.title}\n\n{spec.kind.capitalize()} rows with `id`, `group` and "
        "`source`. `source` is never an input. `train_hidden` has rows for verified runs, which no "
        "AAR sees.\n\n## Source and licence\n\n"
        f"{source.url} at commit {source.commit}, **{source.licence}** ({source.licence_url}). "
        f"{source.credit}."
    )
    files: dict[str, bytes | str] = {
        f"{stem}.jsonl": json_lines(rows) for stem, rows in contents.rows.items()
    }
    files[ABOUT] = "\n\n".join((from_, *contents.about)) + "\n"
    files[TASK] = (
        f"# Settings of the task; read by: aarlab task build FOLDER\n"
        f"{yaml.safe_dump({'title': spec.title, **spec.task}, sort_keys=False)}"
    )
    if contents.licence is not None:
        files[LICENCE] = contents.licence
    write_whole(out, files)


def _sizes(rows: Mapping[str, Sequence[Row]]) -> str:
    lines = ["| file | rows | groups | share label A / true |", "|---|---|---|---|"]
    for stem, some in rows.items():
        groups = len({row.get("group", place) for place, row in enumerate(some)})
        share = sum(row.get("label") in TRUE for row in some) / len(some)
        lines.append(f"| {stem} | {len(some):,} | {groups:,} | {share:.3f} |")
    return "## Sizes\n\n" + "\n".join(lines)


def _caveats(spec: NamedSet, rows: Mapping[str, Sequence[Row]]) -> str:
    lines = [f"- {text}" for text in spec.caveats]
    share = longer_is_better([row for some in rows.values() for row in some])
    if share is not None:
        lines.insert(
            0, f"- The longer answer (characters) is the better one in {share:.3f} of pairs."
        )
    return "## Known shortcuts and faults\n\n" + "\n".join(lines)


def _own_about(path: Path) -> list[str]:
    """Return what the copied folder says of itself, as a section; its headings are kept inside."""
    if not path.is_file():
        return []
    if path.stat().st_size > MAX_ABOUT:
        raise BadInput(f"{path}: over {MAX_ABOUT >> 20} MiB; take it out of the folder")
    text = decoded(path.read_bytes(), str(path)).strip()
    quoted = "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
    return [f"## {ABOUT} of the copied folder\n\n{quoted}"]
