"""One error family. Every message says what went wrong, where, and what to do about it.

`Faulty` reports faults in a file that a person wrote, each with its line.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class AarlabError(Exception):
    """Base of all errors aarlab raises on purpose; `code` is stable and travels over HTTP."""

    code = "error"


class BadInput(AarlabError):
    """Something the caller handed in is malformed; nothing was written."""

    code = "bad_input"


class NotFound(AarlabError):
    """A task, method, model, submission ... of that name does not exist."""

    code = "not_found"


class Forbidden(AarlabError):
    """The token is missing, unknown, or does not have the scope that the route needs."""

    code = "forbidden"


class BudgetExhausted(AarlabError):
    """A limit of the AAR or the campaign is used up."""

    code = "budget_exhausted"


class Conflict(AarlabError):
    """The same idempotency key with other content, a locked campaign, a name already taken."""

    code = "conflict"


class Superseded(AarlabError):
    """A newer process of the same AAR has begun: the one that gets this must stop at once.

    It is no Conflict, which tools may treat as settled, and no answer of a tool.
    """

    code = "superseded"


class Damaged(AarlabError):
    """A file does not match its checksum or cannot be parsed; says which command repairs it."""

    code = "damaged"


class BaselineMissing(AarlabError):
    """No weak teacher or ceiling accuracy for this task; says which command makes it."""

    code = "baseline_missing"


class GapNotPositive(AarlabError):
    """The ceiling is not clearly above the weak teacher, so PGR is undefined."""

    code = "gap_not_positive"


class SandboxUnavailable(AarlabError):
    """The requested isolation is not available on this machine. The message says why."""

    code = "sandbox_unavailable"


class MethodFailed(AarlabError):
    """A method raised, timed out, or broke its contract."""

    code = "method_failed"


class TextsWithheld(MethodFailed):
    """A method read a text in a verified run, which has none."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"row.{field}: a verified run holds no texts. Ask the student about the rows "
            "(student.states(rows), student.zero_shot(rows), student.ask(rows, template), "
            "rows[0].swapped(), task.same_answers()), or write READS_TEXT = True in method.py: it "
            "is then verified in the open class, in a table of its own"
        )


class ToolFailed(AarlabError):
    """A tool of an installed package raised, or returned something else than it declares."""

    code = "tool_failed"


class Unreachable(AarlabError):
    """The platform did not answer after all retries."""

    code = "unreachable"


class Unavailable(AarlabError):
    """The database or the blob store does not answer for now; the same request may be repeated."""

    code = "unavailable"


class MissingExtra(AarlabError):
    """An optional package is not installed. The message names the extra and the command."""

    code = "missing_extra"


class UnsupportedPlatform(AarlabError):
    """The operating system is not supported. The message says what can run here and where else."""

    code = "unsupported_platform"


class TooManyRequests(AarlabError):
    """Requests come faster than the platform allows; wait and try again."""

    code = "too_many_requests"

    def __init__(self, message: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


ERRORS: dict[str, type[AarlabError]] = {
    cls.code: cls
    for cls in (
        AarlabError,
        BadInput,
        NotFound,
        Forbidden,
        BudgetExhausted,
        Conflict,
        Superseded,
        Damaged,
        BaselineMissing,
        GapNotPositive,
        SandboxUnavailable,
        MethodFailed,
        ToolFailed,
        Unreachable,
        Unavailable,
        MissingExtra,
        UnsupportedPlatform,
        TooManyRequests,
    )
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a file. `line` counts from 1, and is 0 if the fault belongs to no line.

    `quotable` says that the line may be shown.
    """

    line: int
    message: str
    quotable: bool = True

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message


class Faulty(BadInput):
    """A file has faults. The message lists all of them, one per line."""

    def __init__(self, where: str, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join([where, *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)


def error_of(code: str, message: str) -> AarlabError:
    """Return the error that another process named by its code; AarlabError for an unknown one."""
    return ERRORS.get(code, AarlabError)(message)
