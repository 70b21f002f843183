"""`python -m aarlab.agents AAR.json [FILE [again]]`: one AAR, from its config to its end.

In a pod, FILE is where the pod says what the operator wants of the AAR. `again` says that it is to
continue if it had ended, where no folder is shared.

SIGUSR1 is an engine's notice that the process will be ended soon. A language-model AAR then ends
after the step that it is in, so that a model call under way is not paid twice. Any AAR ends LEAVE_S
after the notice, which is as safe as `kill -9`.
"""

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from aarlab.agents.config import AarConfig
from aarlab.agents.platform_link import Link, Signals, beating
from aarlab.core.clock import now_iso
from aarlab.core.errors import AarlabError, BadInput, Superseded
from aarlab.core.files import write_json
from aarlab.core.logs import log_to_stderr
from aarlab.core.supervision import SUPERSEDED
from aarlab.executors.base import LEFT

LOG = logging.getLogger("aarlab.agents")
PLATFORM_DEADLINE_S = 300.0
SETTINGS = 78  # sysexits EX_CONFIG: the same process would end the same way
LEAVE_S = 60.0
ERROR_FILE = "error.json"  # core.layout.RunDir.aar_error


def main(argv: list[str]) -> int:
    log_to_stderr("INFO")
    logging.getLogger("httpx").setLevel("WARNING")  # one line per request, for days
    leaving = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: _take_notice(leaving))
    home = Path(argv[0]).parent
    (home / ERROR_FILE).unlink(missing_ok=True)
    try:
        config = AarConfig.model_validate_json(Path(argv[0]).read_bytes())
        config = config.model_copy(update={"again": "again" in argv[2:]})
        why = live(config, leaving, Path(argv[1]) if argv[1:] else None)
    except Superseded as error:
        # The folder is the newer process's by now, `error.json` included: only the log says why.
        LOG.error("the AAR stopped: %s", error)
        return SUPERSEDED
    except (AarlabError, ValidationError, OSError) as error:
        LOG.exception("the AAR stopped")
        _leave_error(home, error)
        return SETTINGS if getattr(error, "code", "") == "model_settings" else 1
    if not why and leaving.is_set():
        LOG.info("left after a notice; all is saved")
        return LEFT
    LOG.info("finished: %s", why)
    return 0


def _take_notice(leaving: threading.Event) -> None:
    """Ask the AAR to end after its step, and end the process after LEAVE_S."""
    if not leaving.is_set():
        leaving.set()
        last = threading.Timer(LEAVE_S, os._exit, [LEFT])
        last.daemon = True
        last.start()


def _leave_error(home: Path, error: Exception) -> None:
    """Write `error.json`, from which the campaign learns why the AAR stopped.

    A failed write, such as on a full disk, is ignored so that it does not hide the error itself.
    """
    code = error.code if isinstance(error, AarlabError) else type(error).__name__
    with suppress(OSError):
        said = {"at": now_iso(), "code": code, "message": str(error)[:20_000]}
        write_json(home / ERROR_FILE, said)


def live(config: AarConfig, leaving: threading.Event, wanted_file: Path | None = None) -> str:
    """Run the AAR and return why it ended, or an empty text where it left before its end.

    Each kind of AAR loads only its own libraries.
    """
    connect = Link(config, PLATFORM_DEADLINE_S)
    if config.researcher == "language":
        from aarlab.agents.language.loop import run_language

        return run_language(config, connect, leaving, wanted_file).why
    if config.researcher == "external":
        from aarlab.agents.external.claude_code import run_external

        return run_external(config, connect, wanted_file).why
    if config.researcher in ("random", "evolutionary", "fixed"):
        from aarlab.agents.control import run_control

        with connect() as platform, beating(connect, Signals(), wanted_file):
            return run_control(config, platform).why
    raise BadInput(
        f"no researcher {config.researcher!r}; there are language, external, random, evolutionary, "
        "fixed"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
