"""What one client may ask, call by call, over one connection: its session.

A session has handles of its own: students, trainers, saved weights, generated texts, rows of
templates, models that it trained. Another session's handle does not exist for it. When the
connection ends all of it is freed. Every call that may use the device takes a turn; its answer says
what was spent. What a call needs while it runs, and its answer until that is taken, count against
the client's bytes: one that sends calls and reads nothing holds no more than one that reads.

Covered: unknown rows and handles, values of another type, quotas. An error's message holds no part
of a row's texts, and no fault of the server itself.
Not covered: how long a call takes can tell what others do.

Legend: B rows of a call, N rows of the grant, A answers per row, D state width.
"""

import logging
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import AarlabError, BadInput, BudgetExhausted, MethodFailed, NotFound
from aarlab.core.types import Example
from aarlab.students.grants import Grant
from aarlab.students.queue import ClientGone, DeviceQueue, used_up
from aarlab.students.rows import unpacked_rows
from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.running.channel import Message
from aarlab.testbed.students.features import AnswerLogp, StoredFeatures
from aarlab.testbed.students.generation import Texts
from aarlab.testbed.students.options import (
    AdapterOptions,
    GenerateOptions,
    HeadOptions,
    LmOptions,
)
from aarlab.testbed.students.student import Compute, Student, StudentFactory
from aarlab.testbed.students.trainer import Saved, Trainer, checked_slopes, trainer_of

LOG = logging.getLogger("aarlab.students")
MAX_REPLY, MAX_ROWS = 2**30, 200_000  # bytes of an answer, rows of a call
ROW_BYTES = 500  # of a row on the server, beside its texts
WINDOW = 20  # characters of a text in an error message that are too many
KEY = 16  # bytes of a drawn key, in hexadecimal
Arrays = dict[str, NDArray[Any]]
Answer = tuple[dict[str, Any], Arrays]


@dataclass(slots=True)
class Client:
    """One grant, what its sessions hold together, and what ended sessions have spent.

    Numbers change in the sessions' threads, a few additions at a time: `lock` keeps them whole.
    """

    grant: Grant
    stored: StoredFeatures | None
    model: FeatureCache | None
    secret: bytes = b""
    compute: Compute = field(default_factory=Compute)
    sessions: list["Session"] = field(default_factory=list)
    n_calls: int = 0
    n_handles: int = 0
    n_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.secret = self.grant.facts.secret.encode() or secrets.token_bytes(16)

    @property
    def name(self) -> str:
        return self.grant.facts.name

    def take(self, n_handles: int, n_bytes: int) -> None:
        """Count what a session holds more; raises BudgetExhausted over the grant's limits."""
        limits = self.grant.facts.limits
        with self.lock:
            if n_handles > 0 and self.n_handles + n_handles > limits.handles:
                raise BudgetExhausted(
                    f"over {limits.handles} handles: drop students, trainers and texts that are no "
                    "longer needed"
                )
            if n_bytes > 0 and self.n_bytes + n_bytes > limits.bytes:
                raise BudgetExhausted(
                    f"over {limits.bytes / 1e6:g} MB on the server: drop students, trainers and "
                    "texts that are no longer needed, send fewer rows at once, or train fewer "
                    "weights (adapter blocks, rank)"
                )
            self.n_handles += n_handles
            self.n_bytes += n_bytes


class Source:
    """Features of a session's rows: stored ones, those of the shared cache, and its own in memory.

    `own` says that the rows of the present call are the session's own texts. They leave no trace
    in the shared cache.
    """

    def __init__(self, client: Client, own_bytes: int) -> None:
        self._stored, self._shared = client.stored, client.model
        self._own_bytes, self._own = own_bytes, self._fresh()
        self.own = False

    def _fresh(self) -> FeatureCache | None:
        shared = self._shared
        if shared is None:
            return None
        return FeatureCache([], shared.model, None, shared.language_model)

    def trim(self) -> None:
        """Forget features of the session's own texts beyond its share of the quota."""
        if self._own is not None and self._own.held_bytes() > self._own_bytes:
            self._own = self._fresh()

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        if self._stored is not None and (not self.own or self._own is None):
            try:
                return self._stored.states(examples, layer)
            except (NotFound, BadInput):
                if self._shared is None:
                    raise
        return self._cache().states(examples, layer)

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        if self._stored is not None and (not self.own or self._own is None):
            try:
                return self._stored.answer_logp(examples)
            except NotFound:
                if self._shared is None:
                    raise
        return self._cache().answer_logp(examples)

    def layers(self, examples: Sequence[Example]) -> tuple[int, ...]:
        stored = () if self._stored is None else self._stored.layers()
        cached = () if self._shared is None else self._cache().layers(examples)
        return tuple(sorted({*stored, *cached}))

    def language_model(self) -> Any:
        return self._cache().language_model()

    def lower_rows(self, items: Any, layer: int) -> Any:
        return self._cache().lower_rows(items, layer)

    def _cache(self) -> FeatureCache:
        cache = self._own if self.own else self._shared
        if cache is None:
            raise MethodFailed(
                "this server has stored features of these rows only, not the model; run it where "
                "the model is: aarlab testbed run"
            )
        return cache


@dataclass(slots=True)
class Block:
    """Rows that a session made: templates filled in, or texts of its own."""

    numbers: range


@dataclass(slots=True)
class Kept:
    """Weights that a trainer saved."""

    trainer: int
    saved: Saved


@dataclass(slots=True)
class Model:
    """A strong model that a session trained on texts, and its features."""

    source: FeatureCache
    n_weights: int  # bytes of the weights that differ from the shared model's


Thing = Student | Trainer | Kept | Texts | Block | Model


@dataclass(slots=True)
class Handle:
    """A thing and its size; `below` is that of the model it stands on, which it keeps alive."""

    thing: Thing
    n_bytes: int
    below: int = 0


class Session:
    """One connection of a client. `is_alive` says whether its other end is still there."""

    def __init__(
        self,
        client: Client,
        queue: DeviceQueue,
        facts: dict[str, Any],
        is_alive: Callable[[], bool],
    ) -> None:
        self._client, self._queue, self._facts = client, queue, facts
        self._is_alive = is_alive
        limits = client.grant.facts.limits
        self._source = Source(client, limits.bytes // limits.sessions)
        self.compute = Compute()
        self._factory = StudentFactory(
            self._source,
            client.grant.facts.layer,
            client.grant.facts.head,
            self.compute,
            client.grant.facts.adapter,
            queue.breathe,
        )
        self._handles: dict[int, Handle] = {}
        self._last_handle = 0
        self._tuned = set[int]()  # models that the present call used
        self.n_turns = 0  # on the device
        self.is_beside = False  # the last call took none
        self._in_call = 0  # bytes of the present call and its answer
        self._width = 0
        self._own: dict[int, Example] = {}
        self._last_own = len(client.grant.rows)
        self._shown: Sequence[Example] = ()

    @property
    def name(self) -> str:
        """The client's."""
        return self._client.name

    # ------------------------------------------------------------ answering
    def greeting(self) -> Answer:
        """Return what a client learns of its grant: settings, and names of its rows."""
        facts, rows = self._client.grant.facts, self._client.grant.rows
        shape = (len(rows), facts.n_answers)
        if facts.reads_texts:
            keys_NA = np.array([row.keys for row in rows], "S")
        else:
            drawn = secrets.token_bytes(shape[0] * shape[1] * KEY // 2).hex().encode()
            keys_NA = np.frombuffer(drawn, f"S{KEY}")
        arrays: Arrays = {
            "ids": np.array([row.id.encode() for row in rows]),
            "groups": np.array([row.group.encode() for row in rows]),
            "keys": keys_NA.reshape(shape),
        }
        told = {
            "layer": facts.layer,
            "head": facts.head.model_dump(mode="json"),
            "adapter": None if facts.adapter is None else facts.adapter.model_dump(mode="json"),
            "reads_texts": facts.reads_texts,
        }
        return told, {name: _filled(array) for name, array in arrays.items()}

    def answer(self, message: Message) -> tuple[str, dict[str, Any], Arrays]:
        """Return kind, facts and arrays of the answer to any message; ClientGone propagates."""
        self._source.own = False
        self._client.n_calls += 1
        facts: dict[str, Any]
        kind, arrays = "ok", Arrays()
        try:
            self._free(message.facts.get("free", []))
            call = CALLS.get(message.kind)
            if call is None:
                raise BadInput(f"no call {message.kind[:40]!r}; there are {', '.join(CALLS)}")
            facts, arrays = call(self, message)
            if sum(array.nbytes for array in arrays.values()) > MAX_REPLY:
                raise BadInput("the answer is too large: ask for fewer rows at once")
        except ClientGone:
            raise
        except AarlabError as error:
            kind, facts = "error", {"code": error.code, "message": self._safe(str(error))}
        except Exception as error:
            LOG.exception("%s: %s", self._client.name, message.kind[:40])
            kind, facts = "error", _fault(error)
        if self._source.own:
            self._source.trim()
        for number in self._tuned & self._handles.keys():
            self._weigh(number)
        self._tuned.clear()
        if kind != "ok":
            self.answered()
        facts["compute"] = self.compute.as_dict()
        return kind, facts, arrays if kind == "ok" else {}

    def answered(self) -> None:
        """Free what the last call needed: its answer was taken, or will not be."""
        self._client.take(0, -self._in_call)
        self._in_call = 0

    def close(self) -> None:
        """Free all that the session holds, and book what it spent."""
        self.answered()
        self._free(list(self._handles))
        with self._client.lock:
            if self in self._client.sessions:
                self._client.sessions.remove(self)
                self._client.compute = _sum([self._client.compute, self.compute])

    def _safe(self, said: str) -> str:
        """Return an error message, unless it holds a part of a text of the call's rows."""
        said = said[:1000]
        texts = [text for row in self._shown for text in (row.prompt, *row.answers)]
        texts += [repr(text)[1:-1] for text in texts]  # as messages quote them
        parts = {said[at : at + WINDOW] for at in range(max(len(said) - WINDOW + 1, 1))}
        whole = any(text.strip() in said for text in texts if len(text.strip()) > 3)
        if whole or any(part in text for text in texts for part in parts if len(part) == WINDOW):
            LOG.warning("%s: %s", self._client.name, said)
            return "the call failed for one of its rows; the server's log says why"
        return said

    @contextmanager
    def _device(self) -> Iterator[None]:
        """Hold the device, and count its seconds. Raises BudgetExhausted when they are used up."""
        facts = self._client.grant.facts
        limit_s = facts.limits.device_s
        if limit_s is not None and self._queue.used_s(facts.name) >= limit_s:
            raise BudgetExhausted(used_up(facts.name, limit_s))
        before_s, turn = self.compute.seconds, None
        self.n_turns += 1
        try:
            with self._queue.turn(facts.name, facts.kind, self._is_alive, limit_s) as turn:
                yield
        finally:  # students add the time that they waited between steps
            self.compute.seconds = before_s + (0.0 if turn is None else turn.device_s)

    # ------------------------------------------------------------ rows and handles
    def _rows(self, message: Message) -> list[Example]:
        """Return the rows that a message names; raises NotFound for others."""
        numbers_B, swapped_B = message.arrays.get("rows"), message.arrays.get("swapped")
        if numbers_B is None or numbers_B.dtype != np.int32 or numbers_B.ndim != 1:
            raise BadInput("rows: expected numbers of rows")
        if len(numbers_B) > MAX_ROWS:
            raise BadInput(f"rows: {len(numbers_B):,} at once; ask for up to {MAX_ROWS:,}")
        if swapped_B is not None and (
            swapped_B.dtype != np.bool_ or swapped_B.shape != numbers_B.shape
        ):
            raise BadInput("swapped: expected one truth value for each row")
        granted, n_granted = self._client.grant.rows, len(self._client.grant.rows)
        rows = list[Example]()
        for number in numbers_B.tolist():
            if 0 <= number < n_granted:
                rows.append(granted[number])
            elif number in self._own:
                rows.append(self._own[number])
                self._source.own = True
            else:
                raise NotFound(f"there is no row {number} among those that this client may use")
        if swapped_B is not None:
            rows = [r.swapped() if s else r for r, s in zip(rows, swapped_B.tolist(), strict=True)]
        self._shown = rows
        return rows

    def _hold(self, n_bytes: int) -> None:
        """Count bytes of this call until it is answered; raises BudgetExhausted."""
        self._client.take(0, n_bytes)
        self._in_call += n_bytes

    def _states_bytes(self, rows: Sequence[Example]) -> int:
        """Return the size of the rows' states in one layer. The device is held."""
        if not self._width:
            facts, model = self._client.grant, self._client.model
            self._width = (
                self._source.states(facts.rows[:1], self._factory.layer).shape[2]
                if model is None
                else model.language_model().decoder.shape.width
            )
        return 4 * self._width * sum(len(row.answers) for row in rows)

    def _training_bytes(self, student: Student) -> int:
        """Return what training a student's weights needs: them, gradients, and two moments."""
        weigh: Callable[[], int] | None = getattr(student, "weight_bytes", None)
        return 0 if weigh is None else 4 * weigh()

    def _keep(self, thing: Thing, n_bytes: int, below: int = 0) -> int:
        self._client.take(1, n_bytes + below)
        self._last_handle += 1
        self._handles[self._last_handle] = Handle(thing, n_bytes + below, below)
        return self._last_handle

    def _keep_rows(self, rows: Sequence[Example]) -> Answer:
        n_bytes = sum(ROW_BYTES + len(r.prompt) + sum(map(len, r.answers)) for r in rows)
        first = self._last_own
        block = Block(range(first, first + len(rows)))
        handle = self._keep(block, n_bytes)
        self._last_own = block.numbers.stop
        self._own.update(zip(block.numbers, rows, strict=True))
        return {"handle": handle, "first": first}, {}

    def _held(self, number: Any) -> Thing:
        if type(number) is not int or number not in self._handles:
            raise NotFound(f"no handle {str(number)[:20]} in this session")
        return self._handles[number].thing

    def _resize(self, number: int, n_bytes: int) -> None:
        """Count a thing that has grown; one that has grown too much is dropped."""
        try:
            self._grow(number, n_bytes)
        except BudgetExhausted:
            self._free([number])
            raise

    def _grow(self, number: int, n_bytes: int) -> None:
        handle = self._handles[number]
        n_bytes += handle.below
        self._client.take(0, n_bytes - handle.n_bytes)
        handle.n_bytes = n_bytes

    def _weigh(self, number: int) -> None:
        """Count a trained model and its features, which are forgotten where they are too much."""
        model = self._handles[number].thing
        assert isinstance(model, Model)
        try:
            self._grow(number, model.n_weights + model.source.held_bytes())
        except BudgetExhausted:
            loaded = model.source.language_model()
            model.source = FeatureCache([], model.source.model, None, lambda: loaded)

    def _free(self, numbers: Any) -> None:
        if not isinstance(numbers, list):
            raise BadInput("free: expected a list of handles")
        for number in numbers:
            handle = self._handles.pop(number, None) if type(number) is int else None
            if handle is None:
                continue
            self._client.take(-1, -handle.n_bytes)
            if isinstance(handle.thing, Block):
                for row in handle.thing.numbers:
                    self._own.pop(row, None)

    # ------------------------------------------------------------ calls: what there is
    def info(self, message: Message) -> Answer:
        facts: dict[str, Any] = {**self._facts, "n_rows": len(self._client.grant.rows)}
        with self._device():
            facts["layers"] = list(self._source.layers(self._client.grant.rows))
            if self._client.model is not None:
                model = self._client.model.language_model()
                facts |= {"n_blocks": model.decoder.shape.n_blocks, "context": model.context}
                facts["width"] = model.decoder.shape.width
            else:
                states = self._source.states(self._client.grant.rows[:1], self._factory.layer)
                facts["width"] = states.shape[2]
        return facts, {}

    def usage(self, message: Message) -> Answer:
        return usage_of(self._client, self._queue), {}

    # ------------------------------------------------------------ calls: frozen knowledge
    def states(self, message: Message) -> Answer:
        rows, layer = self._rows(message), _int(message, "layer")
        factory = self._on(message)[0].at(layer)
        with self._device():
            self._hold(self._states_bytes(rows))
            return {}, {"states": factory.states(rows)}

    def logp(self, message: Message) -> Answer:
        rows, factory = self._rows(message), self._on(message)[0]
        with self._device():
            given_NA, alone_NA, tokens_NA = factory.zero_shot(rows)
        return {}, {"given": given_NA, "alone": alone_NA, "tokens": tokens_NA}

    def layers(self, message: Message) -> Answer:
        rows, factory = self._rows(message), self._on(message)[0]
        with self._device():
            return {"layers": list(factory.layers(rows))}, {}

    def ask(self, message: Message) -> Answer:
        """Make rows of a template, to be named by number like others."""
        rows, (text, words, swapped) = self._rows(message), _template(message)
        texts = [self._held(handle) for handle in _list(message, "texts")]
        return self._keep_rows(self._factory.ask(rows, text, words, swapped, texts))

    def put(self, message: Message) -> Answer:
        """Take texts that the client brings itself, where its grant allows it."""
        if not self._client.grant.facts.reads_texts:
            raise NotFound("unknown rows: this client may use the rows of its grant alone")
        return self._keep_rows(unpacked_rows(message.arrays, _int(message, "n_answers")))

    def generate(self, message: Message) -> Answer:
        rows, template = self._rows(message), _template(message)
        options = _options(GenerateOptions, message.facts.get("options"), "options")
        factory, n = self._on(message)[0], _int(message, "n")
        with self._device():
            made = factory.generate(rows, template.text, n, options)
        return {"handles": [self._keep(texts, texts.n_bytes) for texts in made]}, {}

    def tune(self, message: Message) -> Answer:
        """Train the model on what follows the rows' prompts: their answers, or texts."""
        rows, weights_N = self._rows(message), message.arrays.get("weights")
        texts = message.facts.get("texts")
        options = _options(LmOptions, message.facts.get("options"), "options")
        factory = self._on(message)[0]
        given = None if texts is None else self._held(texts)
        with self._device():
            source = factory.tuned(rows, options, given, weights_N).source
        assert isinstance(source, FeatureCache)
        n_weights = source.language_model().n_bytes_apart(self._source.language_model())
        return {"handle": self._keep(Model(source, n_weights), n_weights)}, {}

    def _on(self, message: Message) -> tuple[StudentFactory, int]:
        """Return students of the model that a message names, and what its weights take."""
        number = message.facts.get("model")
        if number is None:
            return self._factory, 0
        model = self._held(number)
        if not isinstance(model, Model):
            raise BadInput("model: this handle is not that of a trained model")
        self._tuned.add(number)
        return replace(self._factory, source=model.source), model.n_weights

    # ------------------------------------------------------------ calls: students
    def _wanted(self, message: Message) -> tuple[StudentFactory, int]:
        """Return a factory on model, layer and adaptation of a message, and the model's size."""
        adapter = message.facts.get("adapter")
        made = None if adapter is None else _options(AdapterOptions, adapter, "adapter")
        factory, below = self._on(message)
        return replace(factory, layer=_int(message, "layer"), adapter=made), below

    def _student(self, message: Message) -> Student:
        student = self._held(message.facts.get("handle"))
        if not isinstance(student, Student):
            raise BadInput("this handle is not that of a student")
        return student

    def new(self, message: Message) -> Answer:
        (factory, below), options = self._wanted(message), _head_options(message)
        with self._device():
            return {"handle": self._keep(factory.new(options), 0, below)}, {}

    def fit(self, message: Message) -> Answer:
        student, rows = self._student(message), self._rows(message)
        targets, weights = _targets(message)
        with self._device():
            self._hold(self._states_bytes(rows) + self._training_bytes(student))
            student.fit(rows, targets, weights)
        return self._trained(message.facts["handle"], student)

    def go_on(self, message: Message) -> Answer:
        student, rows = self._student(message), self._rows(message)
        targets, weights = _targets(message)
        options = _head_options(message)
        with self._device():
            self._hold(self._states_bytes(rows) + self._training_bytes(student))
            student.go_on(rows, targets, weights, options)
        return self._trained(message.facts["handle"], student)

    def _trained(self, handle: int, student: Student) -> Answer:
        tuned = getattr(student, "tuned", None)
        if tuned is None:
            self._resize(handle, 4 * (student.head.theta.size + 2 * student.head.mean_D.size))
        else:
            weights = tuned.trained()
            self._resize(handle, sum(one.numel() * one.element_size() for one in weights))
        return {}, {}

    def predict(self, message: Message) -> Answer:
        student, rows = self._student(message), self._rows(message)
        with self._device():
            self._hold(self._states_bytes(rows))
            return {}, {"probs": student.predict_proba(rows)}

    def head(self, message: Message) -> Answer:
        head = self._student(message).head
        arrays: Arrays = {"mean": head.mean_D, "scale": head.scale_D, "theta": head.theta}
        return {"hidden": head.hidden}, {**arrays, "losses": np.array(head.losses)}

    # ------------------------------------------------------------ calls: trainers
    def _trainer(self, message: Message) -> Any:
        trainer = self._held(message.facts.get("handle"))
        if isinstance(trainer, Student | Kept | Texts | Block | Model):
            raise BadInput("this handle is not that of a trainer")
        return trainer

    def trainer(self, message: Message) -> Answer:
        (factory, below), rows = self._wanted(message), self._rows(message)
        options = _head_options(message)
        with self._device():
            self._hold(self._states_bytes(rows))
            made = trainer_of(factory, options, rows, self._client.secret)
        return {"handle": self._keep(made, made.n_bytes, below)}, {}

    def forward(self, message: Message) -> Answer:
        trainer, rows = self._trainer(message), self._rows(message)
        with self._device():
            n_bytes = self._states_bytes(rows)
            self._hold(n_bytes)
            logits_B = trainer.forward(rows)
        self.answered()  # the trainer keeps the rows until `backward`
        self._resize(message.facts["handle"], trainer.n_bytes + n_bytes)
        return {}, {"logits": logits_B}

    def backward(self, message: Message) -> Answer:
        trainer = self._trainer(message)
        slopes_B = checked_slopes(message.arrays.get("grad"), trainer.n_last)
        with self._device():
            trainer.backward(slopes_B)
        self._resize(message.facts["handle"], trainer.n_bytes)
        return {}, {}

    def step(self, message: Message) -> Answer:
        trainer, lr = self._trainer(message), _number(message, "lr", 0.0, 1.0)
        with self._device():
            trainer.step(lr)
        return {}, {}

    def perturb(self, message: Message) -> Answer:
        trainer, seed = self._trainer(message), _int(message, "seed")
        scale = _number(message, "scale", -1e6, 1e6)
        with self._device():
            trainer.perturb(seed, scale)
        return {}, {}

    def save(self, message: Message) -> Answer:
        trainer = self._trainer(message)
        with self._device():
            saved = trainer.save()
        n_bytes = sum(array.nbytes for array in saved[0])
        return {"handle": self._keep(Kept(message.facts["handle"], saved), n_bytes)}, {}

    def restore(self, message: Message) -> Answer:
        trainer, kept = self._trainer(message), self._held(message.facts.get("saved"))
        if not isinstance(kept, Kept) or kept.trainer != message.facts["handle"]:
            raise BadInput("saved: not what this trainer saved")
        with self._device():
            trainer.restore(kept.saved)
        return {}, {}


Call = Callable[[Session, Message], Answer]
CALLS: dict[str, Call] = {
    call.__name__: call
    for call in (
        Session.info, Session.usage, Session.states, Session.logp, Session.layers, Session.ask,
        Session.put, Session.generate, Session.tune, Session.new, Session.fit, Session.go_on,
        Session.predict, Session.head, Session.trainer, Session.forward, Session.backward,
        Session.step, Session.perturb, Session.save, Session.restore,
    )
}  # fmt: skip


def usage_of(client: Client, queue: DeviceQueue) -> dict[str, Any]:
    """Return what a client has spent, and what it holds."""
    with client.lock:
        spent = _sum([client.compute, *(session.compute for session in client.sessions)])
    return {
        "device_s": queue.used_s(client.name),
        "calls": client.n_calls,
        "rows_trained": spent.rows_trained,
        "rows_forwarded": spent.rows_forwarded,
        "rows_cut": spent.rows_cut,
        "handles": client.n_handles,
        "bytes": client.n_bytes,
    }


def _sum(parts: Sequence[Compute]) -> Compute:
    names = [one.name for one in fields(Compute)]
    return Compute(**{name: sum(getattr(part, name) for part in parts) for name in names})


def _fault(error: Exception) -> dict[str, Any]:
    """Return the facts of an error that is no AarlabError. They hold nothing of its message."""
    hungry = isinstance(error, MemoryError)
    if isinstance(error, RuntimeError) and "torch" in sys.modules:
        from aarlab.testbed.models.compute import is_out_of_memory

        hungry = is_out_of_memory(error)
    if hungry:
        return {"code": "bad_input", "message": OUT_OF_MEMORY}
    said = f"the student server failed ({type(error).__name__}); its log says where"
    return {"code": "error", "message": said}


OUT_OF_MEMORY = (
    "out of memory: send fewer rows at once, train fewer weights (adapter blocks, rank), or have "
    "the operator set AARLAB_TRAIN_TOKENS or AARLAB_BATCH_TOKENS lower"
)


def _filled(array: NDArray[Any]) -> NDArray[Any]:
    """Return words of at least one byte: a message has none of length 0."""
    return array if array.dtype.itemsize else array.astype("S1")


def _head_options(message: Message) -> HeadOptions:
    return _options(HeadOptions, message.facts.get("options"), "options")


def _int(message: Message, name: str) -> int:
    value = message.facts.get(name)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise BadInput(f"{name}: expected a whole number")
    return value


def _number(message: Message, name: str, low: float, high: float) -> float:
    value = message.facts.get(name)
    if type(value) not in (int, float) or not low <= float(value) <= high:  # type: ignore[arg-type]
        raise BadInput(f"{name}: expected a number from {low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def _list(message: Message, name: str) -> list[Any]:
    value = message.facts.get(name, [])
    if not isinstance(value, list) or len(value) > 4:
        raise BadInput(f"{name}: expected a list of up to 4")
    return value


def _targets(message: Message) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return targets and row weights as they were sent; students check their values."""
    targets, weights = message.arrays.get("targets"), message.arrays.get("weights")
    if targets is None or targets.dtype.kind == "S":
        raise BadInput("targets: expected numbers")
    if weights is not None and weights.dtype.kind == "S":
        raise BadInput("row weights: expected numbers")
    return targets, weights


Given = TypeVar("Given", HeadOptions, AdapterOptions, GenerateOptions, LmOptions)


def _options(kind: type[Given], given: Any, name: str) -> Given:
    """Return options from names and values; raises BadInput for names and values of others."""
    if not isinstance(given, dict):
        raise BadInput(f"{name}: expected names and values")
    if unknown := sorted(given.keys() - {one.name for one in fields(kind)}):
        raise BadInput(f"{name}: there is no {unknown[0][:40]!r}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return kind(**values)


class _Asked(NamedTuple):
    text: str
    words: tuple[str, ...] | None
    swapped: bool


def _template(message: Message) -> _Asked:
    text, words = message.facts.get("template"), message.facts.get("words")
    swapped = message.facts.get("asked_swapped", False)
    if not isinstance(text, str) or not isinstance(swapped, bool):
        raise BadInput("template: expected a text")
    if words is not None and not (
        isinstance(words, list) and all(isinstance(word, str) for word in words)
    ):
        raise BadInput("words: expected a list of texts, or null")
    return _Asked(text, None if words is None else tuple(words), swapped)
