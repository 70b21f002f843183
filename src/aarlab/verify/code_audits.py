"""Audits that read the snapshots' code: static review, contents, copies, and a model's review."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence

from aarlab.core.canonical import content_hash, sha256_hex
from aarlab.core.errors import BudgetExhausted
from aarlab.core.python_source import UNPARSABLE, parse_python
from aarlab.core.wire import NewAudit, Severity, Snapshot
from aarlab.verify import static
from aarlab.verify.contents import contents, judge_contents
from aarlab.verify.review import Review

ReviewOf = Callable[[str, Mapping[str, bytes]], Review]  # of a snapshot's id and files
Code = Mapping[str, Mapping[str, bytes]]  # files of each snapshot by its id
MAX_LINES = 20
MAX_SUMMARY = 1900


def code_audits(
    snapshots: Sequence[Snapshot],
    code: Code,
    judged: Sequence[str],
    review: ReviewOf | None,
    teams: Mapping[str, str],
) -> Iterator[NewAudit]:
    """Yield findings about the snapshots in `judged`. `snapshots` lists all, oldest first.

    `teams` maps AAR names to teams. An AAR cannot have seen the code of another team.
    """
    prints = {s.id: fingerprint(code[s.id]) for s in snapshots}
    for snapshot in (s for s in snapshots if s.id in judged):
        yield _static(snapshot, code[snapshot.id])
        yield _contents(snapshot, code[snapshot.id])
        twins = _earlier(snapshot, snapshots, prints)
        yield _copy(snapshot, twins, teams, recipe="recipe.json" in code[snapshot.id])
        if review is not None:
            yield _review(snapshot, code[snapshot.id], review)


def fingerprint(files: Mapping[str, bytes]) -> str:
    """The same for files that differ in comments, layout and docstrings alone."""
    return content_hash({path: sha256_hex(_plain(path, files[path])) for path in sorted(files)})


def _plain(path: str, content: bytes) -> str:
    if path.endswith(".py"):
        try:
            tree = parse_python(content)
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list) and len(body) > 1 and _is_text(body[0]):
                    del body[0]
            return ast.dump(tree)
        except UNPARSABLE:
            pass
    return content.hex()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _static(snapshot: Snapshot, files: Mapping[str, bytes]) -> NewAudit:
    found = static.review(files)
    nothing = "nothing that an honest method has no use for"
    summary = "; ".join(found[:MAX_LINES])[:MAX_SUMMARY] or nothing
    return NewAudit(
        kind="static",
        aar=snapshot.aar,
        snapshot=snapshot.id,
        severity="suspect" if found else "clear",
        summary=summary,
    )


def _contents(snapshot: Snapshot, files: Mapping[str, bytes]) -> NewAudit:
    found = contents(files)
    severity, summary = judge_contents(found)
    counts = {name: float(n) for name, n in found._asdict().items() if name != "digests"}
    return NewAudit(
        kind="fingerprint",
        aar=snapshot.aar,
        snapshot=snapshot.id,
        severity=severity,
        summary=summary[:MAX_SUMMARY],
        facts={**counts, "digests": list(found.digests[:MAX_LINES])},
    )


def _earlier(
    snapshot: Snapshot, snapshots: Sequence[Snapshot], prints: Mapping[str, str]
) -> list[Snapshot]:
    """Return the snapshots of other AARs with the same code that were frozen before this one."""
    before = snapshots[: next(i for i, s in enumerate(snapshots) if s.id == snapshot.id)]
    return [s for s in before if s.aar != snapshot.aar and prints[s.id] == prints[snapshot.id]]


def _copy(
    snapshot: Snapshot, twins: Sequence[Snapshot], teams: Mapping[str, str], recipe: bool
) -> NewAudit:
    """Report a copy only where the AAR could read the original.

    AARs can read the frozen code of their own team as soon as it is frozen. The same recipe is only
    a note, because two searches may find it independently.
    """
    team = teams.get(snapshot.aar, "")
    severity: Severity = "clear"
    summary, first = "no other AAR handed in this code before", ""
    if seen := [twin for twin in twins if teams.get(twin.aar, "") == team]:
        severity, first = ("note" if recipe else "suspect"), seen[0].id
        summary = f"the same code as {first[:12]}, which {seen[0].aar} handed in before"
    elif twins:
        first = twins[0].id
        summary = (
            f"found twice, not copied: {first[:12]} of {twins[0].aar} has the same code, but is of "
            "another team, whose work this AAR could not see"
        )
    return NewAudit(
        kind="copy",
        aar=snapshot.aar,
        snapshot=snapshot.id,
        severity=severity,
        summary=summary,
        facts={"first": first} if first else {},
    )


def _review(snapshot: Snapshot, files: Mapping[str, bytes], review: ReviewOf) -> NewAudit:
    try:
        found = review(snapshot.id, files)
    except BudgetExhausted as error:
        return NewAudit(
            kind="review",
            aar=snapshot.aar,
            snapshot=snapshot.id,
            severity="note",
            summary=f"not reviewed: budget: {error}"[:MAX_SUMMARY],
            facts={"unreviewed": 1.0},
        )
    return NewAudit(
        kind="review",
        aar=snapshot.aar,
        snapshot=snapshot.id,
        severity="suspect" if found.flag else "clear",
        summary=found.reason or "no reason given",
        facts={
            "failed": float(found.failed),
            "input_tokens": float(found.input_tokens),
            "output_tokens": float(found.output_tokens),
        },
    )
