"""Read a folder of rows: `train_label`, `train_unlabel`, `test`, in any format of `core/rows.py`.

A row has {"prompt", "first", "second", "label": "A"|"B"} or {"question", "choice", "label": bool},
as in the published study, or one of two shapes of the Hugging Face hub: {"prompt", "chosen",
"rejected"}, or {"question", "choices", "label" or "answer"} with the number of the right choice.
`train_label` becomes split teacher, `train_unlabel` becomes split train, and whole problems of
`test` are assigned to search, selection and certify. `train_hidden` is the split of that name,
on which verified runs train. Without such a file, whole problems of a large `train_unlabel` are
assigned to it. Reading writes nothing.

Covered: only the texts reach an `Example`. Other columns, ids and groups included, may reveal the
label, so an example's id and group are hashes of texts. Not covered: a label inside a text.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.foreign import shown
from aarlab.core.hashing import content_hash, sha256_hex
from aarlab.core.ids import checked_name
from aarlab.core.rows import FORMATS, Faults, is_row_file, read_rows
from aarlab.core.types import Example, Split, TaskKind
from aarlab.testbed.tasks.data import (
    DEAL_FROM,
    HIDDEN_LEAST,
    EvalShares,
    LabelledSplit,
    TaskData,
    deal_groups,
    deal_hidden,
    enough_hidden,
    linked,
    question_key,
    shared_instruction,
)

FILES = ("train_label", "train_unlabel", "test")
HIDDEN: Literal["train_hidden"] = "train_hidden"
STEMS = ("train_label", "train_unlabel", HIDDEN, "test")  # of a question in two, the later stays
MAX_COLUMN = 1000
Repeated = Literal["refuse", "drop"]
EXPECTED = (
    'expected the columns prompt, first, second, label ("A" or "B"); or question, choice, label '
    "(true or false); or prompt, chosen, rejected; or question, choices, label (a number)"
)
MAPPING_HINT = """Rows of another form need a mapping, which says what becomes question and answers:
  mine:
    repo: local
    licence: ...
    checked: the file itself
    prompt: "{{{0}}}"
    options: {{"0": "no", "1": "yes"}}   # or right/wrong, or better/worse: docs/data.md
    truth: "{{{1}}}"
then: aarlab task fetch mine.yaml --files FILE --out FOLDER"""


def _silent(_: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """Options for reading a folder.

    `seed` and `shares` decide how the test file is split; the task's settings record them. Without
    `hidden`, the task gets no hidden train rows and all of `train_unlabel` is public.
    `repeated` decides what happens to a question in two files. `tell` receives the notes.
    """

    seed: int = 0
    shares: EvalShares = field(default_factory=EvalShares)
    hidden: bool = True
    repeated: Repeated = "refuse"
    tell: Callable[[str], None] = _silent


class _Texts(NamedTuple):
    """Prompt, answers and label of a row, in the form that the task uses."""

    prompt: str
    answers: tuple[str, ...]
    target: int


class _Row(NamedTuple):
    """A checked row. `group` is the source's name of the problem, if it gives one.

    `problem` is a name derived from the texts alone.
    """

    file: Path
    place: str
    texts: _Texts
    group: str | None
    columns: dict[str, Any]
    problem: str = ""

    @property
    def where(self) -> str:
        return f"{self.file.name}, {self.place}"


class _Wrong(Exception):
    """The reason why a row cannot be used."""


def read_folder(path: Path, name: str, options: FolderOptions | None = None) -> TaskData:
    """Read and check a whole folder.

    Raises NotFound, or BadInput naming each file, line and reason.
    """
    options = options or FolderOptions()
    checked_name(name, "task")
    files = _files(path, options)
    faults = Faults()
    rows = {stem: list(_read_file(files[stem], faults)) for stem in STEMS if stem in files}
    _refuse_mixed(rows, faults)
    _refuse_double_ids(rows, faults)
    faults.refuse()
    rows = _one_file_each(rows, options)
    for stem in rows:
        if not rows[stem]:
            raise BadInput(f"{files[stem]}: no row is left without those that other files repeat")
        if len({row.texts.target for row in rows[stem]}) < 2:
            raise BadInput(f"{files[stem]}: all labels are the same; both classes are needed")
    _note_columns(rows, options)
    made = {stem: LabelledSplit(*_examples(rows[stem])) for stem in rows}
    _note_contradictions(made, options)
    test = made["test"]
    groups_N = [str(row.group) for row in rows["test"]]
    dealt = deal_groups(groups_N, test.targets_N, options.shares.by_split(), options.seed)
    train, how = _train_splits(made, files, options)
    shares, kind = options.shares, test.examples[0].kind
    return TaskData(
        name=name,
        kind=kind,
        title=name,
        description=f"{kind} rows from a folder in the format of the study",
        settings={
            "source": "folder",
            "folder": path.name,
            "files": {stem: sha256_hex(files[stem].read_bytes()) for stem in rows},
            "split_seed": options.seed,
            "shares": [shares.search, shares.selection, shares.certify],
            **({HIDDEN: how} if how else {}),
        },
        splits={
            "teacher": made["train_label"],
            **train,
            **{split: test.at(places) for split, places in dealt.items()},
        },
        columns={
            example.id: {"file": row.file.name, "place": row.place, **row.columns}
            for stem in rows
            for row, example in zip(rows[stem], made[stem].examples, strict=True)
        },
    )


def _train_splits(
    made: Mapping[str, LabelledSplit], files: Mapping[str, Path], options: FolderOptions
) -> tuple[dict[Split, LabelledSplit], str]:
    """Return train and, if there are hidden train rows, train_hidden and where they come from.

    Raises BadInput for a file of too few hidden rows.
    """
    train = made["train_unlabel"]
    public: dict[Split, LabelledSplit] = {"train": train}
    if HIDDEN in made:
        n_hidden, n_train = (len(rows.examples) for rows in (made[HIDDEN], train))
        if not enough_hidden(n_hidden, n_train):
            raise BadInput(
                f"{files[HIDDEN]}: {n_hidden:,} rows with {n_train:,} of train_unlabel; verified "
                f"runs train on these and need at least {HIDDEN_LEAST}, and half as many as "
                "train_unlabel has: add rows, or import with --no-train-hidden"
            )
        return {**public, HIDDEN: made[HIDDEN]}, files[HIDDEN].name
    if not options.hidden:
        return public, ""
    dealt = deal_hidden(train, options.seed)
    if dealt is None:
        options.tell(
            "verified runs train on public rows: hidden ones need a file train_hidden, or "
            f"{DEAL_FROM} rows of train_unlabel in problems that can be dealt"
        )
        return public, ""
    return dealt, "dealt from train_unlabel"


def _files(path: Path, options: FolderOptions) -> dict[str, Path]:
    if path.is_file():
        raise BadInput(
            f"{path} is a file; give the folder that holds {', '.join(FILES)}, or make one: "
            f"aarlab task fetch MAPPING --files {path} --out FOLDER"
        )
    if not path.is_dir():
        raise NotFound(f"no folder {path}")
    found = {}
    for stem in STEMS:
        there = [path / f"{stem}{end}" for end in FORMATS if (path / f"{stem}{end}").exists()]
        if len(there) > 1:
            raise BadInput(f"{path} holds {' and '.join(p.name for p in there)}; keep one of them")
        if there:
            found[stem] = there[0]
    missing = [stem for stem in FILES if stem not in found]
    if missing:
        others = sorted(file.name for file in path.iterdir() if is_row_file(file))
        hint = f"; for {others[0]}: aarlab task fetch MAPPING --files FILE" if others else ""
        raise NotFound(
            f"{path / missing[0]}.jsonl does not exist; a task folder holds {', '.join(FILES)}, "
            f"each as one of {', '.join(FORMATS)}{hint}"
        )
    if HIDDEN in found and not options.hidden:
        options.tell(f"{found.pop(HIDDEN).name} is not read: verified runs train on public rows")
    return found


def _read_file(file: Path, faults: Faults) -> Iterator[_Row]:
    n_rows, before = 0, len(faults)
    for row in read_rows(file, faults):
        n_rows += 1
        try:
            texts = list(_texts(row.values))
            group = _name(row.values, "group")
            _name(row.values, "id")
        except _Wrong as error:
            faults.add(file, row.place, str(error))
            if str(error).startswith("expected the columns"):
                faults.hint = _hint(row.values)
            continue
        columns = {k: _plain(v) for k, v in row.values.items() if k not in TEXTS | {"label"}}
        for one in texts:
            yield _Row(file, row.place, one, group, columns)
    if not n_rows and len(faults) == before:
        faults.add(file, "", "holds no rows")


def _hint(row: Mapping[str, Any]) -> str:
    names = [key for key in row if key.isidentifier()] + ["QUESTION", "ANSWER"]
    return MAPPING_HINT.format(*names[:2])


def _texts(row: Mapping[str, Any]) -> Iterator[_Texts]:
    """Yield the one or two examples of a row. Raises _Wrong with the reason."""
    has = row.keys() & TEXTS
    for fields, read in SHAPES:
        if set(fields) <= has and not has & OTHERS[fields]:
            yield from read(row)
            return
    for fields, _ in SHAPES[:2]:  # a row in the study's form that lacks a field
        if set(fields) & has and not has & OTHERS[fields]:
            raise _Wrong(f"missing field {next(f for f in fields if f not in row)!r}")
    raise _Wrong(f"{EXPECTED}; got {', '.join(sorted(map(shown, row))[:10]) or 'none'}")


def _preference(row: Mapping[str, Any]) -> Iterator[_Texts]:
    prompt, first, second = (_text(row, key) for key in ("prompt", "first", "second"))
    label = _label(row)
    if label not in ("A", "B"):
        raise _Wrong(f'unknown label {shown(label)}; a preference row has "A" or "B"')
    yield _Texts(prompt, (first, second), int(label == "A"))


def _verification(row: Mapping[str, Any]) -> Iterator[_Texts]:
    question, choice = (_text(row, key) for key in ("question", "choice"))
    label = _label(row)
    if isinstance(label, str) and label.lower() in ("true", "false"):  # CSV holds booleans as text
        label = label.lower() == "true"
    if not isinstance(label, bool):
        raise _Wrong(f"unknown label {shown(label)}; a verification row has true or false")
    yield _Texts(question, (choice,), int(label))


def _chosen(row: Mapping[str, Any]) -> Iterator[_Texts]:
    prompt, chosen, rejected = (_text(row, key) for key in ("prompt", "chosen", "rejected"))
    if chosen == rejected:
        raise _Wrong("'chosen' and 'rejected' are the same")
    pair = sorted((chosen, rejected))  # their order must say nothing about the label
    if int(content_hash([prompt, *pair]), 16) % 2:
        pair.reverse()
    yield _Texts(prompt, tuple(pair), int(pair[0] == chosen))


def _choices(row: Mapping[str, Any]) -> Iterator[_Texts]:
    """Yield the right choice and a wrong one, as two verification rows of one problem."""
    question, choices = _text(row, "question"), row["choices"]
    if isinstance(choices, dict):  # {"text": [...], "label": ["A", "B", ...]}
        choices = choices.get("text")
    if not isinstance(choices, list) or len(choices) < 2:
        raise _Wrong("field 'choices' must be a list of two or more texts")
    texts = [_text({"choices": choice}, "choices") for choice in choices]
    given = [key for key in ("label", "answer") if row.get(key) is not None]
    if len(given) != 1:
        raise _Wrong(
            "a row with 'choices' needs either 'label' or 'answer': the right one's number"
        )
    right = row[given[0]]
    if isinstance(right, str) and right.isascii() and right.isdigit():
        right = int(right)
    if type(right) is not int or not 0 <= right < len(texts):
        raise _Wrong(f"{given[0]} {shown(right)} is not a number from 0 to {len(texts) - 1}")
    wrong = [text for text in texts if text != texts[right]]
    if not wrong:
        raise _Wrong("all 'choices' are the same")
    other = wrong[int(content_hash([question, texts]), 16) % len(wrong)]
    yield _Texts(question, (texts[right],), 1)
    yield _Texts(question, (other,), 0)


Reader = Callable[[Mapping[str, Any]], Iterator[_Texts]]
SHAPES: tuple[tuple[tuple[str, ...], Reader], ...] = (
    (("prompt", "first", "second"), _preference),
    (("question", "choice"), _verification),
    (("prompt", "chosen", "rejected"), _chosen),
    (("question", "choices"), _choices),
)
TEXTS = frozenset(field for fields, _ in SHAPES for field in fields)
# A row with a text of another shape could be read in two ways.
OTHERS = {fields: TEXTS - set(fields) for fields, _ in SHAPES}


def _label(row: Mapping[str, Any]) -> Any:
    if "label" not in row:
        raise _Wrong("missing field 'label'")
    return row["label"]


def _text(row: Mapping[str, Any], field: str) -> str:
    value = row[field]
    if not isinstance(value, str):
        raise _Wrong(f"field {field!r} must be a string, got {type(value).__name__}")
    if not value.strip():
        raise _Wrong(f"field {field!r} is empty")
    return value


def _name(row: Mapping[str, Any], field: str) -> str | None:
    """Return the source's id or group, or None where it gives none."""
    value = row.get(field)
    if value is None or value == "":
        return None
    return str(value) if type(value) is int else _text(row, field)


def _plain(value: Any) -> Any:
    """Return the value in a form that JSON can hold, for the operator's record of columns."""
    if value is None or isinstance(value, bool | int):
        return value
    return value[:MAX_COLUMN] if isinstance(value, str) else str(value)[:MAX_COLUMN]


def _refuse_mixed(rows: dict[str, list[_Row]], faults: Faults) -> None:
    """Add a fault for each row that is not of the first row's kind."""
    every = [row for some in rows.values() for row in some]
    for row in every:
        if len(row.texts.answers) != len(every[0].texts.answers):
            kinds: list[TaskKind] = ["verification", "preference"]
            this, first = (kinds[len(r.texts.answers) - 1] for r in (row, every[0]))
            faults.add(
                row.file, row.place, f"a {this} row in a {first} task; all rows must be of one kind"
            )


def _refuse_double_ids(rows: dict[str, list[_Row]], faults: Faults) -> None:
    seen: dict[str, _Row] = {}
    for row in (row for some in rows.values() for row in some):
        if name := row.columns.get("id"):
            first = seen.setdefault(name, row)
            if (first.file, first.place) != (row.file, row.place):
                faults.add(
                    row.file, row.place, f"duplicate id {shown(name)}, first in {first.where}"
                )


def _one_file_each(rows: dict[str, list[_Row]], options: FolderOptions) -> dict[str, list[_Row]]:
    """Return rows with each problem in one file only, grouped like their problem's first row.

    With `repeated="refuse"`, raises BadInput for problems in two files. Otherwise they are dropped
    from the earlier of train_label, train_unlabel, train_hidden, test.
    """
    every = [row for some in rows.values() for row in some]
    stems = [stem for stem, some in rows.items() for _ in some]
    instruction = shared_instruction([row.texts.prompt for row in every])
    keys = [question_key(row.texts.prompt, row.texts.answers, instruction) for row in every]
    firsts = linked([_keys(row, key) for row, key in zip(every, keys, strict=True)])
    last = dict(zip(firsts, stems, strict=True))
    kept: dict[str, list[_Row]] = {stem: [] for stem in rows}
    faults, dropped = Faults(), dict.fromkeys(rows, 0)
    for row, stem, first, key in zip(every, stems, firsts, keys, strict=True):
        if last[first] != stem:
            dropped[stem] += 1
        else:
            problem = f"p-{sha256_hex(keys[first])[:16]}"
            group = every[first].group or problem
            kept[stem].append(row._replace(group=group, problem=problem))
        if stem != stems[first] and options.repeated == "refuse":
            other = every[first]
            if key == keys[first]:
                what = f"question {shown(other.texts.prompt)}"
            elif row.group is not None and row.group == other.group:
                what = f"group {shown(row.group)}"
            else:  # through a third row
                what = f"problem of {shown(row.texts.prompt)}"
            faults.add(
                row.file,
                row.place,
                f"the {what} is in two splits: {other.file.name} ({other.place}) and "
                f"{row.file.name}",
            )
    if len(faults):
        faults.hint = (
            "Take them out of one file, or import with --repeated-questions drop, which drops "
            "them from train_label before train_unlabel before train_hidden before test."
        )
        faults.refuse()
    if instruction is not None:
        options.tell(
            f"most rows have one prompt, {shown(instruction)}: rows are distinguished by their "
            "answers"
        )
    if any(dropped.values()):
        gone = ", ".join(f"{n:,} of {stem}" for stem, n in dropped.items() if n)
        options.tell(f"dropped rows whose question is in a later file too: {gone}")
    return kept


def _keys(row: _Row, question: str) -> list[tuple[str, str]]:
    """Return the keys of a row. Rows that share a key belong to one problem."""
    return [("question", question)] + ([("group", row.group)] if row.group else [])


def _note_columns(rows: dict[str, list[_Row]], options: FolderOptions) -> None:
    extra = sorted(
        {key for some in rows.values() for row in some for key in row.columns} - {"id", "group"}
    )
    if extra:
        options.tell(f"kept for the operator only (vault, data card): {', '.join(extra)}")


def _examples(rows: list[_Row]) -> tuple[tuple[Example, ...], NDArray[np.int8]]:
    """Return examples with ids and groups derived from texts alone, and their targets (N,)."""
    seen, examples = dict[str, int](), list[Example]()
    for row in rows:
        digest = content_hash(row.texts[:2])[:16]
        seen[digest] = seen.get(digest, 0) + 1
        again = f"-{seen[digest]}" if seen[digest] > 1 else ""
        texts = (row.texts.prompt, row.texts.answers)
        examples.append(Example(f"r-{digest}{again}", row.problem, *texts))
    return tuple(examples), np.array([row.texts.target for row in rows], dtype=np.int8)


def _note_contradictions(made: dict[str, LabelledSplit], options: FolderOptions) -> None:
    labels: dict[str, set[int]] = {}
    rows = [pair for s in made.values() for pair in zip(s.examples, s.targets_N, strict=True)]
    for example, target in rows:
        labels.setdefault(example.id[:18], set()).add(int(target))
    if both := sum(len(found) > 1 for found in labels.values()):
        options.tell(f"{both:,} rows occur with both labels; they are kept")
