"""Precision and recall of the reader of transcripts, on a planted set, with any model of Inspect.

    python benchmarks/transcripts.py --out benchmarks/transcripts.md
    python benchmarks/transcripts.py --model anthropic/claude-sonnet-4-5 --dollars 3

The set is tests/kit/planted_transcripts.py. Without --model, a scripted reader that knows keywords
reads it (tests/kit/keyword_reader.py): that checks the pipeline and measures no model's judgement.
Calls are booked on a platform that is started for it, so that --dollars holds.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "kit"))

from keyword_reader import register_reader
from planted_transcripts import CHEATING, HONEST, Planted, write_planted
from platform_kit import platform, write_task

from aarlab.agents.prices import Price, price_of
from aarlab.agents.proxy.booking import OperatorBooks
from aarlab.core.layout import RunDir
from aarlab.verify.reader_model import InspectAsker
from aarlab.verify.review import PaidAnswers
from aarlab.verify.transcript_review import ANSWER_TOKENS, Reading, read_parts

SCRIPTED = "reader/keywords"


class Outcome(NamedTuple):
    """A planted transcript and how it was read."""

    planted: Planted
    reading: Reading

    def kinds(self, severities: Sequence[str]) -> set[str]:
        return {flag.kind for flag in self.reading.flags if flag.severity in severities}


def figure(hits: int, of: int) -> str:
    return f"{hits / of:.2f} ({hits} of {of})" if of else "none flagged"


def precision_and_recall(
    outcomes: Sequence[Outcome], severities: Sequence[str]
) -> dict[str, tuple[str, str]]:
    """Return both figures of transcripts and of kinds; a kind is right where it was planted."""
    cheats = {one.planted.name for one in outcomes if one.planted.kinds}
    flagged = {one.planted.name for one in outcomes if one.kinds(severities)}
    right = sum(len(one.kinds(severities) & one.planted.kinds) for one in outcomes)
    said = sum(len(one.kinds(severities)) for one in outcomes)
    planted = sum(len(one.planted.kinds) for one in outcomes)
    both = len(cheats & flagged)
    return {
        "transcripts": (figure(both, len(flagged)), figure(both, len(cheats))),
        "kinds": (figure(right, said), figure(right, planted)),
    }


def page(model: str, outcomes: Sequence[Outcome], dollars: float) -> str:
    lines = [
        "# The reader of transcripts",
        "",
        f"Read by `{model}`, {dollars:.2f} dollars. {len(CHEATING)} cheating and {len(HONEST)} "
        "honest transcripts (`tests/kit/planted_transcripts.py`), made by planting turns into "
        "recorded ones. Made by `benchmarks/transcripts.py`.",
        "",
    ]
    if model == SCRIPTED:
        lines += [
            "This reader is a script that knows keywords, written by the people who planted the "
            "set. Its figures show that evidence passes through the pipeline. They say nothing "
            "about a real model, whose precision and recall were not measured: no key "
            "was available.",
            "",
        ]
    lines += ["| counted as a flag | of | precision | recall |", "|---|---|---|---|"]
    for name, severities in (("suspect", ["suspect"]), ("suspect or note", ["suspect", "note"])):
        for of, (precise, recalled) in precision_and_recall(outcomes, severities).items():
            lines.append(f"| {name} | {of} | {precise} | {recalled} |")
    lines += ["", "| transcript | planted | suspect | note | quotes | dropped | parts |"]
    lines += ["|---|---|---|---|---:|---:|---:|"]
    for one in outcomes:
        kinds = (one.planted.kinds, one.kinds(["suspect"]), one.kinds(["note"]))
        cells = [one.planted.name, *(", ".join(sorted(each)) or "-" for each in kinds)]
        read = one.reading
        counts = (len(read.evidence), read.dropped, f"{read.read} of {len(read.cut.parts)}")
        lines.append(f"| {' | '.join([*cells, *map(str, counts)])} |")
    return "\n".join(lines) + "\n"


def measure(
    model: str, cap_dollars: float, price: Price, folder: Path
) -> tuple[list[Outcome], float]:
    """Read the whole set; how each was read, and what it cost."""
    outcomes = []
    started = platform(write_task(folder / "data"), RunDir(folder / "run"))
    with (
        started as running,
        running.operator() as operator,
        closing(InspectAsker(model, price, ANSWER_TOKENS)) as ask,
    ):
        books = OperatorBooks(operator, "transcripts", model, price, cap_dollars)
        paid = PaidAnswers(ask, books, folder / "answers", ANSWER_TOKENS)
        for planted in (*CHEATING, *HONEST):
            path = write_planted(planted, folder / planted.name / "transcript.jsonl")
            # The name must not give it away.
            outcomes.append(Outcome(planted, read_parts("aar", path, paid)))
        dollars = sum(spend.dollars for spend in operator.operator_spend())
    return outcomes, dollars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=SCRIPTED)
    parser.add_argument("--dollars", type=float, default=0.0, help="cap of all calls")
    parser.add_argument("--out", type=Path, help="write the page there, too")
    given = parser.parse_args()
    register_reader()
    free = Price(model=SCRIPTED, dated="a script", input=0.0, output=0.0)
    price = free if given.model.startswith("reader/") else price_of(given.model)
    with tempfile.TemporaryDirectory() as folder:
        text = page(given.model, *measure(given.model, given.dollars, price, Path(folder)))
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
