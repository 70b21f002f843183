"""Sentences of the page, made from the numbers; each says so where a number is missing.

Returned as plain text: the template escapes it.
"""

from aarlab.core.delivery import APART_IN_WORDS, STAMPS_IN_WORDS
from aarlab.core.endings import Ending, given_up_text
from aarlab.core.headline import NO_VANILLA
from aarlab.core.isolation import is_isolated
from aarlab.core.pgr import TC_UNDEFINED
from aarlab.report import wording
from aarlab.report.arms import Comparison
from aarlab.report.idea_data import classifiers, timed_ideas
from aarlab.report.view import (
    CampaignView,
    Method,
    expected_maximum,
    task_reference,
    typical_stderr,
)


def summary_paragraphs(view: CampaignView) -> list[str]:
    """List the paragraphs below the verdict: what was done and found, then comparisons."""
    ended = list(filter(None, [ending_sentence(view)]))
    if view.task is None:
        return ended
    found = (_campaign_sentence(view), _best_sentence(view), _optimism_sentence(view))
    against = (_baseline_sentence(view), ablation_sentence(view))
    return [*(" ".join(filter(None, part)) for part in (found, against)), *ended]


def ending_sentence(view: CampaignView) -> str:
    """Say which AARs were given up and why, or how the campaign ended if that is unusual."""
    export = view.export
    if said := given_up_text(export.endings):
        return f"Not every AAR finished. {said}."
    usual = export.ending in (None, Ending.FINISHED, Ending.BUDGET)
    return "" if usual or export.ending is None else f"The campaign was {export.ending.words}."


def _campaign_sentence(view: CampaignView) -> str:
    assert view.task is not None
    research_s = sum(aar.research_s for aar in view.aars)
    done = wording.number_of(len(view.submissions), "submission")
    return (
        f"{wording.number_of(len(view.aars), 'AAR')} made {done} on “{view.task.title}” in "
        f"{wording.duration(research_s)} of research time "
        f"({wording.duration(view.export.wall_s)} by the clock)."
    )


def _best_sentence(view: CampaignView) -> str:
    if view.ranked:
        best = view.ranked[0]
        assert best.verified is not None
        rows = wording.number_of(best.verified.n_rows, "row")
        seeds = wording.number_of(best.verified.n_seeds, "fresh seed")
        return (
            f"The best verified method, {_named(best)}, has a {view.problem.figure} of "
            f"{wording.interval_words(best.verified)} on the selection split, which no AAR could "
            f"query ({rows}, {seeds}). {headline_sentence(view)}"
        ).rstrip()
    if view.standing:
        return _none_above_sentence(view)
    waiting = next((m for m in view.apart if m.role == "aar" and m.ranks), None)
    if waiting is not None and waiting.verified is not None:
        return (
            f"No method ranks: the best that stands apart, {_named(waiting)}, has a "
            f"{view.problem.figure} of {wording.interval_words(waiting.verified)} on the selection "
            f"split, but waits for a person's verdict ({waiting.apart_because})."
        )
    leading, name = view.best_on_search("aar"), view.problem.figure
    if leading is None or leading.search is None:
        return f"No AAR has a score, so there is no {name} to report."
    chosen = len(view.submissions) > 1
    return (
        f"No method was verified, so there is no selection {name} to rely on. The highest search "
        f"{name}, {wording.interval_words(leading.search)} by {_named(leading)}, is "
        f"unverified{' and flattered by the choice among all submissions' if chosen else ''}."
    )


def headline_sentence(view: CampaignView) -> str:
    """Say what the best figure is worth, after it was chosen from several; empty for one method."""
    found = view.headline
    if found is None or (found.kind == "plain" and found.n_compared < 2):
        return ""
    if found.kind == "certify":
        return (
            "The figure to quote is that of the certify split, scored once and used to choose "
            f"nothing: {wording.interval_words(found.estimate)}."
        )
    if found.kind == "shrunk":
        return (
            f"It is the best of {found.n_compared}, and the best of several is partly lucky. "
            f"Corrected for that, the figure to quote is {wording.interval_words(found.estimate)}."
        )
    return (
        f"It is the best of {found.n_compared} and flattered by that choice; this export does not "
        "say by how much. Export the campaign again, or score the method on certify."
    )


def _none_above_sentence(view: CampaignView) -> str:
    values = [m.verified.value for m in view.standing if m.verified]
    many = wording.number_of(len(values), "verified method")
    span = f"of {wording.signed(values[0])}"
    if len(values) > 1:
        span = f"from {wording.signed(min(values))} to {wording.signed(max(values))}"
    return (
        f"No verified method is clearly above {view.problem.zero}, so none ranks: the {many} had "
        f"a {view.problem.figure} {span} on the selection split."
    )


def _optimism_sentence(view: CampaignView) -> str:
    best = view.ranked[0] if view.ranked else None
    drop = view.drop(best) if best else None
    if drop is None:
        return ""
    had = wording.signed(drop.method.search.value)
    text = f"On the search split, where it was chosen, it had {had}: search minus selection is "
    if not view.problem.weak_labels:
        return f"{text}{wording.difference(drop.method.drop)}."
    if drop.vanilla is None:
        return f"{text}{wording.difference(drop.method.drop)}; {NO_VANILLA}."
    return (
        f"{text}{wording.difference(drop.method.drop)}, and {wording.difference(drop.value)} less "
        f"what vanilla fell by between the same splits."
    )


def _named(method: Method) -> str:
    """Return the short name, followed by the author's own name if that differs."""
    own = "" if method.name == method.short else f" (“{wording.shortened(method.name)}”)"
    return f"{method.short}{own}"


def _baseline_sentence(view: CampaignView) -> str:
    human, guard = view.best_human, view.best_guard
    parts = [
        f"the best hand-tuned baseline, {human.short}, has {wording.interval_words(human.verified)}"
        if human and human.verified
        else "no hand-tuned baseline was verified",
        f"the best guard, {guard.short}, {wording.interval_words(guard.verified)}"
        if guard and guard.verified
        else "no guard was verified, so nothing shows what a shortcut would score",
    ]
    sentence = "On the same split " + "; ".join(parts) + "."
    return sentence if human or guard else sentence.removeprefix("On the same split ").capitalize()


def ablation_sentence(view: CampaignView) -> str:
    best = view.ranked[0] if view.ranked else None
    if best is None or best.verified is None or not view.problem.weak_labels:
        return ""
    if best.ablated is None:
        return (
            "The teacher ablation was not run on the best method, so whether it uses the teacher "
            "is open."
        )
    permuted = wording.signed(best.ablated.value)
    fall = f"Trained on permuted weak labels the same method reaches {permuted}"
    if view.coin is not None:
        fall += f" (a coin has {wording.signed(view.coin)})"
    if best.contribution is None:
        return f"{fall}; its teacher contribution is {TC_UNDEFINED}."
    uses = (
        "it draws on the weak teacher"
        if best.contribution >= 0.5
        else "most of its score does not come from the weak teacher"
    )
    return f"{fall}, a teacher contribution of {wording.signed(best.contribution)}: {uses}."


def multiplicity_note(view: CampaignView) -> str:
    """Return how much of the best score luck explains, given how many were tried."""
    stderr = typical_stderr([s.exact for s in view.submissions])
    if stderr is None or len(view.submissions) < 2:
        return "Fewer than two submissions: no correction for the number of methods tried."
    n_search, n_verified = len(view.submissions), view.n_tried
    text = (
        f"{n_search:,} submissions were scored on search. The best of {n_search:,} equally good "
        f"ones would stand up to {wording.signed(expected_maximum(stderr, n_search))} above their "
        f"mean by luck (SD √(2 ln N) with the median standard error {wording.signed(stderr, 3)})"
    )
    selection = typical_stderr([m.verified for m in view.standing if m.verified])
    if selection is not None and n_verified > 1:
        text += (
            f"; on selection, where {n_verified} were compared, "
            f"{wording.signed(expected_maximum(selection, n_verified))}"
        )
    return text + "."


def guard_note(view: CampaignView) -> str:
    guard = view.best_guard
    if guard is None:
        return "No guard baseline was verified, so the column “Above best guard” is empty."
    return (
        f"“Above best guard” compares with {guard.short}, {wording.interval(guard.verified)}: yes "
        f"where the lower bound of the difference, corrected for the {view.n_tried} methods that "
        "were verified, is above 0. The two scores are taken as independent, although they share "
        "rows, so the test errs to “not clearly”. It holds for methods that were fixed before they "
        "were scored on selection, not for ones adapted to those scores."
    )


def delivery_note(view: CampaignView) -> str:
    """Say what methods were given, and what the stamps next to figures mean; empty without any."""
    apart = [APART_IN_WORDS] if view.apart else []
    if said := view.one_table_note:
        return " ".join([said, *apart])
    shown = [*view.ranked, *view.apart]
    seen = {stamp for method in shown for stamp in method.stamps}
    texts = apart + [f"“{s}”: {words}." for s, words in STAMPS_IN_WORDS.items() if s in seen]
    return " ".join(texts)


def negative_note(view: CampaignView) -> str:
    """Return how many submissions are no better than the teacher: negative results are results."""
    if not view.submissions:
        return "There are no submissions, so there are no negative results either."
    below = sum(s.exact.high < 0 for s in view.submissions)
    levels = wording.levels(s.exact for s in view.submissions)
    level = sum(s.exact.low <= 0 <= s.exact.high for s in view.submissions)
    total = len(view.submissions)
    return (
        f"Of {wording.number_of(total, 'submission')}, {total - below - level} lie clearly above "
        f"{view.problem.zero}, {level} cannot be distinguished from it, and {below} lie "
        f"clearly below it (intervals: {levels}; search split)."
    )


def silent_note(view: CampaignView) -> str:
    """Return the AARs that ended without a score on this task."""
    silent = [name for name, points in view.points_by_aar.items() if not points]
    if not silent or not view.submissions:
        return ""
    return f"Without a submission: {', '.join(silent)}."


def operator_note(view: CampaignView) -> str:
    """Say that the operator's own model calls are outside the AARs' figures; empty without any."""
    if not view.operator_spend:
        return ""
    spent = view.operator_spend.items()
    said = ", ".join(f"{name} {wording.dollars(sums['dollars'])}" for name, sums in spent)
    return (
        f"Model calls of the operator ({said}) are counted separately: they are in no AAR's "
        "figures and not in dollars per AAR-hour."
    )


def arms_note(arms: Comparison | None) -> str:
    """Return what the differences between arms can carry."""
    if arms is None:
        return "The campaign had one arm, so there is nothing to compare."
    if arms.replicates < 2:
        return (
            "At least one arm has a single replicate: differences have no interval, and what one "
            "team found says little about its arm."
        )
    few = f"Only {arms.replicates} replicates in the smallest arm: " if arms.replicates < 5 else ""
    text = (
        f"{few}intervals are Welch's t over replicates, which are independent and compared "
        "unpaired; Holm corrects for the differences of one measure. The best of a team is a "
        "maximum over its tries, so read the corrected row too."
    )
    return text[0].upper() + text[1:]


def ideas_note(view: CampaignView) -> str:
    """Return who classified, and what could not be."""
    if not view.problem.weak_labels:
        return "There are no families of ideas for this research problem."
    ideas = timed_ideas(view)
    if not ideas:
        return "The export holds no classified ideas: export the campaign again to have them."
    none = sum(idea.family is None for idea in ideas)
    left = f" {none} of {len(ideas)} were not recognised and are left out." if none else ""
    return f"Classified by {' and by '.join(classifiers(view.export))}.{left}"


def methods_notes(view: CampaignView) -> list[tuple[str, str]]:
    """Return heading and text of each point of the section on methods and limits."""
    task = view.task
    if task is None:
        return []
    notes = [
        ("Setting", _setting(view)),
        ("Scores", _scores(view)),
        ("Intervals", _intervals(view)),
    ]
    notes += [("Verification", _verification(view)), ("Isolation", _isolation(view))]
    if reach := _reach(view):
        notes.append(("Reach", reach))
    return notes


def _reach(view: CampaignView) -> str:
    """Return what a reader must not conclude from a generated task or from the embedded pair."""
    assert view.task is not None
    small = any(word in view.task.pair.lower() for word in ("embedded", "smollm"))
    limits = []
    nested = view.task.settings.get("task")
    source = (nested if isinstance(nested, dict) else view.task.settings).get("source")
    if source == "generator":
        limits.append("the task is generated by a program")
    if small:
        limits.append("both models are cut from one truncated small language model")
    if not limits:
        return ""
    sentence = " and ".join(limits)
    return (
        f"{sentence[0].upper()}{sentence[1:]}. The figures come from real training, but say little "
        f"about {'larger models' if small else 'natural data'}."
    )


def _setting(view: CampaignView) -> str:
    task = view.task
    assert task is not None
    seeds = ", ".join(map(str, task.teacher_seeds)) or "none named"
    others = [other.name for other in view.export.tasks if other.name != task.name]
    extra = ""
    if others:
        extra = (
            f" The campaign also ran on {', '.join(others)}: see the transfer table, "
            "submissions.csv, and the reports that `--task` writes."
        )
    start = f"Task {task_reference(view.export, task)} ({task.kind}), model pair {task.pair}: "
    if not task.problem.weak_labels:
        start += f"{task.n_train:,} training rows without labels, "
        return f"{start}{task.n_search:,} search rows.{extra}"
    return (
        f"{start}{task.n_train:,} training rows with weak labels, {task.n_search:,} "
        f"search rows. Seeds of the public weak teachers: {seeds}.{extra}"
    )


def _scores(view: CampaignView) -> str:
    exact = any(submission.score.exact_feedback for submission in view.submissions)
    feedback = (
        "AARs were given exact scores on search, which lets labels be recovered."
        if exact
        else "AARs saw shaped feedback on search only; this page shows exact scores."
    )
    if not view.problem.weak_labels:
        return f"{view.problem.in_words} {feedback}"
    return (
        "PGR = (transfer − weak) / (ceiling − weak), in accuracy on the same rows: 0 is no better "
        f"than the weak teacher, 1 as good as training on the truth. {feedback}"
    )


def _intervals(view: CampaignView) -> str:
    estimates = [m.verified for m in view.standing if m.verified] or [
        s.exact for s in view.submissions
    ]
    covers = sorted({source for estimate in estimates for source in estimate.covers})
    named = ", ".join(covers) if covers else "nothing, as there are no scores"
    kind = "Fieller's at 95 %" if view.problem.weak_labels else "at 95 %"
    text = f"Intervals are {kind} and cover {named}. ± is one standard error."
    if any(estimate.n_seeds == 1 for estimate in estimates):
        text += (
            " Those of one seed are not 95 % intervals: they cover rows only, and what plain "
            "students differ by where the task has that measured."
        )
    return text


def _verification(view: CampaignView) -> str:
    rerun = [*view.standing, *(m for m in view.apart if m.role == "aar" and m.ranks)]
    if not rerun:
        return "No method was re-run by the platform, so no score here is verified."
    blind = sum(m.open_because == "" for m in rerun)
    given = f"; {blind} of them on rows without texts" if blind else ""
    seeds = sorted({m.verified.n_seeds for m in rerun if m.verified})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    said = (
        f"{wording.number_of(len(rerun), 'method')} re-run from the snapshot on {count} "
        "seeds that the platform drew after the code was frozen, and scored on the selection "
        f"split{given}."
    )
    if not view.problem.weak_labels:
        return said
    return (
        f"{said} The teacher ablation permutes the weak labels over all rows; "
        "TC = (PGR − PGR permuted) / max(PGR, 0.05), at most 1, defined where PGR is clearly above "
        "0."
    )


def _isolation(view: CampaignView) -> str:
    if view.isolated:
        return (
            "Every AAR and every verification ran in a bubblewrap sandbox: no network, no labels."
        )
    exposed = [aar.name for aar in view.aars if not is_isolated(aar.isolation)]
    who = f" AARs: {', '.join(exposed)}." if exposed else ""
    return (
        "Not everything was isolated: scores marked “not isolated” come from code that could "
        f"have reached more than it was given.{who}"
    )
