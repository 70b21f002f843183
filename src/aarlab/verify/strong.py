"""The strong model of verified runs, on the trusted side: a student server's, or this process's.

A task whose methods may ask the model names it in its settings. One grant holds the rows of a
re-run with their texts; each seed has a session of its own, and so has what all seeds share. A
server of this user that holds the same model is used. Without one the model is loaded here when a
method first asks for it: a task on stored features loads nothing. On a CUDA device it has the
device's lock, as a student server has: a re-run waits for it, and gives it back at its end together
with the memory, so that a server can start. On a CPU there is nothing to wait for.

Covered: a server that ends in the middle raises Unreachable; the re-run is begun again, once.
Not covered: models of open runs are loaded in their sandboxes, on no device lock.
Legend: U different rows of a re-run, A answers a row, D state width.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from aarlab.core.device_lock import DeviceLock
from aarlab.core.errors import AarlabError, BadInput, Conflict, NotFound, error_of
from aarlab.core.types import Example
from aarlab.students.calls import Client, Session
from aarlab.students.client import Connection
from aarlab.students.grants import Grant, Limits, Operator
from aarlab.students.queue import LOOK_S, ClientGone, DeviceQueue
from aarlab.students.server import running
from aarlab.students.settings import DeviceSettings
from aarlab.testbed.models.record import read_record
from aarlab.testbed.running.channel import Message
from aarlab.testbed.students.features import AnswerLogp, StoredFeatures
from aarlab.testbed.students.student import Compute
from aarlab.testbed.students.templates import Template
from aarlab.testbed.tasks.train_task import StudentSettings

if TYPE_CHECKING:
    from aarlab.testbed.models.lm import LanguageModel

LIMITS = Limits(sessions=16, bytes=2**34)
LOG = logging.getLogger("aarlab.verify")
IsAlive = Callable[[], bool]


class Line(Protocol):
    """A session with the strong model. `ask` raises the error that it was answered with."""

    compute: Compute

    def ask(self, kind: str, facts: Mapping[str, Any] | None = None, **arrays: Any) -> Message: ...

    def end(self) -> None:
        """Wake whoever waits in `ask`; it raises."""
        ...

    def close(self) -> None: ...


class Place(NamedTuple):
    """Where the model and a task's features and lower states lie."""

    model: Path
    features: tuple[Path, ...]
    lower: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """Rows of a re-run with their texts, as a grant takes them, and where the model is."""

    place: Place
    stored: StoredFeatures
    rows: Sequence[Example]
    settings: StudentSettings

    def grant(self, name: str, secret: str) -> Grant:
        """Return the grant: rows have numbers for ids, as a twin has the id of its row."""
        rows = [replace(row, id=str(at), group="") for at, row in enumerate(self.rows)]
        return Grant.of(
            name,
            rows,
            self.settings,
            self.place.model.name,
            kind="verification",
            features=[str(path) for path in self.place.features],
            limits=LIMITS,
            secret=secret,
        )


class StrongModels:
    """The strong models of a verifier: those of student servers, and those loaded here.

    Of several servers with the same model the one at `server` is used.
    """

    def __init__(self, server: Path | None = None) -> None:
        self._server = server
        self._lock, self._queue = threading.Lock(), DeviceQueue()
        self._loaded: dict[Path, LanguageModel] = {}
        self._device: DeviceLock | None = None
        self._n_users = 0

    @contextmanager
    def of(self, held: Held, grant: Grant) -> Iterator["Strong"]:
        """Yield the strong model of one re-run, and let it go at the end."""
        strong = Strong(lambda is_alive: self._found(held, grant, is_alive))
        try:
            yield strong
        finally:
            strong.close()

    def _found(self, held: Held, grant: Grant, is_alive: IsAlive) -> "_Served | _Here":
        model, name = held.place.model, grant.facts.name
        if (served := _served(model, grant, self._server)) is not None:
            LOG.info(
                "%s: asks %s on the student server at %s", grant.facts.name, model.name, served
            )
            return served
        LOG.info("%s: asks %s, loaded here", name, model.name)
        return self._here(held, grant, is_alive)

    def _here(self, held: Held, grant: Grant, is_alive: IsAlive) -> "_Here":
        from aarlab.testbed.models.cache import FeatureCache  # loads torch

        with self._lock:
            if not self._n_users and (device := _device()) is not None:
                self._device = _taken(device, is_alive)
            self._n_users += 1
            try:
                if held.place.model not in self._loaded:
                    self._loaded[held.place.model] = _load(held.place.model, self._queue)
            except BaseException:
                self._leave()
                raise
            model = self._loaded[held.place.model]
        key = model.compute.model_id(model.record)
        cache = FeatureCache([], key, None, lambda: model, lower=held.place.lower)
        client = Client(grant, held.stored, cache)
        return _Here(client, self._queue, self._left)

    def _left(self) -> None:
        with self._lock:
            self._leave()

    def _leave(self) -> None:
        """Give the device back, with the memory on it, if this was the last re-run there."""
        self._n_users -= 1
        if self._n_users or self._device is None:
            return
        self._loaded.clear()
        _free_memory()
        self._device.give()
        self._device = None


def _device() -> str | None:
    """Return the name of the device that models are loaded on, or None for the CPU."""
    from aarlab.students.serve import device_name  # loads torch
    from aarlab.students.settings import Device
    from aarlab.testbed.models.compute import choose
    from aarlab.testbed.settings import load_settings

    kind = choose(load_settings().device).device
    return None if kind == "cpu" else device_name(Device(kind))


def _taken(device: str, is_alive: IsAlive) -> DeviceLock:
    """Return the lock on a device once it is free; raises ClientGone when its run has ended."""
    lock, said = DeviceLock(DeviceSettings().device_locks, device), False
    while True:
        try:
            lock.take({"pid": os.getpid(), "holder": "a verifier"})
        except Conflict as error:
            if not is_alive():
                raise ClientGone("the run ended while it waited for the device") from error
            if not said:
                LOG.warning("a verified run waits for the device: %s", error)
                said = True
            time.sleep(LOOK_S)
        else:
            return lock


def _free_memory() -> None:
    """Return what the models that were let go had on the device."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _load(folder: Path, queue: DeviceQueue) -> "LanguageModel":
    from aarlab.testbed.models.compute import choose_by
    from aarlab.testbed.models.lm import LanguageModel
    from aarlab.testbed.settings import load_settings

    settings = load_settings()
    model = LanguageModel.load(folder, settings.torch_threads, compute=choose_by(settings))
    model.between = queue.breathe
    return model


class _Served:
    """A grant on a student server."""

    def __init__(self, socket: Path, locks: Path, grant: Grant, token: str) -> None:
        self._socket, self._locks, self._name, self._token = socket, locks, grant.facts.name, token

    def __str__(self) -> str:
        return str(self._socket)

    def open(self) -> Line:
        return Connection(self._socket, self._token)

    def close(self) -> None:
        with suppress(AarlabError), Operator(self._socket, self._locks) as operator:
            operator.withdraw(self._name)


def _served(model: Path, grant: Grant, first: Path | None) -> _Served | None:
    """Return the grant on a server of this user that holds the same model, or None.

    The server at `first` is asked first.
    """
    locks = DeviceSettings().device_locks
    for note in sorted(running(locks), key=lambda note: note.get("socket") != str(first)):
        with suppress(AarlabError, KeyError):  # it ends, or was started by another version
            socket = Path(note["socket"])
            with Operator(socket, locks) as operator:
                if operator.status()["keys"].get(model.name) == read_record(model).key:
                    return _Served(socket, locks, grant, operator.admit(grant))
    return None


class _Here:
    """A grant on a model of this process."""

    def __init__(self, client: Client, queue: DeviceQueue, left: Callable[[], None]) -> None:
        self._client, self._queue, self._left = client, queue, left

    def open(self) -> Line:
        return _Session(self._client, self._queue)

    def close(self) -> None:
        for session in list(self._client.sessions):
            session.close()
        del self._client  # it has the model
        self._left()


class _Session:
    """A session without a socket."""

    def __init__(self, client: Client, queue: DeviceQueue) -> None:
        self._ended = threading.Event()
        facts: dict[str, Any] = {"device": "here", "price": 0.0, "model": client.grant.facts.model}
        self._session = Session(client, queue, facts, lambda: not self._ended.is_set())
        self.compute = self._session.compute
        client.sessions.append(self._session)

    def ask(self, kind: str, facts: Mapping[str, Any] | None = None, **arrays: Any) -> Message:
        kind, told, given = self._session.answer(Message(kind, dict(facts or {}), arrays))
        if kind == "error":
            raise error_of(str(told["code"]), str(told["message"]))
        return Message(kind, told, given)

    def end(self) -> None:
        self._ended.set()

    def close(self) -> None:
        self._session.close()


class Strong:
    """The strong model of one re-run, found at the first session. Seeds share the questions."""

    def __init__(self, find: Callable[[IsAlive], _Served | _Here]) -> None:
        self._find, self._lock = find, threading.RLock()
        self._found: _Served | _Here | None = None
        self._shared: Line | None = None
        self._kept: dict[tuple[Any, ...], Any] = {}

    def find(self, is_alive: IsAlive) -> None:
        """Find the model before it is asked.

        Raises ClientGone where that takes longer than the run that wants it is alive.
        """
        with self._lock:
            if self._found is None:
                self._found = self._find(is_alive)

    def open(self) -> Line:
        """Return a new session."""
        with self._lock:
            if self._found is None:
                raise BadInput("the strong model is asked before it is found")
        return self._found.open()

    def features(self, template: Template | None, parts: Sequence[NDArray[np.int32]]) -> "Answers":
        """Return the model's features of all rows, or of their texts in a template.

        `parts` are the numbers of rows that are asked about together; each row is in one part.
        """
        if template is None:
            return Answers(self, parts, 0)
        rows_U = np.arange(sum(map(len, parts)), dtype=np.int32)
        first = self.shared("ask", asked_facts(template), rows=rows_U).facts["first"]
        return Answers(self, parts, first)

    def once(self, what: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what was made for all seeds, making it the first time."""
        with self._lock:
            if what not in self._kept:
                self._kept[what] = make()
            return self._kept[what]

    def shared(self, kind: str, facts: Mapping[str, Any], **arrays: Any) -> Message:
        """Ask on the session that all seeds share."""
        with self._lock:
            if self._shared is None:
                self._shared = self.open()
            return self._shared.ask(kind, facts, **arrays)

    def close(self) -> None:
        """End what is left and give the grant back."""
        with self._lock:
            if self._shared is not None:
                self._shared.close()
                self._shared = None
            if self._found is not None:
                self._found.close()


def asked_facts(template: Template) -> dict[str, Any]:
    """Return a template as a message has it."""
    words = None if template.words is None else list(template.words)
    return {"template": template.text, "words": words, "asked_swapped": template.swapped}


@dataclass(frozen=True, slots=True)
class Answers:
    """A FeatureSource for a `Table`: of all its rows, in their order.

    What the model computes for a row depends, in its last bits, on the rows beside it: answers to
    one prompt share its computation, and a batch is as wide as its longest row. So rows are asked
    about in the parts in which a method that holds the model meets them first: the train rows, then
    those of each delivery. The same batches give the same bits.
    """

    strong: Strong
    parts: Sequence[NDArray[np.int32]] = field(repr=False)
    first: int  # number of the first row in the session

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        return self._all("states", {"layer": layer})["states"]

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        found = self._all("logp", {})
        return AnswerLogp(*(found[name] for name in ("given", "alone", "tokens")))

    def layers(self, examples: Sequence[Example] = ()) -> tuple[int, ...]:
        raise BadInput("ask for a layer's states")

    def language_model(self) -> NoReturn:
        raise NotFound("the judge asks about the model's rows and does not hold the model")

    def lower_rows(self, items: object, layer: int) -> NoReturn:
        self.language_model()

    def _all(self, kind: str, facts: dict[str, Any]) -> dict[str, NDArray[Any]]:
        made = [
            self.strong.shared(kind, facts, rows=self.first + part_N).arrays
            for part_N in self.parts
        ]
        order_U = np.argsort(np.concatenate(self.parts))
        return {
            name: np.concatenate([arrays[name] for arrays in made])[order_U] for name in made[0]
        }
