"""The `aarlab` command: parses arguments, calls the package and prints results.

An error that the user's input or machine causes becomes one message and exit code 2.
"""

import errno
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from aarlab import __version__
from aarlab.cli import (
    aar,
    audit,
    campaign,
    compare,
    demo,
    doctor,
    log,
    method,
    models,
    report,
    serve,
    students,
    task,
    testbed,
)
from aarlab.cli.ending import SIGINT_CODE, Interrupted, Terminated, end_on_signals
from aarlab.core.errors import AarlabError
from aarlab.core.extras import extra_of, install_command, needs_linux

ADVICE = {
    errno.ENOSPC: "Free some space or choose another folder, then run the same command again.",
    errno.EDQUOT: "Free some space or choose another folder, then run the same command again.",
    errno.ENOENT: "Check the path; the folder above it must exist and allow new files.",
    errno.ENOTDIR: "A part of the path is a file: name a folder.",
    errno.EISDIR: "This is a folder: name a file.",
    errno.EEXIST: "Something is there already: choose another name.",
    errno.ENAMETOOLONG: "The path is too long: choose a shorter one.",
}
UNIX_MODULES = frozenset({"fcntl", "grp", "pwd", "resource", "termios"})
OTHERWISE = "Choose a path that this user may read and write."

cli = typer.Typer(
    name="aarlab",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    help="Automated alignment research on weak-to-strong supervision, with scores to trust.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@cli.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


cli.command("demo")(demo.demo)
cli.command("doctor")(doctor.doctor)
cli.command("serve")(serve.serve)
cli.add_typer(report.app, name="report")
cli.add_typer(task.app, name="task")
cli.add_typer(models.app, name="models")
cli.add_typer(testbed.app, name="testbed")
cli.add_typer(students.app, name="students")
cli.add_typer(method.app, name="method")
campaign.app.command("compare")(compare.compare)
campaign.app.command("classify")(compare.classify)
cli.add_typer(campaign.app, name="campaign")
cli.add_typer(aar.app, name="aar")
cli.add_typer(audit.app, name="audit")
cli.command("verdict")(audit.verdict)
cli.add_typer(log.app, name="log")


@cli.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def app() -> None:
    """Run the command and turn failures into a message and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot encode a character gets a question mark, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    end_on_signals()
    sys.exit(run_safely(lambda: cli(standalone_mode=False)))


def run_safely(command: Callable[[], object]) -> int:
    """Run a command and return its exit code.

    Returns 0 or the command's own code, 128 + n after signal n, and 1 if stdout was closed early.
    Returns 2 after printing an error that the user or the machine caused. Usage errors have click's
    code. Any other exception propagates with its traceback.
    """
    try:
        result = command()
        sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt, typer.Abort, Terminated) as ended:
        return _ended(ended)
    except BrokenPipeError:  # the reader has closed, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if hasattr(error, "exit_code"):  # click's own usage errors carry one
            error.show()  # type: ignore[attr-defined]
            return int(error.exit_code)
        if (known := _explained(error)) is None:
            raise
        _print_error(*known)
        return 2
    if result == SIGINT_CODE:  # what typer makes of Ctrl-C
        return _ended(KeyboardInterrupt())
    return result if isinstance(result, int) else 0


def _explained(error: Exception) -> tuple[str, str] | None:
    """Return code and message of an error that the user or the machine caused, else None."""
    if isinstance(error, AarlabError):
        return error.code, str(error)
    if isinstance(error, ModuleNotFoundError):
        name = error.name or ""
        if sys.platform != "linux" and name in UNIX_MODULES:
            return "unsupported_platform", needs_linux(sys.platform)
        extra = extra_of(name)
        said = f"this needs {name}, not installed here; run: {install_command(extra or '')}"
        return ("missing_extra", said) if extra else None
    if isinstance(error, UnicodeDecodeError):
        return "bad_input", f"a file that was named is not UTF-8 text: {error}"
    return _of_the_system(error) if isinstance(error, OSError) and error.errno else None


def _of_the_system(error: OSError) -> tuple[str, str]:
    if error.filename is None and error.errno not in ADVICE:
        return "system", str(error.strerror or error)
    place = f": {error.filename}" if error.filename else ""
    advice = ADVICE.get(error.errno or 0, OTHERWISE)
    return "disk", f"{error.strerror}{place}. {advice}{_home_hint(error)}"


def _print_error(code: str, message: str) -> None:
    from aarlab.cli.terminal import Console

    errors = Console(stderr=True, highlight=False)
    errors.print("error", style="red", end="")
    errors.print(f" ({code}): {message}", soft_wrap=True)


def _ended(ended: BaseException) -> int:
    """Print how the command ended and what is kept, if known; return 128 + the signal's number."""
    note = str(ended) if isinstance(ended, Interrupted) else ""
    cause = ended.cause if isinstance(ended, Interrupted) else ended
    how = f"Stopped by {cause.name}." if isinstance(cause, Terminated) else "Interrupted."
    typer.echo(f"{how} {note}".strip(), err=True)
    return cause.exit_code if isinstance(cause, Terminated) else SIGINT_CODE


def _home_hint(error: OSError) -> str:
    """Return a hint that names AARLAB_HOME if the failed path lies in it, else an empty string."""
    from aarlab.cli.settings import data_root

    try:
        home = str(data_root().path)
    except AarlabError:
        return ""
    inside = str(error.filename or "").startswith(home)
    return (
        f" AARLAB_HOME is {home}: set it to another folder if that one is wrong." if inside else ""
    )
