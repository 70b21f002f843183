"""A method's side of the student server: rows, students, trainers and texts, by name alone.

    with Client.open(path, token) as client:
        student = client.students.new().fit(client.rows, weak_labels)
        probs = student.predict_proba(client.rows)

`client.students` is a `StudentFactory`: whatever runs with one runs with it. This module holds no
text and no model, and imports no torch.

Not covered: a server that is not to be trusted. What it sends is believed.

Legend: B rows of a call, N rows, A answers per row, D state width.
"""

import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import (
    AarlabError,
    BadInput,
    BudgetExhausted,
    MethodFailed,
    NotFound,
    Unreachable,
    error_of,
)
from aarlab.core.types import BlindRow, Example
from aarlab.students.rows import packed_rows
from aarlab.testbed.running.channel import Channel, ChannelClosed, Message
from aarlab.testbed.students.features import AnswerLogp
from aarlab.testbed.students.options import (
    AdapterOptions,
    GenerateOptions,
    HeadOptions,
    LmOptions,
)
from aarlab.testbed.students.student import Compute, Student, StudentFactory
from aarlab.testbed.students.train import Floats, Head, expit

MAX_ANSWER = 2**31
SOCKET_PATH = 107  # bytes that the system takes
WHERE_THE_MODEL_IS = (
    "the model is not given to methods here: ask it (student.generate, student.ask, student.tuned, "
    "student.trainer), or run it where the model is: aarlab testbed run"
)


def connected(path: Path) -> socket.socket:
    """Return a socket connected to a student server's; raises Unreachable or BadInput."""
    if len(str(path).encode()) > SOCKET_PATH:
        raise BadInput(f"{path}: a socket's path has at most {SOCKET_PATH} bytes; choose another")
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.connect(str(path))
    except OSError as error:
        end.close()
        raise Unreachable(
            f"no student server at {path} ({error.strerror}): start one with aarlab students serve"
        ) from error
    return end


class Connection:
    """Ask and be answered, from any thread of this process."""

    def __init__(self, path: Path, token: str) -> None:
        self._path, self._lock = path, threading.Lock()
        self._channel = Channel(connected(path), MAX_ANSWER)
        self._dropped: deque[int] = deque()
        self.compute = Compute()
        try:
            self.greeting = self.ask("hello", {"token": token})
        except AarlabError:
            self.close()
            raise

    def ask(self, kind: str, facts: Mapping[str, Any] | None = None, **arrays: Any) -> Message:
        """Return the server's answer.

        Raises the error that it answered with, and Unreachable when it is gone.
        """
        with self._lock:
            dropped = [self._dropped.popleft() for _ in range(len(self._dropped))]
            more = {"free": dropped} if dropped else {}
            try:
                self._channel.send(kind, {**(facts or {}), **more}, **arrays)
                message = self._channel.receive()
            except ChannelClosed as error:
                raise Unreachable(
                    f"the student server at {self._path} ended, or ended this client; what it held "
                    "is gone: connect again and run the method from its start"
                ) from error
            self._count(message.facts.get("compute", {}))
        if message.kind == "error":
            raise error_of(str(message.facts.get("code")), str(message.facts.get("message")))
        return message

    def drop(self, handle: int) -> None:
        """Have the server free a handle with the next call. Safe while memory is collected."""
        self._dropped.append(handle)

    def end(self) -> None:
        """Wake whoever waits for an answer: Unreachable."""
        self._channel.end()

    def close(self) -> None:
        self._channel.close()

    def _count(self, spent: Mapping[str, Any]) -> None:
        for name, value in spent.items():
            setattr(self.compute, name, value)


class Asks(Protocol):
    """What students need of a connection."""

    def ask(self, kind: str, facts: Mapping[str, Any] | None = None, **arrays: Any) -> Message: ...

    def drop(self, handle: int) -> None: ...


class NamesRows(Protocol):
    def of(self, rows: Sequence[Example]) -> dict[str, NDArray[Any]]:
        """Return the arrays that name rows in a message."""
        ...


class Owner:
    """Something on the server, freed when nothing here refers to it any more."""

    def __init__(self, connection: Asks, handle: int) -> None:
        self.handle = handle
        finalize(self, connection.drop, handle).atexit = False


class Place(NamedTuple):
    """Where a row lies on the server. `owner` keeps it there, None for rows of the grant."""

    number: int
    swapped: bool
    owner: Owner | None = None


class ServedRow(BlindRow):
    """A row on the server: an id, a group and keys, without texts."""

    __slots__ = ("place",)
    place: Place

    def __init__(self, id: str, group: str, keys: tuple[str, ...], place: Place) -> None:
        super().__init__(id, group, keys)
        object.__setattr__(self, "place", place)

    def swapped(self) -> "ServedRow":
        turned = self.place._replace(swapped=not self.place.swapped)
        return ServedRow(self.id, self.group, self.keys[::-1], turned)

    def __reduce__(self) -> Any:
        raise TypeError("a row of a student server belongs to its connection")


class Names:
    """Places of rows, by what a method has in its hands."""

    def __init__(
        self, connection: Connection, rows: Sequence[ServedRow], reads_texts: bool
    ) -> None:
        self._connection, self._reads_texts = connection, reads_texts
        self._by_keys = {keys: row.place for row in rows for keys in (row.keys,)}
        self._by_keys |= {row.keys[::-1]: row.swapped().place for row in rows if len(row.keys) == 2}
        self._known: dict[Example, Place] = {}

    def of(self, rows: Sequence[Example]) -> dict[str, NDArray[Any]]:
        """Return the arrays that name rows in a message; brings own texts where that is allowed.

        Raises NotFound for a row that this client may not use.
        """
        places = [self._place(row) for row in rows]
        if unknown := [row for row, place in zip(rows, places, strict=True) if place is None]:
            self._bring(list(dict.fromkeys(unknown)))
            places = [self._place(row) for row in rows]
        found = [place for place in places if place is not None]
        return {
            "rows": np.array([place.number for place in found], np.int32),
            "swapped": np.array([place.swapped for place in found], np.bool_),
        }

    def _place(self, row: Example) -> Place | None:
        if isinstance(row, ServedRow):
            return row.place
        if (known := self._known.get(row)) is not None:
            return known
        place = self._by_keys.get(row.keys)
        if place is not None:
            self._known[row] = place
        return place

    def _bring(self, rows: list[Example]) -> None:
        if not self._reads_texts or any(isinstance(row, BlindRow) for row in rows):
            raise NotFound(
                f"row {rows[0].id!r} is not among the rows that this client may use; it has no "
                "stored features here, and new texts are made by client.ask(rows, template)"
            )
        try:
            self._put(rows)
        except BudgetExhausted:  # what was brought earlier may be brought again
            self._known = {r: p for r, p in self._known.items() if p.owner is None}
            self._put(rows)

    def _put(self, rows: list[Example]) -> None:
        for n_answers in (1, 2):
            some = [row for row in rows if len(row.answers) == n_answers]
            if not some:
                continue
            sent = [Example(str(at), "", r.prompt, r.answers) for at, r in enumerate(some)]
            facts = self._connection.ask("put", {"n_answers": n_answers}, **packed_rows(sent)).facts
            owner = Owner(self._connection, facts["handle"])
            for at, row in enumerate(some):
                self._known[row] = Place(facts["first"] + at, False, owner)


class ServedFeatures:
    """A FeatureSource over the connection: of the shared model, or of one trained on texts."""

    def __init__(self, connection: Asks, names: NamesRows, model: "Owner | None" = None) -> None:
        self.connection, self.names, self.model = connection, names, model

    def on(self, model: "Owner") -> "ServedFeatures":
        """Return the features of a model that was trained on texts."""
        return ServedFeatures(self.connection, self.names, model)

    @property
    def facts(self) -> dict[str, int]:
        """Return what names the model in a message."""
        return {} if self.model is None else {"model": self.model.handle}

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        facts = {"layer": layer, **self.facts}
        return self.connection.ask("states", facts, **self.names.of(examples)).arrays["states"]

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        found = self.connection.ask("logp", self.facts, **self.names.of(examples)).arrays
        return AnswerLogp(found["given"], found["alone"], found["tokens"])

    def layers(self, examples: Sequence[Example] = ()) -> tuple[int, ...]:
        if not examples:
            return tuple(self.connection.ask("info").facts["layers"])
        names = self.names.of(examples)
        return tuple(self.connection.ask("layers", self.facts, **names).facts["layers"])


@dataclass(slots=True)
class ServedStudents(StudentFactory):
    """A StudentFactory whose students are on the server. Compute is counted there alone."""

    def new(self, options: HeadOptions | None = None) -> Student:
        """Return an untrained student; without options, with the task's default adaptation."""
        return ServedStudent(self, options or self.options)

    def language_model(self) -> Any:
        raise MethodFailed(WHERE_THE_MODEL_IS)

    def ask(
        self,
        inputs: Sequence[Example],
        template: str,
        words: Sequence[str] | None = None,
        swapped: bool = False,
        texts: Sequence[Any] = (),
    ) -> tuple[Example, ...]:
        served = self.served
        facts = asked_facts(template, words, swapped) | {"texts": [some.handle for some in texts]}
        made = served.connection.ask("ask", facts, **served.names.of(inputs))
        owner = Owner(served.connection, made.facts["handle"])
        return self._rows_of(made, owner, inputs, words)

    def _rows_of(
        self,
        made: Message,
        owner: Owner,
        inputs: Sequence[Example],
        words: Sequence[str] | None,
    ) -> tuple[ServedRow, ...]:
        """Return the rows of a template that the other side made about these rows."""
        first = made.facts["first"]
        n_keys = 2 if words is None or len(words) == 2 else len(words) or len(inputs[0].keys)
        return tuple(
            ServedRow(
                row.id,
                row.group,
                tuple(f"{first + at}.{key}" for key in range(n_keys)),
                Place(first + at, False, owner),
            )
            for at, row in enumerate(inputs)
        )

    def generate(
        self,
        inputs: Sequence[Example],
        template: str,
        n: int = 1,
        options: GenerateOptions | None = None,
    ) -> list[Any]:
        served = self.served
        given = (options or GenerateOptions()).model_dump(mode="json")
        facts = {**asked_facts(template, None, False), "n": n, "options": given, **served.facts}
        made = served.connection.ask("generate", facts, **served.names.of(inputs)).facts
        return [ServedTexts(served.connection, handle) for handle in made["handles"]]

    def tuned(
        self,
        inputs: Sequence[Example],
        options: LmOptions,
        texts: Any = None,
        weights_N: NDArray[np.floating] | None = None,
    ) -> "StudentFactory":
        served = self.served
        facts = {"options": options.model_dump(mode="json"), **served.facts}
        facts["texts"] = None if texts is None else texts.handle
        arrays = {} if weights_N is None else {"weights": numbers(weights_N)}
        made = served.connection.ask("tune", facts, **served.names.of(inputs), **arrays).facts
        return replace(self, source=served.on(Owner(served.connection, made["handle"])))

    def trainer(self, inputs: Sequence[Example], options: HeadOptions | None = None) -> Any:
        return ServedTrainer(self, options or self.options, inputs)

    @contextmanager
    def counted(self, rows_forwarded: int = 0, rows_trained: int = 0) -> Iterator[None]:
        yield

    @property
    def served(self) -> ServedFeatures:
        """Return the connection's features; MethodFailed for a source of the method's own."""
        if not isinstance(self.source, ServedFeatures):
            raise MethodFailed(WHERE_THE_MODEL_IS)
        return self.source


class ServedStudent(Student):
    """A student on the server: the interface of `Student`, with every adaptation."""

    def __init__(self, factory: ServedStudents, options: HeadOptions) -> None:
        super().__init__(factory, options)
        self._served = factory.served
        handle = self._served.connection.ask("new", _wanted(factory, options)).facts["handle"]
        self._owner, self._is_trained = Owner(self._served.connection, handle), False

    def _train(
        self,
        inputs: Sequence[Example],
        targets_N: NDArray[np.floating],
        weights_N: NDArray[np.floating] | None,
        resume: bool,
        options: HeadOptions,
    ) -> "ServedStudent":
        facts: dict[str, Any] = {"handle": self._owner.handle}
        if resume:
            facts["options"] = options.model_dump(mode="json")
        arrays = {"targets": numbers(targets_N)}
        if weights_N is not None:
            arrays["weights"] = numbers(weights_N)
        names = self._served.names.of(inputs)
        self._served.connection.ask("go_on" if resume else "fit", facts, **names, **arrays)
        self._head, self._is_trained = None, True
        return self

    @property
    def head(self) -> Head:
        if self._head is None:
            answer = self._served.connection.ask("head", {"handle": self._owner.handle})
            found, hidden = answer.arrays, answer.facts["hidden"]
            losses = tuple(found["losses"].tolist())
            self._head = Head(found["mean"], found["scale"], found["theta"], hidden, losses)
        return self._head

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.float64]:
        """Return P(label 1), shape (N,)."""
        names = self._served.names.of(inputs)
        answer = self._served.connection.ask("predict", {"handle": self._owner.handle}, **names)
        return answer.arrays["probs"]


class ServedTrainer:
    """A student's weights, moved by gradients of its logits that you compute, or at random."""

    def __init__(
        self, factory: ServedStudents, options: HeadOptions, rows: Sequence[Example]
    ) -> None:
        self._served = factory.served
        names = self._served.names.of(rows)
        answer = self._served.connection.ask("trainer", _wanted(factory, options), **names)
        self._owner = Owner(self._served.connection, answer.facts["handle"])

    def forward(self, rows: Sequence[Example]) -> Floats:
        """Return log-odds of label 1, shape (B,)."""
        return self._ask("forward", None, **self._served.names.of(rows)).arrays["logits"]

    def backward(self, grad_B: NDArray[np.floating]) -> None:
        """Add the gradient of sum(grad * logit) over the rows of the last `forward`."""
        self._ask("backward", grad=np.asarray(grad_B, np.float32))

    def step(self, lr: float) -> None:
        """Do one step of AdamW with the gradients since the last one."""
        self._ask("step", {"lr": float(lr)})

    def perturb(self, seed: int, scale: float) -> None:
        """Add `scale` times standard normal noise of this seed to all weights.

        Use `save` and `restore` to take it back: subtracting it leaves a rounding error.
        """
        self._ask("perturb", {"seed": int(seed), "scale": float(scale)})

    def save(self) -> Owner:
        """Return the weights and the optimiser's state as they are now, kept on the server."""
        return Owner(self._served.connection, self._ask("save").facts["handle"])

    def restore(self, saved: Owner) -> None:
        """Go back to what `save` kept."""
        self._ask("restore", {"saved": saved.handle})

    def predict_proba(self, inputs: Sequence[Example]) -> NDArray[np.float64]:
        """Return P(label 1), shape (N,)."""
        return np.asarray(expit(self.forward(inputs)), np.float64)

    def _ask(self, kind: str, facts: Mapping[str, Any] | None = None, **arrays: Any) -> Message:
        facts = {"handle": self._owner.handle, **(facts or {})}
        return self._served.connection.ask(kind, facts, **arrays)


class ServedTexts(Owner):
    """One generated text for each row of a call. The texts stay on the server."""


@dataclass(slots=True)
class Client:
    """An open connection. `rows` are those of the grant, `students` makes students of them."""

    connection: Connection
    rows: tuple[ServedRow, ...]
    students: ServedStudents

    @classmethod
    def open(cls, path: Path, token: str) -> "Client":
        """Connect to the server at a socket; raises Unreachable or Forbidden."""
        connection = Connection(path, token)
        facts, arrays = connection.greeting.facts, connection.greeting.arrays
        triples = zip(*(arrays[name].tolist() for name in ("ids", "groups", "keys")), strict=True)
        rows = tuple(
            ServedRow(
                id.decode(), group.decode(), tuple(k.decode() for k in keys), Place(number, False)
            )
            for number, (id, group, keys) in enumerate(triples)
        )
        names, adapter = Names(connection, rows, facts["reads_texts"]), facts["adapter"]
        students = ServedStudents(
            ServedFeatures(connection, names),
            facts["layer"],
            HeadOptions(**facts["head"]),
            connection.compute,
            None if adapter is None else AdapterOptions(**adapter),
        )
        return cls(connection, rows, students)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; the server frees all that this client held."""
        self.connection.close()

    def info(self) -> dict[str, Any]:
        """Return layers, width, context, device and price in dollars an hour."""
        return self.connection.ask("info").facts

    def usage(self) -> dict[str, Any]:
        """Return device seconds, rows trained and forwarded, handles and bytes held."""
        return self.connection.ask("usage").facts

    def ask(
        self,
        rows: Sequence[Example],
        template: str,
        words: Sequence[str] | None = None,
        swapped: bool = False,
        texts: Sequence[ServedTexts] = (),
    ) -> tuple[Example, ...]:
        """Return rows with another text, filled in on the server: see `templates.Template`.

        `{text}` is that of `texts[0]` for the row, `{text2}` that of `texts[1]`, up to four. They
        are rows like others: they have states, and students learn from them.
        """
        return self.students.ask(rows, template, words, swapped, texts)

    def zero_shot(
        self, rows: Sequence[Example], template: str | None = None, swapped: bool = False
    ) -> AnswerLogp:
        """Return log-likelihoods of the answers, or of the words that may follow a template."""
        asked = rows if template is None else self.ask(rows, template, swapped=swapped)
        return self.students.zero_shot(asked)

    def generate(
        self,
        rows: Sequence[Example],
        template: str,
        n: int = 1,
        options: GenerateOptions | None = None,
    ) -> list[ServedTexts]:
        """Have the strong model continue each row's filled template `n` times.

        Each item of the list has one text for each row.
        """
        return self.students.generate(rows, template, n, options)

    def trainer(self, rows: Sequence[Example], options: HeadOptions | None = None) -> ServedTrainer:
        """Return a trainer of fresh weights with the task's adaptation; `rows` as in `fit`."""
        return ServedTrainer(self.students, options or self.students.options, rows)


def asked_facts(template: str, words: Sequence[str] | None, swapped: bool) -> dict[str, Any]:
    return {
        "template": template,
        "words": None if words is None else list(words),
        "asked_swapped": swapped,
    }


def _wanted(factory: ServedStudents, options: HeadOptions) -> dict[str, Any]:
    adapter = factory.adapter
    return {
        **factory.served.facts,
        "layer": factory.layer,
        "adapter": None if adapter is None else adapter.model_dump(mode="json"),
        "options": options.model_dump(mode="json"),
    }


def numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput(f"targets and weights must be numbers: {error}") from error
