"""A task's data card, for its operator: sizes, balance, lengths, shortcuts.

It does not give the label of any row.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.methods.guards import MajorityAnswer
from aarlab.testbed.tasks.data import TaskData

CUES, CUE_ROWS = 8, 20
MAX_VALUES = 40
UNCOUNTED = frozenset({"id", "group", "file", "place"})
WORD = re.compile(r"[A-Za-z']+")


def data_card(data: TaskData) -> str:
    """Return the data card as Markdown.

    It is written into the vault, because balances and cues are facts about hidden labels.
    """
    facts = [
        f"# Data card: {data.name}\n\n{data.title}. {data.description}\n",
        f"Kind: {data.kind}. Source: {data.settings.get('source', 'unknown')}.\n",
        "| split | rows | problems | label 1 | words of an answer, median (label 1 / 0) |\n"
        "|---|---|---|---|---|",
    ]
    facts += [_line(data, split) for split in data.names]
    facts.append(f"\n{_train_rows(data)}")
    examples = [e for split in data.names for e in data.splits[split].examples]
    targets_N = np.concatenate([data.splits[split].targets_N for split in data.names])
    facts.append("\n## Known shortcuts (all splits)\n")
    facts.append(f"- The longer answer is right: {_longer(examples, targets_N):.3f}.")
    facts.append(f"- The answer most frequent in its problem: {_majority(data):.3f} of search.")
    facts.append(f"- Words that tell most: {', '.join(_cues(examples, targets_N)) or 'none'}.")
    near = data.settings.get("near_duplicates", "not looked for (made by program)")
    facts.append(f"\n## Settings\n\nNear-duplicates: {near}.")
    facts += _columns(data)
    facts.append(f"\nSelection rows in another style: {len(data.twins.rows)}, {data.twins.how}.")
    return "\n".join(facts) + "\n"


def _train_rows(data: TaskData) -> str:
    """Return a sentence on which rows verified runs train."""
    if "train_hidden" not in data.splits:
        return "Train rows public: verified runs train on rows that AARs see."
    n_rows = len(data.splits["train_hidden"].examples)
    return f"Verified runs train on {n_rows} hidden train rows, which no AAR sees."


def _columns(data: TaskData) -> list[str]:
    """Return tables of rows and class balance by value, for source columns with few values."""
    target_of = {
        example.id: int(target)
        for split in data.splits.values()
        for example, target in zip(split.examples, split.targets_N, strict=True)
    }
    found: dict[str, dict[str, list[int]]] = {}
    for row, values in data.columns.items():
        for column, value in values.items():
            if row in target_of and column not in UNCOUNTED:
                shown = " ".join(str(value).split()).replace("|", "/")[:60]
                found.setdefault(column, {}).setdefault(shown, []).append(target_of[row])
    lines = list[str]()
    for column, by_value in found.items():
        if 2 <= len(by_value) <= MAX_VALUES:
            lines += [f"\nColumn `{column}`:\n", "| value | rows | label 1 |", "|---|---|---|"]
            lines += [
                f"| {value} | {len(targets)} | {np.mean(targets):.3f} |"
                for value, targets in sorted(by_value.items())
            ]
    return lines


def _line(data: TaskData, split: str) -> str:
    rows = data.splits[split]  # type: ignore[index]
    ones, zeros = _lengths(rows.examples, rows.targets_N)
    groups = len({example.group for example in rows.examples})
    return (
        f"| {split} | {len(rows.examples)} | {groups} | {rows.targets_N.mean():.3f} | "
        f"{np.median(ones):.0f} / {np.median(zeros):.0f} |"
    )


def _sides(examples: Sequence[Example], targets_N: NDArray[np.int8]) -> tuple[list[str], list[str]]:
    """Return the texts of right answers and of wrong answers."""
    right, wrong = list[str](), list[str]()
    for example, target in zip(examples, targets_N, strict=True):
        for place, answer in enumerate(example.answers):
            (right if bool(target) == (place == 0) else wrong).append(answer)
    return right, wrong


def _lengths(
    examples: Sequence[Example], targets_N: NDArray[np.int8]
) -> tuple[list[int], list[int]]:
    right, wrong = _sides(examples, targets_N)
    return [len(text.split()) for text in right], [len(text.split()) for text in wrong]


def _longer(examples: Sequence[Example], targets_N: NDArray[np.int8]) -> float:
    """Return the accuracy of "longer is right": within a pair, or above the median length."""
    if len(examples[0].answers) == 2:
        longer = [len(e.answers[0]) > len(e.answers[1]) for e in examples]
    else:
        lengths = [len(e.answers[0]) for e in examples]
        longer = [length > float(np.median(lengths)) for length in lengths]
    return float((np.array(longer) == targets_N.astype(bool)).mean())


def _majority(data: TaskData) -> float:
    search = data.splits["search"]
    probs_N = MajorityAnswer().predict_proba(search.examples)
    return float(((probs_N > 0.5) == search.targets_N.astype(bool)).mean())


def _cues(examples: Sequence[Example], targets_N: NDArray[np.int8]) -> list[str]:
    """Return the words with the largest smoothed log-odds between right and wrong answers."""
    right, wrong = _sides(examples, targets_N)
    one, zero = (
        Counter(w for t in texts for w in set(WORD.findall(t.lower()))) for texts in (right, wrong)
    )
    odds = {
        word: math.log((one[word] + 1) / (len(right) + 2) * (len(wrong) + 2) / (zero[word] + 1))
        for word in one | zero
        if one[word] + zero[word] >= CUE_ROWS
    }
    most = sorted(odds, key=lambda word: -abs(odds[word]))[:CUES]
    return [f"{word} ({odds[word]:+.2f})" for word in most]
