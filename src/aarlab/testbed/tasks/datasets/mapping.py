"""Write a study-format folder from Hugging Face data sets, or local files of the same shape.

A mapping is declared data (mappings.yaml). It says where the rows come from. Its templates over
their fields say what becomes question, right and wrong answers, or prompt and the better and worse
answer. Source rows with the same question, or of one declared group, are one problem. Whole
problems are assigned to train_label, train_unlabel and test.

A template over a row may hold `{field}`, `{field.inner}`, `{field[0]}`, `{{` and `}}`.

Covered: numbers are checked before they are compared. A question is in one file only. All faults
are reported, and nothing is written if there are any. The new folder is complete under its name, or
absent. A template reaches only keys of objects and items of lists, never an attribute. Format codes
and conversions are refused, and so is a value that is not a single text or number.
"""

import json
import math
import os
import random
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator
from pydantic import Field as pydantic_Field

from aarlab.core.errors import BadInput, Conflict, NotFound
from aarlab.core.files import write_atomic
from aarlab.core.foreign import is_number, shown
from aarlab.core.foreign_yaml import read_yaml
from aarlab.core.hashing import content_hash, sha256_hex
from aarlab.core.options import explain
from aarlab.core.rows import Faults, ForeignRow, read_rows
from aarlab.testbed.tasks.data import linked, question_key, shared_instruction
from aarlab.testbed.tasks.datasets.named import shipped_sets


def refuse_full(folder: Path) -> None:
    """Raise Conflict unless the folder is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} exists; choose another --out, or remove it first")


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows as JSON lines; characters beyond ASCII are kept."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_whole(folder: Path, contents: Mapping[str, bytes | str]) -> None:
    """Write all files, by name, to a temporary folder, then rename it.

    Raises Conflict unless the folder is new or empty. Whatever fails, no part of it stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, content in contents.items():
            write_atomic(scratch / name, content)
        scratch.chmod(0o755)
        refuse_full(folder)
        os.replace(scratch, folder)  # replaces an empty folder
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[^{}]+|[{}]")
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d{1,6})\]")


class Field(NamedTuple):
    """A field of a row: its name as written, and the keys and positions that lead to it."""

    name: str
    steps: tuple[str | int, ...]


@lru_cache(maxsize=256)
def parse_template(text: str) -> tuple[str | Field, ...]:
    """Return the literal pieces and fields. Raises ValueError for anything else in braces."""
    pieces: list[str | Field] = []
    for match in _PIECE.finditer(text):
        piece = match.group()
        if match.group(1) is not None:
            pieces.append(parse_field(match.group(1)))
        elif piece in ("{", "}"):
            raise ValueError(f"{shown(text)}: a single {piece!r}; write {piece * 2} for the sign")
        else:
            pieces.append(piece[0] if piece in ("{{", "}}") else piece)
    return tuple(pieces)


@lru_cache(maxsize=256)
def parse_field(name: str) -> Field:
    """Return the steps of a field such as `a.b[0]`.

    Raises ValueError for an empty name, format codes or conversions.
    """
    steps, at = list[str | int](), 0
    while at < len(name):
        match = _STEP.match(name, at)
        if match is None or (at == 0 and name[0] in ".["):
            break
        steps.append(match[1] if match[1] is not None else int(match[2]))
        at = match.end()
    if not steps or at < len(name) or "!" in name or ":" in name:
        raise ValueError(
            f"{{{name}}}: expected a field such as {{name}}, {{name.inner}}, {{name[0]}}"
        )
    return Field(name, tuple(steps))


def fill(template: str, row: Mapping[str, Any]) -> str:
    """Return the template filled from the row, stripped. A null counts as an empty text.

    Raises BadInput naming the field and what the row has.
    """
    parts = [
        piece if isinstance(piece, str) else _as_text(piece, value_at(piece, row))
        for piece in parse_template(template)
    ]
    return "".join(parts).strip()


def value_at(field: Field, row: Mapping[str, Any]) -> Any:
    """Return the value of a field. A column with the field's full name takes precedence.

    Raises BadInput naming the field and what the row has.
    """
    if field.name in row:
        return row[field.name]
    value: Any = row
    for step in field.steps:
        has_key = isinstance(value, Mapping) and isinstance(step, str) and step in value
        has_item = isinstance(value, list | tuple) and isinstance(step, int) and step < len(value)
        if has_key or has_item:
            value = value[step]
        else:
            there = (
                ", ".join(map(str, value)) if isinstance(value, Mapping) else type(value).__name__
            )
            raise BadInput(
                f"the mapping's field {{{field.name}}} is not there: no {step!r} in "
                f"{there[:200] or 'an empty object'}"
            )
    return value


def _as_text(field: Field, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    what = "not a finite number" if isinstance(value, float) else f"a {type(value).__name__}"
    inner = " (name an item, e.g. {" + field.name + "[0]})" if isinstance(value, list) else ""
    raise BadInput(f"the mapping's field {{{field.name}}} is {what}, not a text{inner}")


SHARES = {"train_label": 0.3, "train_unlabel": 0.4, "test": 0.3}
NUMBER = re.compile(r"\d[\d,]*(?!.*\d)", re.DOTALL)
MAX_DIGITS = 18
DECIMAL = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,3})?", re.ASCII)
Row = dict[str, Any]


def _template(text: str) -> str:
    parse_template(text)
    return text


def _field_name(text: str) -> str:
    parse_field(text)
    return text


Template = Annotated[str, AfterValidator(_template)]


class MappingSpec(BaseModel):
    """One data set.

    It has `right` (with `wrong`), or `options` with `truth`, or `better` with `worse`, or `scored`.
    `checked` says how the field names were looked up.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    repo: str
    revision: str | None = None
    config: str | None = None
    splits: tuple[str, ...] = ("train",)
    licence: str
    checked: str
    prompt: Template = ""
    group: Template | None = None
    right: Template | None = None
    wrong: tuple[Template, ...] = ()
    perturb_last_number: bool = False
    options: dict[str, Template] | None = None
    truth: Template | None = None
    better: Template | None = None
    worse: Template | None = None
    scored: "Scored | None" = None
    common_prefix: bool = False

    @property
    def kind(self) -> Literal["preference", "verification"]:
        return "preference" if self.better or self.scored else "verification"

    @model_validator(mode="after")
    def _one_form(self) -> "MappingSpec":
        forms = [self.right, self.options, self.better, self.scored]
        if sum(form is not None for form in forms) != 1:
            raise ValueError("give exactly one of right, options, better, scored")
        if self.right and not (self.wrong or self.perturb_last_number):
            raise ValueError("right needs wrong answers or perturb_last_number")
        if (self.options and self.truth is None) or (self.better and self.worse is None):
            raise ValueError("options need truth, better needs worse")
        return self


class Scored(BaseModel):
    """Two answers and a signed field.

    Below 0 the first answer is better, above 0 the second. 0 is left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    first: Template
    second: Template
    field: Annotated[
        str, AfterValidator(_field_name), pydantic_Field(description="overall_preference")
    ]


MappingSpec.model_rebuild()


def shipped_mappings() -> dict[str, MappingSpec]:
    """Return the mappings of this package by name."""
    text = files("aarlab.testbed.tasks.datasets").joinpath("mappings.yaml").read_text("utf-8")
    return _parsed(text.encode(), "mappings.yaml")


def load_mapping(name: str) -> tuple[str, MappingSpec]:
    """Return a shipped mapping by name, or the only one of a YAML file."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise NotFound(f"no mapping file {path}")
        found = _parsed(path.read_bytes(), str(path))
        if len(found) != 1:
            raise BadInput(f"{path}: expected one mapping, found {len(found)}")
        return next(iter(found.items()))
    known = shipped_mappings()
    if name not in known:
        names = [*known, *shipped_sets()]
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise NotFound(
            f"no mapping {name!r}{hint}; there are {', '.join(names)}, or give a .yaml file"
        )
    return name, known[name]


def _parsed(text: bytes, where: str) -> dict[str, MappingSpec]:
    raw = read_yaml(text, where)
    if not isinstance(raw, dict):
        raise BadInput(f"{where}: expected name: mapping")
    found = {}
    for name, value in raw.items():
        try:
            found[str(name)] = MappingSpec.model_validate(value)
        except ValidationError as error:
            raise BadInput(explain(f"{where}: {name}", error)) from error
    return found


def hub_rows(spec: MappingSpec) -> Iterator[ForeignRow]:
    """Return rows from the hub or its cache, at the pinned revision; needs the extra `hub`."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise NotFound("reading the hub needs datasets: pip install 'aarlab[hub]'") from error
    for split in spec.splits:
        try:
            found = load_dataset(spec.repo, spec.config, split=split, revision=spec.revision)
        except (OSError, ValueError, ConnectionError) as error:
            raise NotFound(f"cannot read {spec.repo}, split {split}: {error}") from error
        for number, row in enumerate(found, start=1):
            yield ForeignRow(f"split {split}, row {number}", row)


@dataclass(frozen=True, slots=True)
class FetchOptions:
    """Options for reading a source: the most rows to read (0: all), the seed, and `skip_bad`.

    `seed` is for assigning problems to files and choosing answers. `skip_bad` leaves out rows that
    do not fit the mapping instead of refusing them.
    """

    most: int = 0
    seed: int = 0
    skip_bad: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """Counts of a written folder: rows per file, and source rows left out by reason."""

    rows: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Source(NamedTuple):
    """Rows and where they come from. Reading the rows adds faults to `faults`."""

    where: str
    rows: Iterable[ForeignRow]
    faults: Faults


class _Problem(NamedTuple):
    """A source row as prompt, right or better text (`good`), and wrong or worse text (`bad`)."""

    number: int
    prompt: str
    good: str
    bad: str
    group: str


def file_source(path: Path) -> Source:
    """Return the source for a local file in any format of `core/rows.py`."""
    faults = Faults()
    return Source(str(path), read_rows(path, faults), faults)


def hub_source(spec: MappingSpec) -> Source:
    return Source(spec.repo, hub_rows(spec), Faults())


def write_folder(
    name: str, spec: MappingSpec, source: Source, folder: Path, options: FetchOptions
) -> Written:
    """Write train_label, train_unlabel and test .jsonl into a new folder.

    Raises BadInput with all faults of the source, or Conflict where the folder is not empty.
    Nothing is written in either case.
    """
    refuse_full(folder)
    problems, left_out = _problems(name, spec, source, options)
    if not options.skip_bad or not problems:
        source.faults.refuse()
    elif len(source.faults):
        left_out["does not fit"] = len(source.faults)
    instruction = shared_instruction([one.prompt for one in problems])
    asked = [question_key(one.prompt, (one.good, one.bad), instruction) for one in problems]
    firsts = linked(
        [
            [("question", key)] + ([("group", one.group)] if one.group else [])
            for one, key in zip(problems, asked, strict=True)
        ]
    )
    made: dict[str, list[Row]] = {stem: [] for stem in SHARES}
    for problem, first in zip(problems, firsts, strict=True):
        rows = _rows_of(spec, problem, options.seed)
        group = f"{name}-{problems[first].number}"
        made[_dealt(sha256_hex(asked[first])[:16], options.seed)] += [
            {**row, "id": f"{name}-{problem.number}-{place}", "group": group}
            for place, row in enumerate(rows)
        ]
    empty = [stem for stem, lines in made.items() if not lines]
    if empty:
        raise BadInput(
            f"{source.where}: no rows for {', '.join(empty)}: {len(problems)} source rows with "
            f"{len(set(firsts))} different questions can be used; take more source rows"
        )
    write_whole(folder, {f"{stem}.jsonl": json_lines(rows) for stem, rows in made.items()})
    notes = []
    if instruction is not None:
        notes.append(
            f"most rows have one prompt, {shown(instruction)}: rows are distinguished by their "
            "answers"
        )
    rows_of = {stem: len(lines) for stem, lines in made.items()}
    return Written(rows_of, {k: n for k, n in left_out.items() if n}, tuple(notes))


def _problems(
    name: str, spec: MappingSpec, source: Source, options: FetchOptions
) -> tuple[list[_Problem], Counter[str]]:
    """Return problems in source order, and the number of rows without a problem by reason."""
    found, left_out = list[_Problem](), Counter[str]()
    seen = dict[str, str]()
    for number, (place, row) in enumerate(islice(source.rows, options.most or None)):
        try:
            made = _problem(spec, {k: _readable(v) for k, v in row.items()}, options.seed)
        except BadInput as error:
            source.faults.add(source.where, place, str(error))
            continue
        if isinstance(made, str):
            left_out[made] += 1
            continue
        prompt, good, bad, group = made
        if spec.kind == "preference" and good == bad:
            left_out["both answers are the same"] += 1
            continue
        pair = content_hash([prompt, *sorted((good, bad))])
        if pair in seen:
            left_out["repeats" if seen[pair] == good else "contradicts an earlier row"] += 1
            continue
        seen[pair] = good
        found.append(_Problem(number, prompt, good, bad, group))
    return found, left_out


def _dealt(key: str, seed: int) -> str:
    """Return the file of a problem, which depends only on its content and the seed."""
    return random.Random(f"{seed}:{key}").choices(list(SHARES), list(SHARES.values()))[0]


def _problem(spec: MappingSpec, row: Row, seed: int) -> tuple[str, str, str, str] | str:
    """Return prompt, right or better text, wrong or worse text and group of a row.

    Returns the reason instead if the row gives no problem.
    """
    group = fill(spec.group, row) if spec.group else ""
    if spec.kind == "verification":
        prompt = fill(spec.prompt, row)
        right, wrong = _answers(spec, row)
        wrong = [text for text in wrong if text and text != right]
        if not right or not wrong:
            return "no right or no wrong answer"
        chosen = random.Random(f"{seed}:{content_hash([prompt, right, *wrong])}").choice(wrong)
        return (prompt, right, chosen, group) if prompt else "an empty prompt"
    pair = _pair(spec, row)
    if pair is None:
        return "a tie"
    if not all(pair):
        return "an empty answer"
    prompt, better, worse = _prompt_of(spec, row, pair)
    if not better.strip() or not worse.strip():
        return "an empty answer"
    return (prompt, better, worse, group) if prompt.strip() else "an empty prompt"


def _rows_of(spec: MappingSpec, problem: _Problem, seed: int) -> list[Row]:
    _, prompt, good, bad, _ = problem
    if spec.kind == "verification":
        return [
            {"question": prompt, "choice": good, "label": True},
            {"question": prompt, "choice": bad, "label": False},
        ]
    pair = sorted((good, bad))  # their order must say nothing about the label
    if random.Random(f"{seed}:{content_hash([prompt, *pair])}").random() < 0.5:
        pair.reverse()
    label = "A" if pair[0] == good else "B"
    return [{"prompt": prompt, "first": pair[0], "second": pair[1], "label": label}]


def _answers(spec: MappingSpec, row: Row) -> tuple[str, list[str]]:
    if spec.options is not None:
        truth = fill(spec.truth or "", row)
        if truth not in spec.options:
            raise BadInput(f"truth {shown(truth)} is none of {', '.join(spec.options)}")
        texts = {key: fill(text, row) for key, text in spec.options.items()}
        return texts.pop(truth), list(texts.values())
    right = fill(spec.right or "", row)
    if spec.perturb_last_number:
        return right, _perturbed(right)
    return right, [fill(text, row) for text in spec.wrong]


def _perturbed(text: str) -> list[str]:
    """Return the text with its last number changed a little, as a wrong final answer."""
    found = NUMBER.search(text)
    if found is None or len(found.group()) > MAX_DIGITS:
        return []
    value = int(found.group().replace(",", ""))
    changed = {value + step for step in (-2, -1, 1, 2, 10)} - {value}
    return [f"{text[: found.start()]}{n}{text[found.end() :]}" for n in sorted(changed) if n >= 0]


def _pair(spec: MappingSpec, row: Row) -> tuple[str, str] | None:
    """Return the better and the worse text, or None for a tie."""
    if spec.scored is None:
        return fill(spec.better or "", row), fill(spec.worse or "", row)
    name = spec.scored.field
    score = value_at(parse_field(name), row)
    if isinstance(score, str) and DECIMAL.fullmatch(score.strip()):
        score = float(score)  # CSV holds numbers as text
    if not is_number(score):
        raise BadInput(f"{name} is {shown(score)}, not a finite number")
    texts = [fill(text, row) for text in (spec.scored.first, spec.scored.second)]
    if score == 0:
        return None
    return (texts[0], texts[1]) if score < 0 else (texts[1], texts[0])


def _prompt_of(spec: MappingSpec, row: Row, pair: tuple[str, str]) -> tuple[str, str, str]:
    """Return prompt, better and worse text; a common prefix of two dialogues is the prompt."""
    if not spec.common_prefix:
        return fill(spec.prompt, row), *pair
    at = next(
        (i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), min(map(len, pair))
    )
    turn = pair[0].rfind("\n\nAssistant:", 0, at)
    cut = turn + len("\n\nAssistant:") if turn >= 0 else at
    return pair[0][:cut], pair[0][cut:], pair[1][cut:]


def _readable(value: Any) -> Any:
    """Return a list of chat messages as text, and any other value unchanged."""
    if not isinstance(value, list | tuple) or not value:
        return value
    if not all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in value):
        return value
    return "\n\n".join(f"{m.get('role') or ''}: {m['content']}".strip(": ") for m in value)
