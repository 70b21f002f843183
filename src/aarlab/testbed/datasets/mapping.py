"""Data sets of the Hugging Face hub, or local files of the same shape, into a study-format folder.

A mapping is declared data (mappings.yaml): where the rows come from and, as templates over their
fields, what becomes question, right and wrong answers, or prompt and the better and worse answer.
Every source row is a problem of its own; problems are dealt to train_label, train_unlabel and test.
"""

import csv
import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.files import write_atomic
from aarlab.testbed.options import explain

SHARES = {"train_label": 0.3, "train_unlabel": 0.4, "test": 0.3}
NUMBER = re.compile(r"\d[\d,]*(?!.*\d)", re.DOTALL)
Row = dict[str, Any]


class MappingSpec(BaseModel):
    """One data set. Either `right` (with `wrong`), or `options` with `truth`, or `better` with
    `worse`, or `scored`; `checked` says how the field names were looked up."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    repo: str
    revision: str | None = None
    config: str | None = None
    splits: tuple[str, ...] = ("train",)
    licence: str
    checked: str
    prompt: str = ""
    right: str | None = None
    wrong: tuple[str, ...] = ()
    perturb_last_number: bool = False
    options: dict[str, str] | None = None
    truth: str | None = None
    better: str | None = None
    worse: str | None = None
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
    """Two answers and a signed field: below 0 the first is better, above 0 the second, 0 is left
    out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    first: str
    second: str
    field: str = Field(description="e.g. overall_preference")


MappingSpec.model_rebuild()


def shipped_mappings() -> dict[str, MappingSpec]:
    """The mappings of this package by name."""
    text = files("aarlab.testbed.datasets").joinpath("mappings.yaml").read_text("utf-8")
    return _parsed(text, "mappings.yaml")


def load_mapping(name: str) -> tuple[str, MappingSpec]:
    """A shipped mapping by name, or the only one of a YAML file."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise NotFound(f"no mapping file {path}")
        found = _parsed(path.read_text(encoding="utf-8"), str(path))
        if len(found) != 1:
            raise BadInput(f"{path}: expected one mapping, found {len(found)}")
        return next(iter(found.items()))
    known = shipped_mappings()
    if name not in known:
        raise NotFound(f"no mapping {name!r}; there are {', '.join(known)}, or give a .yaml file")
    return name, known[name]


def _parsed(text: str, where: str) -> dict[str, MappingSpec]:
    try:
        raw = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{where}: not YAML ({error})") from error
    if not isinstance(raw, dict):
        raise BadInput(f"{where}: expected name: mapping")
    found = {}
    for name, value in raw.items():
        try:
            found[str(name)] = MappingSpec.model_validate(value)
        except ValidationError as error:
            raise BadInput(explain(f"{where}: {name}", error)) from error
    return found


def hub_rows(spec: MappingSpec) -> Iterator[Row]:
    """Rows from the hub (or its local cache), at the pinned revision; needs the extra `hub`."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise NotFound("reading the hub needs datasets: pip install 'aarlab[hub]'") from error
    for split in spec.splits:
        try:
            found = load_dataset(spec.repo, spec.config, split=split, revision=spec.revision)
        except (OSError, ValueError, ConnectionError) as error:
            raise NotFound(f"cannot read {spec.repo}, split {split}: {error}") from error
        yield from found


def file_rows(path: Path) -> Iterator[Row]:
    """Rows of a .jsonl, .csv or .parquet file (parquet needs the extra `hub`)."""
    if not path.is_file():
        raise NotFound(f"no file {path}")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise NotFound("parquet needs pyarrow: pip install 'aarlab[hub]'") from error
        yield from parquet.read_table(path).to_pylist()
    elif path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)
    elif path.suffix in (".jsonl", ".json"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if line.strip():
                yield _json_row(line, f"{path}, line {number}")
    else:
        raise BadInput(f"{path}: .jsonl, .csv or .parquet is expected")


def _json_row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise BadInput(f"{where}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise BadInput(f"{where}: expected a JSON object")
    return row


def write_folder(
    name: str, spec: MappingSpec, rows: Iterable[Row], folder: Path, options: tuple[int, int]
) -> dict[str, int]:
    """Write train_label, train_unlabel and test .jsonl; `options` are the most source rows (0:
    all) and the seed. Returns rows per file; nothing is written when a source row does not fit."""
    most, seed = options
    made: dict[str, list[Row]] = {stem: [] for stem in SHARES}
    seen: set[str] = set()
    for number, row in enumerate(islice(rows, most or None)):
        where = f"{name}: source row {number}"
        problem = list(_problem(spec, {k: _readable(v) for k, v in row.items()}, where, seed))
        key = sha256_hex(json.dumps(problem, sort_keys=True))[:16]
        if not problem or key in seen:  # nothing to ask, or said before
            continue
        seen.add(key)
        stem = _dealt(key, seed)
        for place, one in enumerate(problem):
            made[stem].append(
                {**one, "id": f"{name}-{number}-{place}", "group": f"{name}-{number}"}
            )
    empty = [stem for stem, lines in made.items() if not lines]
    if empty:
        raise BadInput(f"{name}: no rows for {', '.join(empty)}; take more source rows")
    folder.mkdir(parents=True, exist_ok=True)
    for stem, lines in made.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_atomic(folder / f"{stem}.jsonl", text)
    return {stem: len(lines) for stem, lines in made.items()}


def _dealt(key: str, seed: int) -> str:
    """The file of a problem: by its content and the seed alone."""
    return random.Random(f"{seed}:{key}").choices(list(SHARES), list(SHARES.values()))[0]


def _problem(spec: MappingSpec, row: Row, where: str, seed: int) -> Iterator[Row]:
    rng = random.Random(f"{seed}:{where}")
    if spec.kind == "verification":
        right, wrong = _answers(spec, row, where)
        wrong = [text for text in wrong if text.strip() and text != right]
        if right.strip() and wrong:
            question = _filled(spec.prompt, row, where)
            yield {"question": question, "choice": right, "label": True}
            yield {"question": question, "choice": rng.choice(wrong), "label": False}
        return
    better, worse = _pair(spec, row, where)
    if better.strip() and worse.strip() and better != worse:
        prompt, better, worse = _prompt_of(spec, row, (better, worse), where)
        first = rng.random() < 0.5
        texts = (better, worse) if first else (worse, better)
        yield {"prompt": prompt, "first": texts[0], "second": texts[1], "label": "AB"[not first]}


def _answers(spec: MappingSpec, row: Row, where: str) -> tuple[str, list[str]]:
    if spec.options is not None:
        truth = _filled(spec.truth or "", row, where)
        if truth not in spec.options:
            raise BadInput(f"{where}: truth {truth!r} is none of {', '.join(spec.options)}")
        texts = {key: _filled(text, row, where) for key, text in spec.options.items()}
        return texts.pop(truth), list(texts.values())
    right = _filled(spec.right or "", row, where)
    if spec.perturb_last_number:
        return right, _perturbed(right)
    return right, [_filled(text, row, where) for text in spec.wrong]


def _perturbed(text: str) -> list[str]:
    """The text with its last number changed a little: a wrong final answer."""
    found = NUMBER.search(text)
    if found is None:
        return []
    value = int(found.group().replace(",", ""))
    changed = {value + step for step in (-2, -1, 1, 2, 10)} - {value}
    return [f"{text[: found.start()]}{n}{text[found.end() :]}" for n in sorted(changed) if n >= 0]


def _pair(spec: MappingSpec, row: Row, where: str) -> tuple[str, str]:
    if spec.scored is None:
        return _filled(spec.better or "", row, where), _filled(spec.worse or "", row, where)
    texts = [_filled(text, row, where) for text in (spec.scored.first, spec.scored.second)]
    try:
        score = float(row[spec.scored.field])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{where}: {spec.scored.field} is no number") from error
    if score == 0:
        return "", ""
    return (texts[0], texts[1]) if score < 0 else (texts[1], texts[0])


def _prompt_of(
    spec: MappingSpec, row: Row, pair: tuple[str, str], where: str
) -> tuple[str, str, str]:
    """Prompt, better and worse; a common prefix of two dialogues is the prompt."""
    if not spec.common_prefix:
        return _filled(spec.prompt, row, where), *pair
    at = next(
        (i for i, (a, b) in enumerate(zip(*pair, strict=False)) if a != b), min(map(len, pair))
    )
    turn = pair[0].rfind("\n\nAssistant:", 0, at)
    cut = turn + len("\n\nAssistant:") if turn >= 0 else at
    return pair[0][:cut], pair[0][cut:], pair[1][cut:]


def _filled(template: str, row: Mapping[str, Any], where: str) -> str:
    try:
        return template.format(**row).strip()
    except (KeyError, IndexError) as error:
        raise BadInput(f"{where}: the template {template!r} needs {error}, the row has "
                       f"{', '.join(row)}") from error  # fmt: skip


def _readable(value: Any) -> Any:
    """A list of chat messages as text; everything else as it is."""
    if (
        isinstance(value, Sequence)
        and value
        and isinstance(value[0], dict)
        and "content" in value[0]
    ):
        return "\n\n".join(f"{m.get('role', '')}: {m['content']}".strip(": ") for m in value)
    return value
