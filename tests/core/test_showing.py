"""Text that others wrote, in a terminal and in a log."""

import io
import logging
import subprocess
import sys

import pytest
from rich.table import Table
from rich.text import Text

from aarlab.cli.terminal import Console
from aarlab.core.logs import FORMAT, SafeFormatter
from aarlab.core.showing import (
    NOUNS,
    limits_text,
    moment,
    number_of,
    one_line,
    safe_to_show,
)
from aarlab.core.wire_ledger import Limits

HOSTILE = "[/public]\x1b[31m"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, "[/public]\\x1b[31m"),
        ("a\rb\x07\x9b31m\x7f", "a\\x0db\\x07\\x9b31m\\x7f"),
        ("right\u202eleft\u2066\ufeff\u200b", "right\\u202eleft\\u2066\\ufeff\\u200b"),
        ("\ud800 \U000e0041", "\\ud800 \\U000e0041"),
        ("数学 → ±é\tx\ny", "数学 → ±é\tx\ny"),
    ],
)
def test_what_drives_a_terminal_is_spelled_out(text: str, shown: str) -> None:
    assert safe_to_show(text) == shown
    assert safe_to_show(shown) == shown
    assert "\n" not in one_line(text) and "\t" not in one_line(text)


def printed(terminal: bool, *things: object) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=120, color_system=None)
    for thing in things:
        console.print(thing)
    console.rule(HOSTILE)
    with console.status(HOSTILE):
        pass
    return out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_every_way_to_print_shows_hostile_text_as_it_is(terminal: bool) -> None:
    table = Table("[/head]\x1b]0;t\x07", title=HOSTILE, caption=HOSTILE)
    table.add_row(HOSTILE)
    table.add_row(Text(HOSTILE))
    out = printed(terminal, HOSTILE, Text(HOSTILE), table, "[bold]b[/bold] :smile:")
    assert "\x1b[31m" not in out and "\x1b]" not in out and "\x07" not in out
    assert out.count("[/public]\\x1b[31m") >= 7
    assert "[bold]b[/bold] :smile:" in out


def test_a_log_line_cannot_be_forged() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(SafeFormatter(FORMAT))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning("method %s failed", "x\n2026-01-01 INFO verify: all clear \x1b[2J")
    try:
        raise ValueError("no \x1b[2J")
    except ValueError:
        logger.exception("gave up")
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("method x\\n2026-01-01 INFO verify: all clear \\x1b[2J failed")
    assert lines[1].endswith("gave up") and lines[-1] == "ValueError: no \\x1b[2J"
    assert "\x1b" not in out.getvalue()


LAST_WORDS = """
import logging, threading, warnings
from aarlab.core.logs import log_to_stderr
log_to_stderr()
hostile = "x\\x1b[2J\\x9b31m"
logging.getLogger("any").warning("%s", hostile, stack_info=True)
warnings.warn(hostile)
def work(): raise ValueError(hostile)
thread = threading.Thread(target=work); thread.start(); thread.join()
raise KeyError(hostile)
"""


def test_nothing_that_a_process_says_at_its_end_drives_a_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAST_WORDS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "\x1b" not in done.stderr and "\x9b" not in done.stderr
    for said in ("any: x\\x1b[2J\\x9b31m", "UserWarning: x\\x1b", "ValueError: x\\x1b[2J",
                 "the process ended", "KeyError: 'x\\x1b[2J"):  # fmt: skip
        assert said in done.stderr


@pytest.mark.parametrize(
    "at, shown",
    [
        ("2026-11-25T09:40:14.019390+00:00", "2026-11-25 09:40 UTC"),
        ("2026-11-25T00:10:00+02:00", "2026-11-24 22:10 UTC"),
        ("2026-11-25T09:40:14", "2026-11-25 09:40 UTC"),
        ("0001-01-01T00:00:00+12:00", "0001-01-01T00:00:00+12:00"),
        ("", ""),
        ("soon", "soon"),
    ],
)
def test_a_time_names_its_zone(at: str, shown: str) -> None:
    assert moment(at) == shown


def test_one_of_a_thing_is_no_plural() -> None:
    assert [number_of(n, "signed head") for n in (0, 1, 1200)] == [
        "0 signed heads", "1 signed head", "1,200 signed heads",
    ]  # fmt: skip
    assert number_of(2, "entry", "entries") == "2 entries"


def test_limits_are_words_and_large_ones_have_all_digits() -> None:
    left = {"hours": 1.0, "device_s": 90.5, "tokens": 2_000_000, "dollars": None, "methods": 3}
    assert limits_text(left) == "1 hour, 90.5 device seconds, 2,000,000 tokens, 3 methods to verify"
    assert set(Limits.model_fields) == set(NOUNS) and limits_text({"hours": None}) == ""
