"""Talk to Ray for an executor, and be an AAR's actor: `aarlab_ray_talker.py ADDRESS NAMESPACE FD`.

The executor (aarlab_ray.py) starts this file and asks over a pipe, one question at a time. Ray's
workers get the class `Aar` by value and need nothing of this package.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ray
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray.exceptions import GetTimeoutError, RayError

PR_SET_PDEATHSIG = 1
ANSWER_S, GONE_S, LOST_S, HEAD_S = 0.5, 10.0, 5.0, 5.0
MUST_BE_UP = -1  # no limit: of an actor's restarts, and of a call's


class Aar:
    """An AAR, or a pod of them, as the only child of a Ray worker.

    The worker's main thread runs all methods, so it is the thread with whose end the child dies.
    The worker dies with its raylet: else both would live on when a node's raylet is killed.
    """

    def __init__(self, words: list[str], log: str) -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if Path(f"/proc/{os.getppid()}/comm").read_text(encoding="utf-8").strip() != "raylet":
            raise RuntimeError("this worker is no child of its raylet, and would outlive it")
        self.words = words
        with Path(log).open("ab") as out:
            self.child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def code(self) -> int | None:
        return self.child.poll()

    def runs(self) -> list[str]:
        return self.words if self.child.poll() is None else []

    def signal(self, number: int) -> None:
        self.child.send_signal(number)


class Known:
    """An actor, and what it said last."""

    def __init__(self, actor: Any) -> None:
        self.actor, self.asked, self.asked_at = actor, None, 0.0
        self.begun, self.ended = False, False
        self.code: int | None = None
        self.why = ""

    def ask(self) -> Any:
        """Return the call that asks for the exit code. Ray repeats it where the actor moves."""
        if self.asked is None:
            self.asked, self.asked_at = self.actor.code.remote(), time.monotonic()
        return self.asked

    def hear(self) -> None:
        """Take the answer, which is there."""
        try:
            self.code, self.begun = ray.get(self.asked), True
        except RayError as error:
            self.end(last_line(error))
        else:
            if self.code is not None:
                self.end()
        self.asked = None

    def end(self, why: str = "") -> None:
        self.ended, self.why = True, why
        with suppress(RayError, ValueError):
            ray.kill(self.actor, no_restart=True)

    def row(self) -> tuple[str, bool, int | None, str]:
        silent = self.asked is not None and time.monotonic() - self.asked_at > LOST_S
        live = "queued" if not self.begun else "lost" if silent else "running"
        return "ended" if self.ended else live, self.begun, self.code, self.why


class Talker:
    """Answers the executor's questions; each method is one."""

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}

    def fits(self, wants: dict[str, float]) -> bool:
        """Return whether some node is large enough, whether or not it is free now."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return any(all(node.get(k, 0) >= v for k, v in wants.items() if v) for node in nodes)

    def named(self) -> list[str]:
        found = ray.util.list_named_actors()
        return [name for name in found if not (each := self.known.get(name)) or not each.ended]

    def start(self, job: str, words: list[str], log: str, wants: dict[str, float]) -> str:
        for name in (each for each in self.named() if each.rpartition(".")[0] == job):
            with suppress(RayError, GetTimeoutError):
                if ray.get(self._find(name).actor.runs.remote(), timeout=GONE_S) == words:
                    return name
            if self.stop(name, 0.0)[0] != "ended":
                raise ValueError(f"{name} does not end")
        name = f"{job}.{uuid.uuid4().hex[:8]}"
        actor = ray.remote(Aar).options(
            name=name,
            lifetime="detached",
            max_restarts=MUST_BE_UP,
            max_task_retries=MUST_BE_UP,
            scheduling_strategy="SPREAD",
            num_cpus=wants.pop("CPU"),
            num_gpus=wants.pop("GPU", 0),
            memory=wants.pop("memory", None),
            resources=wants,
        )
        self.known[name] = Known(actor.remote(words, log))
        return name

    def states(self, names: list[str], within_s: float = ANSWER_S) -> dict[str, Any]:
        live = {name: each for name in names if not (each := self._find(name)).ended}
        calls = {each.ask(): each for each in live.values()}
        waited = ray.wait(list(calls), num_returns=len(calls), timeout=within_s) if calls else [[]]
        for call in waited[0]:
            calls[call].hear()
        return {name: self.known[name].row() for name in names}

    def stop(self, name: str, grace_s: float) -> Any:
        """End a job; one that waits, or whose node is lost, is taken out of Ray."""
        known = self._find(name)
        for number, within_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, GONE_S)):
            if not known.ended and self.states([name])[name][0] == "running":
                known.actor.signal.remote(number)
                self._until_ended(name, within_s)
        if not known.ended:
            ray.kill(known.actor, no_restart=True)
            self._until_ended(name, GONE_S)
        return known.row()

    def _until_ended(self, name: str, within_s: float) -> None:
        until = time.monotonic() + within_s
        while not self.known[name].ended and time.monotonic() < until:
            self.states([name], 0.2)

    def _find(self, name: str) -> Known:
        if name not in self.known:
            try:
                self.known[name] = Known(ray.get_actor(name))
            except ValueError:
                self.known[name] = Known(None)
                self.known[name].end(f"Ray does not know {name} any more")
        return self.known[name]


def last_line(error: Exception) -> str:
    """Return what Ray says last, which is why; tracebacks with colours stand before it."""
    return (re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip() or repr(error)).splitlines()[-1][:500]


def serve(questions: Connection) -> None:
    """Answer until the executor has gone."""
    talker = Talker()
    with suppress(EOFError):
        while True:
            what, *given = questions.recv()
            try:
                questions.send(("", getattr(talker, what)(*given)))
            except (RayError, ValueError) as error:
                questions.send((last_line(error), None))


def connect(address: str, namespace: str) -> None:
    """Join the cluster. Where no head answers, Ray would try for a minute, then end the process."""
    host, _, port = canonicalize_bootstrap_address_or_die(address).rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), HEAD_S):
        pass
    ray.init(f"{host}:{port}", namespace=namespace, log_to_driver=False)


if __name__ == "__main__":
    with Connection(int(sys.argv[3])) as pipe:
        try:
            connect(sys.argv[1], sys.argv[2])
        except (OSError, RuntimeError, ValueError) as error:
            pipe.send((f"no head at {sys.argv[1]}: {last_line(error)}", None))
        else:
            serve(pipe)
