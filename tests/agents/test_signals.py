"""What an AAR's process knows of the operator's wishes, from its own poll or from its pod."""

import threading
from pathlib import Path

from platform_kit import wait_for

from aarlab.agents.platform_link import Signals, beating
from aarlab.client.transport import Life
from aarlab.core.errors import Superseded, Unreachable
from aarlab.core.wire import Wanted, WantedNow


class Platform:
    """A client whose polls are answered from a list, then never."""

    def __init__(self, *answers: Wanted | Exception) -> None:
        self.life, self._answers = Life(), list(answers)
        self.known: list[Wanted] = []
        self.over = threading.Event()

    def __call__(self) -> "Platform":
        return self

    def __enter__(self) -> "Platform":
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()

    def wanted(self, known: Wanted, wait_s: float) -> WantedNow:
        self.known.append(known)
        if not self._answers:
            self.over.wait(0.05)
            return WantedNow(wanted=known)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return WantedNow(wanted=answer)


def test_no_sign_of_life_is_given_before_the_session_began() -> None:
    platform, signals = Platform("pause"), Signals()
    with beating(platform, signals):
        assert platform.known == []
        platform.life.begun.set()
        wait_for(lambda: signals.wanted == "pause")
        wait_for(lambda: "pause" in platform.known)


def test_a_command_ends_as_soon_as_a_stop_is_known() -> None:
    platform, signals = Platform("run", "stop"), Signals()
    command, ended_before = threading.Event(), threading.Event()
    with signals.setting(ended_before):
        pass
    with signals.setting(command), beating(platform, signals):
        assert not command.is_set()
        platform.life.begun.set()
        assert command.wait(20)
    assert not ended_before.is_set(), "that command was over"
    late = threading.Event()
    with signals.setting(late):
        assert late.is_set(), "a command that begins after a stop"


def test_an_older_life_asks_no_more(caplog) -> None:
    platform, signals = Platform(Superseded("a newer process has begun")), Signals()
    platform.life.begun.set()
    with beating(platform, signals):
        assert platform.over.wait(20)
    assert platform.known == ["run"] and "a newer process" in caplog.text


def test_an_outage_is_waited_out(monkeypatch) -> None:
    monkeypatch.setattr("aarlab.agents.platform_link.AGAIN_S", 0.01)
    platform, signals = Platform(Unreachable("it does not answer"), "stop"), Signals()
    platform.life.begun.set()
    with beating(platform, signals):
        wait_for(lambda: signals.wanted == "stop")


def test_in_a_pod_the_pods_file_counts_and_nothing_is_asked(tmp_path: Path) -> None:
    platform, signals, told = Platform("stop"), Signals(), tmp_path / "ada"
    platform.life.begun.set()
    with beating(platform, signals, told):
        told.write_text("pause\n")
        wait_for(lambda: signals.wanted == "pause")
        told.write_text("stop\n")
        wait_for(lambda: signals.wanted == "stop")
    assert platform.known == []
