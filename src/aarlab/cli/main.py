"""The `aarlab` command. Parses, calls, prints; every AarlabError becomes one message and exit 2."""

import errno
import sys
from collections.abc import Callable

import typer

from aarlab import __version__
from aarlab.cli import (
    aar,
    audit,
    campaign,
    compare,
    demo,
    log,
    method,
    models,
    report,
    serve,
    task,
    testbed,
)
from aarlab.cli.terminal import Console
from aarlab.core.errors import AarlabError

INTERRUPTED = 130

cli = typer.Typer(
    name="aarlab",
    no_args_is_help=True,
    add_completion=False,
    help="Automated alignment research on weak-to-strong supervision, with scores to trust.",
)
cli.command("demo")(demo.demo)
cli.command("serve")(serve.serve)
cli.add_typer(report.app, name="report")
cli.add_typer(task.app, name="task")
cli.add_typer(models.app, name="models")
cli.add_typer(testbed.app, name="testbed")
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
    Console().print(__version__)


def app() -> None:
    """Entry point: runs the command and turns failures into a message and an exit code."""
    sys.exit(run_safely(lambda: cli(standalone_mode=False)))


def _interrupted(errors: Console) -> int:
    errors.print("interrupted; nothing is lost: the same command goes on where it stopped")
    return INTERRUPTED


def run_safely(command: Callable[[], object]) -> int:
    """0 when it worked, 2 for an error that says what to do, 130 when interrupted."""
    errors = Console(stderr=True, highlight=False)
    try:
        result = command()
    except AarlabError as error:
        errors.print("error", style="red", end="")
        errors.print(f" ({error.code}): {error}")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(errors)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise
        errors.print("error", style="red", end="")
        errors.print(f" (disk): {error.strerror}: {error.filename or ''}. ", end="")
        errors.print("Free some space or choose another folder, then run the same command again.")
        return 2
    except Exception as error:
        if not hasattr(error, "exit_code"):  # click's own usage errors carry one
            raise
        error.show()  # type: ignore[attr-defined]
        return int(error.exit_code)
    if result == INTERRUPTED:  # what typer makes of Ctrl-C
        return _interrupted(errors)
    return result if isinstance(result, int) else 0
