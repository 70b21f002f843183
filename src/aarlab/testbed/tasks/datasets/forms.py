"""Rules that turn a named set's source files into the rows of a task folder.

Each form reads its files into statements or pairs. It leaves out what does not fit and counts it.
It finds groups of near-duplicates, and assigns whole groups to the files of the folder. Equal
source files and an equal seed give equal rows. `A` and `B` alternate in an order that differs from
that of the rows. In pairs of statements the length of an answer does not reveal the label. Pairs
that the source made stay as they are.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from aarlab.core.errors import BadInput
from aarlab.core.foreign import shown
from aarlab.core.hashing import sha256_hex
from aarlab.core.rows import Faults, csv_records, json_rows
from aarlab.testbed.tasks.data import linked, normalised
from aarlab.testbed.tasks.datasets.named import Form, NamedSet, Words, source_name
from aarlab.testbed.tasks.datasets.near_duplicates import clusters

Row = dict[str, Any]
T = TypeVar("T")
LENGTH = 5  # lengths of a matched pair differ by at most a fifth of the shorter one
CHOICES = re.compile(
    r"\A(.*?)\s*(?:Choices:\s*)?\(A\)\s*(.*?)\s*\(B\)\s*(.*?)\s*\Z", re.DOTALL | re.ASCII
)
REMAINS = re.compile(r"\([A-E]\)|Choices|Human:|Assistant:|Question:|Answer:")


class Statement(NamedTuple):
    """A statement, whether a safe AI would make it, and its group of near-duplicates."""

    source: str
    text: str
    safe: bool
    group: int = 0


class Pair(NamedTuple):
    """A prompt, the better and the worse answer. `groups` are those of its texts."""

    source: str
    prompt: str
    better: str
    worse: str
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """The rows of each file of the folder, and the source rows left out, by reason."""

    rows: dict[str, list[Row]]
    left_out: dict[str, int]


def make_rows(name: str, spec: NamedSet, files: Mapping[str, bytes], seed: int) -> Made:
    """Return the rows of a folder from the source files by path.

    Raises BadInput for source rows of another form, naming file, line and reason, and where there
    are too few rows for one of the folder's files.
    """
    left_out = Counter[str]()
    pairs = _PAIRS[spec.form](spec, files, seed, left_out)
    wanted = (spec.pairs or spec.rows).by_file()
    few = [
        f"{len(pairs[stem])} of {n:,} for {stem}"
        for stem, n in wanted.items()
        if len(pairs[stem]) < n
    ]
    if few:
        raise BadInput(f"{name}: the source files give too few pairs: {', '.join(few)}")
    rows = {}
    for stem, n in spec.rows.by_file().items():
        if spec.form == "statements":
            rows[stem] = _single(f"{name}-{stem}", _level(pairs[stem], n // 2, seed), seed)
        else:
            rows[stem] = _lettered(f"{name}-{stem}", pairs[stem], seed)
    return Made(rows, {reason: n for reason, n in left_out.items() if n})


def how_made(spec: NamedSet) -> str:
    """Describe the rules of a set's form, for its DATASET.md."""
    (few, most), near = spec.answer_words, spec.shared_percent
    statements = (
        "A statement is *safe* where the source's `answer_matching_behavior` is No: someone with "
        "the behaviour that the file is named after would not say it. It is unsafe where that is "
        f"Yes. Statements of {few} to {most} words are used, repeats once, and none that has both "
        f"labels. Texts that share {near} % of their word trigrams (Jaccard) or all their content "
        "words are one group. A pair is one safe and one unsafe statement of the same behaviour "
        "and file of this folder. Each statement is used once. Their lengths in characters differ "
        "by at most a fifth, and the safe one is the longer in as many pairs as the unsafe one."
    )
    if spec.form == "statement_pairs":
        return statements
    if spec.form == "statements":
        return f"{statements} The statements of some of these pairs are the rows, one by one."
    if spec.form == "ordered_pairs":
        return (
            "The source lists the more pleasant scenario first. Scenarios have "
            f"{few} to {most} words. Repeats are used once, and no pair that is there in both "
            f"orders. Pairs that share a scenario, or the first {spec.first_words} words of one, "
            f"are one group. Groups of more than {spec.most_in_group} pairs are left out."
        )
    better = ", ".join(spec.matching_is_better) or "none"
    return (
        'The prompt is the question before "Choices:", the answers are (A) and (B) without their '
        f"letters. In {better} the answer that matches the behaviour is the better one, in the "
        f"other files it is the worse one. Questions have {spec.prompt_words[0]} to "
        f"{spec.prompt_words[1]} words, answers at most {most}. Rows with remains of the format in "
        f"a text are left out. Questions that share {near} % of their word trigrams (Jaccard) "
        "are one group."
    )


def longer_is_better(rows: Iterable[Row]) -> float | None:
    """Return the share of pairs whose longer answer, in characters, is the better; ties are half.

    Returns None for rows that are not pairs.
    """
    found = list[float]()
    for row in rows:
        if "first" not in row:
            return None
        more = (len(row["first"]) > len(row["second"])) - (len(row["first"]) < len(row["second"]))
        found.append((1 + (more if row["label"] == "A" else -more)) / 2)
    return sum(found) / len(found) if found else None


def _statement_pairs(
    spec: NamedSet, files: Mapping[str, bytes], seed: int, left_out: Counter[str]
) -> dict[str, list[Pair]]:
    found = list[Statement]()
    for path, place, row, faults in _json_rows(spec, files):
        text, label = row.get("statement"), row.get("answer_matching_behavior")
        if not isinstance(text, str) or not isinstance(label, str):
            faults.add(path, place, "expected the texts statement and answer_matching_behavior")
        elif label.strip() not in ("Yes", "No"):
            faults.add(path, place, f"answer_matching_behavior is {shown(label)}, not Yes or No")
        elif not _fits(text, spec.answer_words):
            left_out["a statement that is too short or too long"] += 1
        else:
            safe = (label.strip() == "Yes") == (source_name(path) in spec.matching_is_better)
            found.append(Statement(source_name(path), _spaced(text), safe))
    found = _once(found, lambda one: normalised(one.text), lambda one: one.safe, left_out)
    groups = clusters([s.text for s in found], spec.shared_percent or 100, content_words=True)
    found = [one._replace(group=group) for one, group in zip(found, groups, strict=True)]
    counts = (spec.pairs or spec.rows).by_file()
    dealt = _dealt(found, groups, lambda one: (one.source, str(one.safe), one.text), counts, seed)
    prompt = spec.prompt or ""
    return {
        stem: _level(_matched(statements, prompt, seed), counts[stem], seed)
        for stem, statements in dealt.items()
    }


def _ordered_pairs(
    spec: NamedSet, files: Mapping[str, bytes], seed: int, left_out: Counter[str]
) -> dict[str, list[Pair]]:
    found, faults = list[Pair](), Faults()
    for path in spec.files:
        for place, cells in csv_records(files[path], path, faults):
            if len(cells) != 2 or not all(cell.strip() for cell in cells):
                faults.add(path, place, "expected two texts, the more pleasant one first")
            elif not all(_fits(cell, spec.answer_words) for cell in cells):
                left_out["a scenario that is too short or too long"] += 1
            else:
                better, worse = map(_spaced, cells)
                found.append(Pair(source_name(path), spec.prompt or "", better, worse))
    faults.refuse()
    found = _distinct(found, left_out)
    groups = linked(
        [
            [key for text in (one.better, one.worse) for key in _scenario_keys(text, spec)]
            for one in found
        ]
    )
    size, most = Counter(groups), spec.most_in_group or len(groups)
    kept = [
        one._replace(groups=(group,))
        for one, group in zip(found, groups, strict=True)
        if size[group] <= most
    ]
    left_out[f"in a group of more than {most} pairs"] += len(found) - len(kept)
    return _dealt_pairs(kept, spec, seed)


def _scenario_keys(text: str, spec: NamedSet) -> list[tuple[str, str]]:
    words = normalised(text).split()
    return [("text", " ".join(words)), ("first words", " ".join(words[: spec.first_words]))]


def _choices(
    spec: NamedSet, files: Mapping[str, bytes], seed: int, left_out: Counter[str]
) -> dict[str, list[Pair]]:
    found = list[Pair]()
    for path, place, row, faults in _json_rows(spec, files):
        question, label = row.get("question"), row.get("answer_matching_behavior")
        if not isinstance(question, str) or not isinstance(label, str):
            faults.add(path, place, "expected the texts question and answer_matching_behavior")
            continue
        if label.strip() not in ("(A)", "(B)"):
            faults.add(path, place, f"answer_matching_behavior is {shown(label)}, not (A) or (B)")
            continue
        parts = CHOICES.match(question)
        prompt, *answers = map(_spaced, parts.groups()) if parts else ("", "", "")
        if parts is None or any(REMAINS.search(text) for text in (prompt, *answers)):
            left_out["no question with the choices (A) and (B)"] += 1
        elif not _fits(prompt, spec.prompt_words):
            left_out["a question that is too short or too long"] += 1
        elif not all(_fits(text, spec.answer_words) for text in answers):
            left_out["an answer that is too short or too long"] += 1
        elif normalised(answers[0]) == normalised(answers[1]):
            left_out["both answers are the same"] += 1
        else:
            better = source_name(path) in spec.matching_is_better
            if (label.strip() == "(A)") != better:
                answers.reverse()
            found.append(Pair(source_name(path), prompt, answers[0], answers[1]))
    found = _distinct(found, left_out)
    groups = clusters([one.prompt for one in found], spec.shared_percent or 100)
    found = [one._replace(groups=(group,)) for one, group in zip(found, groups, strict=True)]
    return _dealt_pairs(found, spec, seed)


PairMaker = Callable[[NamedSet, Mapping[str, bytes], int, Counter[str]], dict[str, list[Pair]]]
_PAIRS: dict[Form, PairMaker] = {
    "statement_pairs": _statement_pairs,
    "statements": _statement_pairs,
    "ordered_pairs": _ordered_pairs,
    "choices": _choices,
}


def _json_rows(
    spec: NamedSet, files: Mapping[str, bytes]
) -> Iterator[tuple[str, str, Row, Faults]]:
    """Yield path, place and row of all files, and where to add faults.

    Faults are raised at the end, all together.
    """
    faults = Faults()
    for path in spec.files:
        for place, row in json_rows(files[path], path, faults):
            yield path, place, row, faults
    faults.refuse()


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _fits(text: str, words: Words) -> bool:
    return words[0] <= len(text.split()) <= words[1]


def _once(
    items: Sequence[T],
    key: Callable[[T], Hashable],
    label: Callable[[T], Hashable],
    left_out: Counter[str],
) -> list[T]:
    """Return the first item of each key, and none of a key with two labels; count the others."""
    labels = defaultdict[Hashable, set[Hashable]](set)
    for one in items:
        labels[key(one)].add(label(one))
    kept, seen = list[T](), set[Hashable]()
    for one in items:
        if len(labels[key(one)]) > 1:
            left_out["there with both labels"] += 1
        elif key(one) in seen:
            left_out["repeats"] += 1
        else:
            seen.add(key(one))
            kept.append(one)
    return kept


def _distinct(pairs: Sequence[Pair], left_out: Counter[str]) -> list[Pair]:
    def key(one: Pair) -> Hashable:
        answers = sorted(map(normalised, (one.better, one.worse)))
        return (normalised(one.prompt), *answers)

    return _once(pairs, key, lambda one: normalised(one.better), left_out)


def _order(seed: int, purpose: str, *texts: str) -> str:
    """Return a sort key that looks random and depends only on the seed, purpose and texts."""
    return sha256_hex("\n".join((str(seed), purpose, *texts)))


def _pair_order(seed: int, purpose: str) -> Callable[[Pair], str]:
    return lambda one: _order(seed, purpose, one.prompt, one.better, one.worse)


def _dealt(
    items: Sequence[T],
    groups_N: Sequence[int],
    described: Callable[[T], tuple[str, ...]],
    shares: Mapping[str, int],
    seed: int,
) -> dict[str, list[T]]:
    """Assign whole groups to files, so that each file has its share of every kind of item.

    The first texts that `described` gives are the kind, the last is the item's own.
    """
    members = defaultdict[int, list[T]](list)
    for one, group in zip(items, groups_N, strict=True):
        members[group].append(one)

    def place(group: int) -> tuple[str, ...]:
        *kind, text = described(members[group][0])
        return (*kind, _order(seed, "deal", text))

    dealt: dict[str, list[T]] = {stem: [] for stem in shares}
    total, done = sum(shares.values()), 0
    for group in sorted(members, key=place):
        done += len(members[group])
        lacking = {stem: n * done / total - len(dealt[stem]) for stem, n in shares.items()}
        dealt[max(lacking, key=lambda stem: lacking[stem])] += members[group]
    return dealt


def _dealt_pairs(pairs: Sequence[Pair], spec: NamedSet, seed: int) -> dict[str, list[Pair]]:
    counts = spec.rows.by_file()
    groups = [one.groups[0] for one in pairs]
    dealt = _dealt(
        pairs, groups, lambda one: (one.source, one.prompt + one.better + one.worse), counts, seed
    )
    order = _pair_order(seed, "choose")
    return {stem: sorted(some, key=order)[: counts[stem]] for stem, some in dealt.items()}


def _matched(statements: Sequence[Statement], prompt: str, seed: int) -> list[Pair]:
    """Pair each safe statement with the unsafe one of its behaviour that is nearest in length."""
    by_length = defaultdict[str, dict[int, list[Statement]]](dict)
    ordered = sorted(statements, key=lambda one: _order(seed, "match", one.text))
    for one in ordered:
        if not one.safe:
            by_length[one.source].setdefault(len(one.text), []).append(one)
    pairs = list[Pair]()
    for number, one in enumerate(one for one in ordered if one.safe):
        unsafe = by_length[one.source]
        for length in _lengths(len(one.text), longer_first=number % 2 == 0):
            if unsafe.get(length):
                other = unsafe[length].pop()
                groups = (one.group, other.group)
                pairs.append(Pair(one.source, prompt, one.text, other.text, groups))
                break
    return pairs


def _lengths(length: int, *, longer_first: bool) -> Iterator[int]:
    """Yield the lengths within a fifth of this one, the nearest first."""
    yield length
    for step in range(1, length // LENGTH + 1):
        for near in (
            (length + step, length - step) if longer_first else (length - step, length + step)
        ):
            if LENGTH * step <= min(near, length):
                yield near


def _level(pairs: Sequence[Pair], n: int, seed: int) -> list[Pair]:
    """Return up to n pairs, balanced by length.

    The better answer is the longer one in as many of them as the worse answer.
    """
    ordered = sorted(pairs, key=_pair_order(seed, "choose"))
    longer = [one for one in ordered if len(one.better) > len(one.worse)]
    shorter = [one for one in ordered if len(one.better) < len(one.worse)]
    units: list[tuple[Pair, ...]] = [(one,) for one in ordered if len(one.better) == len(one.worse)]
    units += zip(longer, shorter, strict=False)
    units.sort(key=lambda unit: _pair_order(seed, "choose")(unit[0]))
    chosen = list[Pair]()
    for unit in units:
        if len(chosen) + len(unit) <= n:
            chosen += unit
    return chosen


def _problems(pairs: Sequence[Pair]) -> list[str]:
    """Return the group of each pair; pairs that share a group of texts get the same one."""
    return [f"g{pairs[first].groups[0]}" for first in linked([one.groups for one in pairs])]


def _lettered(name: str, pairs: Sequence[Pair], seed: int) -> list[Row]:
    """Return preference rows with alternating labels.

    Labels also alternate among the pairs whose better answer is longer. The rows are in another
    order, so a row's place does not reveal its label.
    """
    order = _pair_order(seed, "letter")

    def by_length(pair: Pair) -> tuple[int, str]:
        more, less = len(pair.better), len(pair.worse)
        return (more > less) - (more < less), order(pair)

    rows = list[tuple[str, Row]]()
    grouped = zip(pairs, _problems(pairs), strict=True)
    for number, (one, group) in enumerate(sorted(grouped, key=lambda two: by_length(two[0]))):
        first, second = (one.better, one.worse) if number % 2 == 0 else (one.worse, one.better)
        row = {
            "group": group,
            "source": one.source,
            "prompt": one.prompt,
            "first": first,
            "second": second,
            "label": "AB"[number % 2],
        }
        rows.append((_pair_order(seed, "place")(one), row))
    return _numbered(name, rows)


def _single(name: str, pairs: Sequence[Pair], seed: int) -> list[Row]:
    """Return verification rows: the statements of the pairs, one by one."""
    rows = list[tuple[str, Row]]()
    for one in pairs:
        for text, group, label in zip(
            (one.better, one.worse), one.groups, (True, False), strict=True
        ):
            row = {
                "group": f"g{group}",
                "source": one.source,
                "question": one.prompt,
                "choice": text,
                "label": label,
            }
            rows.append((_order(seed, "place", text), row))
    return _numbered(name, rows)


def _numbered(name: str, rows: list[tuple[str, Row]]) -> list[Row]:
    ordered = sorted(rows, key=lambda placed: placed[0])
    return [{"id": f"{name}-{at:05d}", **row} for at, (_, row) in enumerate(ordered, start=1)]
