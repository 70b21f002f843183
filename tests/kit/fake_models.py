"""Fake model endpoints: a real HTTP server on loopback, in a process of its own.

    with FakeModels(reply, [Fault("overloaded", at=(2,))]) as fake:
        ...  # clients talk to fake.anthropic_url / fake.openai_url with the key `fake.key`
        assert fake.counts().repeated == {}

`reply` is a function at the top of a module (Conversation -> Reply): the server's process imports
it, and its answer depends on nothing but the conversation, so that a resumed researcher goes on
where it was. Every call is counted by content: a call that was paid twice is seen.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fake_talk import Answer, Call, Conversation, Fault, Reply, Turn, Usage

KEY = "sk-fake-0123456789abcdef"
START_S = 30.0

__all__ = [
    "KEY",
    "Answer",
    "Call",
    "Conversation",
    "Counts",
    "FakeModels",
    "Fault",
    "Reply",
    "Turn",
    "Usage",
]


@dataclass(frozen=True)
class Counts:
    """What the endpoint saw. A call is paid once the model has answered, delivered once the client
    has all of it; faults that cost nothing at the vendor are neither.

    `paid` and `delivered` are per content hash; `tokens` are of all paid calls, `distinct_tokens`
    of all delivered contents, each once: what a client has to have on its books that lost nothing
    and heard nothing twice.
    """

    requests: int
    paid: dict[str, int]
    delivered: dict[str, int]
    faults: dict[str, int]
    tokens: dict[str, int]
    distinct_tokens: dict[str, int]
    wrong_key: int
    leaks: list[str]
    unknown_routes: list[str]

    @property
    def repeated(self) -> dict[str, int]:
        """Contents that were paid more than once."""
        return {content: n for content, n in self.paid.items() if n > 1}

    @property
    def n_paid(self) -> int:
        return sum(self.paid.values())


class FakeModels:
    """Context manager around the process; `secrets` must turn up in no body and no other header."""

    def __init__(
        self,
        reply: Answer | str,
        plan: Sequence[Fault] = (),
        *,
        key: str = KEY,
        secrets: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        name = reply if isinstance(reply, str) else f"{reply.__module__}:{reply.__qualname__}"
        self.key = key
        self._setup = {
            "reply": name,
            "plan": [dataclasses.asdict(fault) for fault in plan],
            "key": key,
            "secrets": list(secrets),
        }
        self._log = log
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "FakeModels":
        # The key travels by stdin: it must be in nobody's command line.
        paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
        log = self._log.open("ab") if self._log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "fake_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,
        )
        if self._log:
            log.close()  # type: ignore[union-attr]
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(self._setup) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the fake endpoint did not start; give `log` to see why"
        self.port = int(line)
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()  # type: ignore[union-attr]

    @property
    def anthropic_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def openai_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def counts(self) -> Counts:
        return Counts(**self._control("GET", "/fake/counts"))

    def replan(self, plan: Sequence[Fault]) -> None:
        """Another plan from the next request on; numbers of requests start again at 1."""
        self._control("POST", "/fake/plan", [dataclasses.asdict(fault) for fault in plan])

    def reset(self) -> None:
        """Forget all counts; the plan stays, its numbers start again."""
        self._control("POST", "/fake/reset")

    def _control(self, verb: str, path: str, body: Any = None) -> Any:
        with httpx.Client(base_url=self.anthropic_url, trust_env=False, timeout=20) as client:
            answer = client.request(verb, path, json=body)
            answer.raise_for_status()
            return answer.json()

    def _wait(self) -> None:
        end = time.monotonic() + START_S
        while True:
            try:
                self.counts()
            except httpx.TransportError:
                assert time.monotonic() < end, "the fake endpoint does not answer"
                time.sleep(0.05)
            else:
                return
