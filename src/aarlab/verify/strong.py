"""The strong model of verified runs, on the trusted side: a student server's, or this process's.

A task whose methods may ask the model names it in its settings. One grant holds the rows of a
re-run with their texts; each seed has a session of its own, and so has what all seeds share. A
server of this user that holds the same model is used. Without one the model is loaded here, once,
when a method first asks for it: a task on stored features loads nothing.

Covered: a server that ends in the middle raises Unreachable; the re-run is begun again, once.
Not covered: models loaded here are on no device lock, as are those of open runs.
Legend: U different rows of a re-run, A answers a row, D state width.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import AarlabError, BadInput, NotFound, error_of
from aarlab.core.types import Example
from aarlab.students.calls import Client, Session
from aarlab.students.client import Connection
from aarlab.students.grants import Grant, Limits, Operator
from aarlab.students.queue import DeviceQueue
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
    """The strong models of a verifier: those of student servers, and those loaded here."""

    def __init__(self) -> None:
        self._lock, self._queue = threading.Lock(), DeviceQueue()
        self._loaded: dict[Path, LanguageModel] = {}

    @contextmanager
    def of(self, held: Held, grant: Grant) -> Iterator["Strong"]:
        """Yield the strong model of one re-run, and let it go at the end."""
        strong = Strong(lambda: self._found(held, grant))
        try:
            yield strong
        finally:
            strong.close()

    def _found(self, held: Held, grant: Grant) -> "_Served | _Here":
        served = _served(held.place.model, grant)
        return served or self._here(held, grant)

    def _here(self, held: Held, grant: Grant) -> "_Here":
        from aarlab.testbed.models.cache import FeatureCache  # loads torch

        with self._lock:
            if held.place.model not in self._loaded:
                self._loaded[held.place.model] = _load(held.place.model, self._queue)
        model = self._loaded[held.place.model]
        key = model.compute.model_id(model.record)
        cache = FeatureCache([], key, None, lambda: model, lower=held.place.lower)
        client = Client(grant, held.stored, cache)
        return _Here(client, self._queue)


def _load(folder: Path, queue: DeviceQueue) -> "LanguageModel":
    from aarlab.testbed.models.compute import Training, choose
    from aarlab.testbed.models.lm import LanguageModel
    from aarlab.testbed.settings import load_settings

    settings = load_settings()
    training = Training(settings.train_tokens, settings.checkpoint, settings.compile)
    compute = choose(settings.device, settings.dtype, settings.batch_tokens, training)
    model = LanguageModel.load(folder, settings.torch_threads, compute=compute)
    model.between = queue.breathe
    return model


class _Served:
    """A grant on a student server."""

    def __init__(self, socket: Path, locks: Path, grant: Grant, token: str) -> None:
        self._socket, self._locks, self._name, self._token = socket, locks, grant.facts.name, token

    def open(self) -> Line:
        return Connection(self._socket, self._token)

    def close(self) -> None:
        with suppress(AarlabError), Operator(self._socket, self._locks) as operator:
            operator.withdraw(self._name)


def _served(model: Path, grant: Grant) -> _Served | None:
    """Return the grant on a server of this user that holds the same model, or None."""
    locks = DeviceSettings().device_locks
    for note in running(locks):
        with suppress(AarlabError, KeyError):  # it ends, or was started by another version
            socket = Path(note["socket"])
            with Operator(socket, locks) as operator:
                if operator.status()["keys"].get(model.name) == read_record(model).key:
                    return _Served(socket, locks, grant, operator.admit(grant))
    return None


class _Here:
    """A grant on a model of this process."""

    def __init__(self, client: Client, queue: DeviceQueue) -> None:
        self._client, self._queue = client, queue

    def open(self) -> Line:
        return _Session(self._client, self._queue)

    def close(self) -> None:
        for session in list(self._client.sessions):
            session.close()


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

    def __init__(self, find: Callable[[], _Served | _Here]) -> None:
        self._find, self._lock = find, threading.RLock()
        self._found: _Served | _Here | None = None
        self._shared: Line | None = None
        self._kept: dict[tuple[Any, ...], Any] = {}

    def open(self) -> Line:
        """Return a new session."""
        with self._lock:
            if self._found is None:
                self._found = self._find()
        return self._found.open()

    def features(self, template: Template | None, n_rows: int, n_train: int) -> "Answers":
        """Return the model's features of all rows, or of their texts in a template.

        The train rows come first.
        """
        rows_U = np.arange(n_rows, dtype=np.int32)
        if template is not None:
            first = self.shared("ask", asked_facts(template), rows=rows_U).facts["first"]
            rows_U = np.arange(first, first + n_rows, dtype=np.int32)
        return Answers(self, rows_U, n_train)

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
            if self._found is not None:
                self._found.close()


def asked_facts(template: Template) -> dict[str, Any]:
    """Return a template as a message has it."""
    words = None if template.words is None else list(template.words)
    return {"template": template.text, "words": words, "asked_swapped": template.swapped}


@dataclass(frozen=True, slots=True)
class Answers:
    """A FeatureSource for a `Table`: of all its rows, in their order.

    The train rows are asked about by themselves, as a method does where it holds the model: the
    same batches give the same bits.
    """

    strong: Strong
    rows_U: NDArray[np.int32] = field(repr=False)
    n_train: int

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        return np.concatenate([one["states"] for one in self._both("states", {"layer": layer})])

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        found = self._both("logp", {})
        names = ("given", "alone", "tokens")
        return AnswerLogp(*(np.concatenate([one[name] for one in found]) for name in names))

    def layers(self, examples: Sequence[Example] = ()) -> tuple[int, ...]:
        raise BadInput("ask for a layer's states")

    def language_model(self) -> NoReturn:
        raise NotFound("the judge asks about the model's rows and does not hold the model")

    def lower_rows(self, items: object, layer: int) -> NoReturn:
        self.language_model()

    def _both(self, kind: str, facts: dict[str, Any]) -> list[dict[str, NDArray[Any]]]:
        parts = (self.rows_U[: self.n_train], self.rows_U[self.n_train :])
        return [self.strong.shared(kind, facts, rows=part).arrays for part in parts if len(part)]
