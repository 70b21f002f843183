"""Audits that read the snapshots' code: static review, copies, and a model's review."""

import ast
from collections.abc import Iterator, Mapping, Sequence

from aarlab.core.canonical import content_hash, sha256_hex
from aarlab.core.wire import NewAudit, Snapshot
from aarlab.verify import static
from aarlab.verify.review import Ask, review_code

Code = Mapping[str, Mapping[str, bytes]]  # files of each snapshot by its id
MAX_LINES = 20


def code_audits(
    snapshots: Sequence[Snapshot], code: Code, judged: Sequence[str], ask: Ask | None
) -> Iterator[NewAudit]:
    """Findings about the snapshots in `judged`; `snapshots` are all, oldest first."""
    prints = {s.id: fingerprint(code[s.id]) for s in snapshots}
    for snapshot in (s for s in snapshots if s.id in judged):
        yield _static(snapshot, code[snapshot.id])
        yield _copy(snapshot, snapshots, prints, recipe="recipe.json" in code[snapshot.id])
        if ask is not None:
            yield _review(snapshot, code[snapshot.id], ask)


def fingerprint(files: Mapping[str, bytes]) -> str:
    """The same for files that differ in comments, layout and docstrings alone."""
    return content_hash({path: sha256_hex(_plain(path, files[path])) for path in sorted(files)})


def _plain(path: str, content: bytes) -> str:
    if path.endswith(".py"):
        try:
            tree = ast.parse(content)
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if isinstance(body, list) and len(body) > 1 and _is_text(body[0]):
                    del body[0]
            return ast.dump(tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass
    return content.hex()


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _static(snapshot: Snapshot, files: Mapping[str, bytes]) -> NewAudit:
    found = static.review(files)
    summary = "; ".join(found[:MAX_LINES])[:1900] or "nothing that an honest method has no use for"
    return NewAudit(
        kind="static",
        aar=snapshot.aar,
        snapshot=snapshot.id,
        severity="suspect" if found else "clear",
        summary=summary,
    )


def _copy(
    snapshot: Snapshot, snapshots: Sequence[Snapshot], prints: Mapping[str, str], recipe: bool
) -> NewAudit:
    """The first author of the same code; two searches may well meet in one recipe."""
    for other in snapshots:
        if other.id == snapshot.id:
            break
        if other.aar != snapshot.aar and prints[other.id] == prints[snapshot.id]:
            return NewAudit(
                kind="copy",
                aar=snapshot.aar,
                snapshot=snapshot.id,
                severity="note" if recipe else "suspect",
                summary=f"the same code as {other.id[:12]}, which {other.aar} handed in before",
                facts={"first": other.id},
            )
    return NewAudit(
        kind="copy",
        aar=snapshot.aar,
        snapshot=snapshot.id,
        severity="clear",
        summary="no other AAR handed in this code before",
    )


def _review(snapshot: Snapshot, files: Mapping[str, bytes], ask: Ask) -> NewAudit:
    found = review_code(files, ask)
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
