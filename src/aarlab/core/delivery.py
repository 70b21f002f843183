"""What a verified run was given, in words: rows with or without texts, and which train rows.

A method verified without texts ("blind") does not hold texts that it could misuse. Three kinds of
methods stand apart, in a separate table, and rank only after a person accepted them
(`core.ranking`): those verified with texts ("open"), those whose snapshot ships more data than
logic needs, and code other than the platform's own that asked for log-likelihoods, which answers
agree, or answers to templates. No basis hides these facts about texts, and a few numbers fitted to
them elsewhere score as a method does (benchmarks/blind.md). What such a method knows cannot be
distinguished from what it learned.
"""

from collections.abc import Iterable, Mapping

from aarlab.core.showing import one_line
from aarlab.core.wire import Ablation, Delivery, Evidence, Verification

BEFORE_BLIND = "verified with texts, before blind verification"
TRAINED_ON: dict[Ablation, str] = {
    "none": "the teacher's labels",
    "permuted": "permuted labels",
    "noise": "random labels",
    "flipped": "flipped labels",
}
"""What a run was trained on. "none" is the run that counts, the others are ablations."""

GIVEN: dict[Delivery, str] = {"blind": "rows without texts", "open": "rows with their texts"}
APART_IN_WORDS = (
    "These methods were verified on rows with their texts, ship more data than logic needs, or "
    "asked for log-likelihoods, which answers agree or answers to templates in code of their own. "
    "What such a method knows cannot be separated from what it learned, so it ranks only after a "
    "person has accepted it."
)
TRAIN_ROWS_PUBLIC = "train rows public"
EQUALITY_ASKED = "answer equality asked"
TEMPLATES_ASKED = "templates asked"
STAMPS_IN_WORDS = {
    TRAIN_ROWS_PUBLIC: "it was trained on rows that AARs see, so labels of them may have been "
    "shipped with the code",
    EQUALITY_ASKED: "it was given which answers of a problem agree, as majority voting needs",
    TEMPLATES_ASKED: "it asked the strong model about rows, by templates that its record shows",
}


def event_words(facts: Mapping[str, object]) -> str:
    """Return the facts of an event as one line: what a run is trained on instead of "none"."""
    labels: dict[str, str] = {name: f"on {labels}" for name, labels in TRAINED_ON.items()}
    said = (
        labels.get(str(fact), fact) if name == "ablation" else fact for name, fact in facts.items()
    )
    return " ".join(str(fact) for fact in said if fact)


def has_blind(verifications: Iterable[Verification], task: str) -> bool:
    """Return whether anything was verified without texts on a task."""
    return any(v.task == task and v.delivery == "blind" for v in verifications)


def why_open(run: Verification) -> str:
    """Return why a run was given texts, as one safe line; empty for a blind one."""
    if run.delivery == "blind":
        return ""
    return one_line(run.open_because) or BEFORE_BLIND


def why_apart(run: Verification, some_blind: bool) -> str:
    """Return why a run's method ranks only once a person accepted it, as one safe line.

    The line is empty without a reason. `some_blind` says that on its task something was
    verified without texts (`has_blind`); if nothing was, texts set no method apart.
    """
    shipped = f"ships data: {one_line(run.ships)}" if run.ships else ""
    asked = f"its own code asked for {run.asked}" if run.asked else ""
    return "; ".join(filter(None, (why_open(run) if some_blind else "", shipped, asked)))


def stamps(run: Verification) -> tuple[str, ...]:
    """Return what a reader must know in addition to the figure of a run.

    A run from before blind verification gets none: it is marked as such as a whole.
    """
    if why_open(run) == BEFORE_BLIND:
        return ()
    seen = run.evidence
    found = (
        (TRAIN_ROWS_PUBLIC, run.train_rows == "public"),
        (EQUALITY_ASKED, seen is not None and seen.answer_equality),
        (TEMPLATES_ASKED, seen is not None and bool(seen.templates)),
    )
    return tuple(stamp for stamp, is_true in found if is_true)


def given(run: Verification) -> str:
    """Return delivery, reason and stamps of a run as one line for people."""
    why = why_open(run)
    if why == BEFORE_BLIND:
        return BEFORE_BLIND
    train = "hidden train rows" if run.train_rows == "hidden" else TRAIN_ROWS_PUBLIC
    parts = [GIVEN[run.delivery] + (f" ({why})" if why else ""), train]
    return ", ".join([*parts, *(s for s in stamps(run) if s != TRAIN_ROWS_PUBLIC)])


def one_table_note(verifications: Iterable[Verification], task: str) -> str:
    """Say that all methods of a task were verified with texts; empty if some were blind.

    Such a task has one table. The reasons are named where they are known.
    """
    runs = [v for v in verifications if v.task == task and v.estimate is not None]
    if not runs or has_blind(runs, task):
        return ""
    reasons = dict.fromkeys(one_line(v.open_because) for v in runs if v.open_because)
    if not reasons:
        return f"These methods were {BEFORE_BLIND}."
    return f"All these methods were verified with texts: {'; '.join(reasons)}."


def asked(seen: Evidence | None) -> list[str]:
    """Return what a run asked the strong model about rows, as one safe line each."""
    return [] if seen is None else [f"asked: {one_line(text)}" for text in seen.templates]


def probes(seen: Evidence | None, other: str = "teachers") -> str:
    """Return what the probes of a run showed, as one line; empty without any.

    Two runs have `other` teachers, or other seeds where the problem has no teacher.
    """
    if seen is None:
        return ""
    parts = [f"{share:.1%} when rows came {name}" for name, share in seen.changed.items()]
    if seen.style is not None:
        parts.append(f"{seen.style.flipped:.0%} in another style")
    if seen.disagreement is not None:
        parts.append(f"{seen.disagreement:.1%} between two runs with other {other}")
    return f"answers changed: {', '.join(parts)}" if parts else ""
