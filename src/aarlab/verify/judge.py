"""The trusted side of a verified run without texts: it holds rows, features and the clock.

One run is one seed in one process of its own. The judge sends the train rows' handles and the weak
labels, and asks for predictions in deliveries of its own choice: twins in place of their rows, rows
alone, crowded, shuffled, renamed (see `testbed.running.controls`), and at last the delivery that is
scored. Each delivery has ids, keys and an order of its own, drawn from a secret of the data root
and the run's seeds. The same run can be made again, and nobody else can draw them. The judge writes
down predictions, probes and what was asked for. An ablation is applied here, and looks like any
other run from inside.

The seeds of one blind re-run each have a process and a sandbox of their own, and some run at the
same time. While one seed waits for its process to start, another computes. The result is what it
would be one by one: results count up to the first seed that fails, whichever failed first by the
clock.

Where the task names its strong model, a method may also ask that about rows by templates, and train
students of its blocks: `asking` checks it, and `strong` has the model.

Covered: every message of the method's process is data of a checked form. States are given whitened,
in a basis that is drawn for this run, so that shipped weights fit nothing. Log-likelihoods are
rounded (see `basis`). Each template has a basis and a rounding of its own.
Not covered: states carry content, so rows can be distinguished, and recognised again, by them.
Legend: N rows, A answers per row, D state width, S teachers.
"""

import hashlib
import hmac
import logging
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.agents.trial import how_it_ended
from aarlab.core.errors import AarlabError, BadInput, BudgetExhausted, NotFound, Unreachable
from aarlab.core.types import Example
from aarlab.core.wire import Ablation, TaskInfo
from aarlab.sandbox.running import Cancel, run
from aarlab.sandbox.spec import Finished, SandboxSpec
from aarlab.students.queue import ClientGone
from aarlab.testbed.running.channel import Channel, ChannelClosed, Message
from aarlab.testbed.running.contract import checked_predictions
from aarlab.testbed.running.controls import (
    ablated,
    changed_answers,
    first_asked,
    probe_answers,
    probe_twins,
)
from aarlab.testbed.running.job import StyleMoved
from aarlab.testbed.students.features import StoredFeatures, WithModel
from aarlab.testbed.students.templates import Template
from aarlab.testbed.tasks.task import WeakLabels
from aarlab.testbed.tasks.train_task import equality_words, student_settings
from aarlab.testbed.tasks.twins import places_of, shift
from aarlab.verify import inside
from aarlab.verify.asking import CALLS, NOT_STATES, Asking, Delivery, Refused, in_words
from aarlab.verify.basis import Basis, Table
from aarlab.verify.strong import Held, Place, Strong

Floats = NDArray[np.float64]
WORD = 16  # bytes of an id or key, in hexadecimal
MAX_MESSAGE = 2**23
GRACE_S = 2.0
MAX_ASKED = 8  # times for one thing about one delivery: the other side keeps what it was given
LOG = logging.getLogger("aarlab.verify")


@dataclass(frozen=True, slots=True)
class Holding:
    """What a verified run works on.

    `basis` is other than "secret" only where runs are compared: "still" gives states with their
    lengths and without noise, "turned" also not whitened, "plain" states, log-likelihoods and
    orders as stored.
    """

    info: TaskInfo
    train: tuple[Example, ...]
    labels: WeakLabels
    rows: tuple[Example, ...]
    twins: tuple[Example, ...]
    features: StoredFeatures
    secret: bytes
    basis: Basis = "secret"
    place: Place | None = None  # of the strong model, where methods may ask it
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        made = Table(self.features, self.train, (*self.rows, *self.twins))
        object.__setattr__(self, "table", made)

    def drawn(self, what: str) -> bytes:
        """Return 32 bytes that the secret and `what` determine."""
        return hmac.digest(self.secret, what.encode(), hashlib.sha256)

    def asked_together(self) -> list[NDArray[np.int32]]:
        """Return the numbers of all rows in the parts in which an open run first asks of them."""
        seen, parts = set[int](), list[NDArray[np.int32]]()
        for call in (self.train, *first_asked(self.rows, self.twins)):
            numbers = [n for n in dict.fromkeys(self.table.numbers(call).tolist()) if n not in seen]
            seen.update(numbers)
            parts += [np.array(numbers, np.int32)] if numbers else []
        return parts

    @property
    def for_model(self) -> Held | None:
        """Return what a grant for the strong model is made of."""
        if self.place is None:
            return None
        return Held(self.place, self.features, self.table.rows, student_settings(self.info))


class Pair(NamedTuple):
    """One run: which weak teacher labelled the train rows, the method's seed, the ablation."""

    teacher_seed: int
    seed: int
    ablation: Ablation


class Seen(NamedTuple):
    """What the judge wrote down: P(label 1) in the order of the rows, probes, what was asked."""

    probs_N: Floats
    changed: dict[str, float]
    style: StyleMoved | None
    forwarded: int
    equality: bool
    logp: bool
    templates: tuple[str, ...] = ()


@dataclass(slots=True)
class Judge:
    """Drive one run over a channel; a predictor for the probes.

    Every run is asked for the same deliveries, ablated or not, so the deliveries do not reveal
    which. `strong` is None where methods get stored features alone.
    """

    held: Holding
    pair: Pair
    channel: Channel
    strong: Strong | None = None
    equality: bool = False
    logp: bool = False
    forwarded: int = 0
    _rng: np.random.Generator = field(init=False)
    _deliveries: dict[int, Delivery] = field(default_factory=dict)
    _n_deliveries: int = 0
    _turned: dict[tuple[Template | None, int], NDArray[np.float32]] = field(default_factory=dict)
    _logp: dict[Template | None, NDArray[np.float32]] = field(default_factory=dict)
    _asking: Asking | None = None
    _is_ended: bool = False

    def __post_init__(self) -> None:
        self._rng = self._drawn("deliveries")

    def _drawn(self, what: str) -> np.random.Generator:
        return np.random.default_rng(np.frombuffer(self._secret(what), np.uint32))

    def _secret(self, what: str) -> bytes:
        about = f"{self.held.info.name}/{self.pair.teacher_seed}/{self.pair.seed}/{what}"
        return self.held.drawn(about)

    def hear(self) -> Seen:
        """Return what the run gave.

        Raises Refused, ChannelClosed where its process ended, and Unreachable where the strong
        model did.
        """
        with ExitStack() as stack:
            if self.strong is not None:
                stack.callback(self._leave)
            return self._heard()

    def end(self) -> None:
        """Wake `hear`, from another thread."""
        self._is_ended = True
        self.channel.end()
        if (asking := self._asking) is not None:
            asking.line.end()

    def _is_alive(self) -> bool:
        return not self._is_ended

    def _leave(self) -> None:
        if self._asking is not None:
            self._asking.line.close()

    def _heard(self) -> Seen:
        self._send_task()
        self._answer("fitted")
        rows, twins = self.held.rows, self.held.twins
        twins_T = probe_twins(self, rows, twins) if twins else None
        answers = probe_answers(self, rows, int(self._rng.integers(2**31)))
        probs_N = checked_predictions(self, rows)
        self.channel.send("end")
        style = None
        if twins_T is not None:
            found = shift(probs_N[places_of(rows, twins)], twins_T)
            style = StyleMoved(flipped=found.flipped, moved=found.moved)
        changed = changed_answers(answers, probs_N > 0.5)
        forwarded, templates = self.forwarded, tuple[str, ...]()
        if self._asking is not None:
            forwarded += self._asking.forwarded
            templates = tuple(map(in_words, self._asking.templates))
            self.logp |= self._asking.log_odds
        return Seen(probs_N, changed, style, forwarded, self.equality, self.logp, templates)

    def predict_proba(self, rows: Sequence[Example]) -> Floats:
        """Return P(label 1) of each row (N,), asked for in one delivery in a drawn order."""
        order_N = self._order(len(rows))
        delivery = self._new([rows[at] for at in order_N])
        self._send("predict", delivery, {})
        sent_N = self._answer("probs").arrays.get("probs", np.zeros(0))
        if self._asking is not None:
            self._asking.close_delivery(delivery.number)
        del self._deliveries[delivery.number]
        if sent_N.shape != (len(rows),) or sent_N.dtype != np.float64:
            raise Refused(f"its process sent {sent_N.shape} predictions for {len(rows)} rows")
        if not ((sent_N >= 0) & (sent_N <= 1)).all():  # said here, where no row is named
            raise Refused("its process sent predictions that are not probabilities")
        probs_N = np.empty(len(rows))
        probs_N[order_N] = sent_N
        return probs_N

    def _send_task(self) -> None:
        held, info = self.held, self.held.info
        order_N = self._order(len(held.train))
        rng = np.random.default_rng([self.pair.seed, self.pair.teacher_seed])
        labels_SN = held.labels.led_by(self.pair.teacher_seed)
        labels_SN = ablated(labels_SN, self.pair.ablation, rng)[:, order_N]
        settings = student_settings(info)
        facts = {
            "kind": info.kind,
            "seed": self.pair.seed,
            "layer": settings.layer,
            "head": settings.options.model_dump(mode="json"),
            "layers": list(held.features.layers()),
            "log_likelihoods": held.features.has_logp or self.strong is not None,
            "adapter": settings.adapter and settings.adapter.model_dump(mode="json"),
            "model": self.strong is not None,
            "split_sizes": {"train": len(held.train), "search": info.n_search},
        }
        delivery = self._new([held.train[at] for at in order_N])
        self._send("task", delivery, facts, labels_SN=labels_SN, groups=self._groups(delivery))

    def _order(self, count: int) -> NDArray[np.intp]:
        plain = self.held.basis == "plain"
        return np.arange(count) if plain else self._rng.permutation(count)

    def _new(self, rows: Sequence[Example]) -> Delivery:
        number, self._n_deliveries = self._n_deliveries, self._n_deliveries + 1
        self._deliveries[number] = Delivery(number, tuple(rows), self.held.table.numbers(rows))
        return self._deliveries[number]

    def _send(self, kind: str, delivery: Delivery, facts: dict[str, Any], **arrays: Any) -> None:
        n_rows, n_answers = len(delivery.rows), delivery.n_answers
        ids, keys = self._words(n_rows), self._words(n_rows * n_answers)
        keys = keys.reshape(n_rows, n_answers)
        facts = {**facts, "delivery": delivery.number}
        self.channel.send(kind, facts, ids=ids, keys=keys, **arrays)

    def _groups(self, delivery: Delivery) -> NDArray[np.bytes_]:
        names = dict.fromkeys(row.group for row in delivery.rows)
        words = dict(zip(names, self._words(len(names)), strict=True))
        return np.array([words[row.group] for row in delivery.rows])

    def _answer(self, wanted: str) -> Message:
        """Serve requests until the answer comes."""
        while True:
            message = self.channel.receive()
            if message.kind == wanted:
                return message
            if message.kind == "failed":
                raise Refused(str(message.facts.get("message", "failed without a message"))[:4000])
            if message.kind in ("states", "logp", "equality"):
                self._serve(message)
            elif message.kind in CALLS and self.strong is not None:
                self._ask(message, self.strong)
            else:
                raise Refused(f"its process sent {message.kind[:40]!r} where {wanted!r} was due")

    def _ask(self, message: Message, strong: Strong) -> None:
        """Have the strong model asked, and answer with what it says or why it does not."""
        if self._asking is None:
            strong.find(self._is_alive)
            secret = None if self.held.basis == "plain" else self._secret("seeds")
            own = student_settings(self.held.info).adapter
            self._asking = Asking(
                strong.open(),
                self._deliveries,
                self._new,
                secret,
                reads_labels=own is not None and own.readout == "labels",
            )
        try:
            facts, arrays = self._asking.answer(message)
        except (Refused, Unreachable, ChannelClosed, ClientGone):
            raise
        except AarlabError as error:
            self._say(error)
            return
        made = self._deliveries.get(facts.get("delivery", -1))
        if made is None:
            self.channel.send("ok", facts, **arrays)
        else:
            self._send("ok", made, facts)

    def _say(self, error: AarlabError) -> None:
        self.channel.send("error", {"code": error.code, "message": str(error)[:1000]})

    def _serve(self, message: Message) -> None:
        number, layer = _number(message, "delivery"), _number(message, "layer")
        delivery = self._deliveries.get(0 if message.kind == "equality" else number)
        if delivery is None:
            raise Refused("its process asked about rows of no open delivery")
        self._check_asked(message.kind, layer, delivery)
        if message.kind == "equality":
            self.equality = True
            words = np.array([word.encode() for word in equality_words(delivery.rows)])
            self.channel.send("words", words=words)
            return
        if delivery.about is not None and delivery.about.with_texts:
            self._say(BadInput(NOT_STATES))
            return
        template = None if delivery.about is None else delivery.about.template
        try:
            if message.kind == "logp":
                self.logp = True
                self._reply("logp", self._given_logp(template), delivery)
            else:
                self._reply("states", self._given_states(template, layer), delivery)
        except (BadInput, NotFound, BudgetExhausted) as error:
            self._say(error)

    def _table(self, template: Template | None) -> Table:
        """Return the table of the rows, or of their texts in a template."""
        held, strong = self.held, self.strong
        if strong is None:
            return held.table
        strong.find(self._is_alive)

        def made() -> Table:
            answers = strong.features(template, held.asked_together())
            others = (*held.rows, *held.twins)
            if template is None:
                return Table(WithModel(held.features, answers), held.train, others)
            words = template.words_of(len(held.rows[0].answers))
            return Table(answers, held.train, others, words)

        found: Table = strong.once(("table", template), made)
        return found

    def _given_states(self, template: Template | None, layer: int) -> NDArray[np.float32]:
        """Return states of a layer (U, D), in a basis of the run and of the template."""
        if (template, layer) not in self._turned:
            what = f"layer {layer}" + ("" if template is None else f" {template.facts}")
            self._turned[template, layer] = self._table(template).turned(
                layer, self.held.basis, lambda: self._drawn(what)
            )
        return self._turned[template, layer]

    def _given_logp(self, template: Template | None) -> NDArray[np.float32]:
        """Return log-likelihoods (U, 3), rounded except where runs are compared with open ones."""
        if self.held.basis == "plain":
            return self._table(template).logp()
        if template not in self._logp:
            what = "logp" + ("" if template is None else f" {template.facts}")
            self._logp[template] = self._table(template).coarse_logp(self._drawn(what))
        return self._logp[template]

    def _check_asked(self, kind: str, layer: int, delivery: Delivery) -> None:
        features, has_model = self.held.features, self.strong is not None
        if kind == "states" and layer not in features.layers() and not has_model:
            raise Refused("its process asked for states of a layer that there is not")
        if kind == "logp" and not features.has_logp and not has_model:
            raise Refused("its process asked for log-likelihoods, which this task has not")
        about = kind, layer if kind == "states" else 0
        delivery.asked[about] += 1
        if delivery.asked[about] > MAX_ASKED:
            raise Refused(f"its process asked for the same {kind} more than {MAX_ASKED} times")

    def _reply(self, kind: str, table_UX: NDArray[np.float32], delivery: Delivery) -> None:
        self.forwarded += len(delivery.rows)
        answers_A = np.arange(delivery.n_answers)
        at_M = (delivery.numbers_N[:, None] * delivery.n_answers + answers_A).reshape(-1)
        self.channel.send(kind, None, **{kind: table_UX[at_M]})

    def _words(self, count: int) -> NDArray[np.bytes_]:
        drawn = self._rng.bytes(count * WORD // 2).hex().encode()
        return np.frombuffer(drawn, f"S{WORD}")


def _number(message: Message, name: str) -> int:
    value = message.facts.get(name)
    return value if type(value) is int else -1


@dataclass(slots=True)
class Hearing:
    """A judge in a thread of its own next to the sandbox that it hears.

    `is_set` is True when the sandbox must be ended: nothing more will be heard, and its process had
    a moment to end by itself, so that its CPU time is known.
    """

    judge: Judge
    seen: Seen | None = None
    error: AarlabError | None = None
    is_lost: bool = False  # the strong model ended in the middle
    _over_at: float | None = None
    _is_ended: bool = False

    def work(self) -> None:
        try:
            self.seen = self.judge.hear()
        except (ChannelClosed, ClientGone):
            pass  # its process ended, and what the sandbox says is the reason; or it will be ended
        except Unreachable as error:
            if not self._is_ended:  # else the sandbox says the reason, too
                self.error, self.is_lost = error, True
        except AarlabError as error:
            self.error = error
        except Exception as error:
            LOG.exception("a verified run is settled as failed")
            self.error = AarlabError(f"the judge of this run failed ({type(error).__name__})")
        finally:
            self.judge.channel.close()
            self._over_at = time.monotonic()

    def end(self) -> None:
        """Wake the judge: the sandbox has ended, whoever may still hold the other end."""
        self._is_ended = True
        self.judge.end()

    def is_set(self) -> bool:
        return self._over_at is not None and time.monotonic() > self._over_at + GRACE_S


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return the judge's end and the method's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


class Heard(NamedTuple):
    """What a run gave, or why it gave nothing."""

    done: Finished
    seen: Seen | None
    error: str
    is_lost: bool = False  # the strong model ended in the middle: the method is not to blame


# Not `-m`, which compiles the module again for each seed; what this process imported is compiled.
# Collecting garbage while modules load finds none, and takes a fifth of the time. A run that was
# heard to its end has nothing left to say, so its interpreter is not taken apart.
START = f"""
import gc, os, sys
gc.disable()
from {inside.__name__} import main
gc.freeze()
gc.enable()
code = main(sys.argv[1:])
if code == 0:
    os._exit(0)
sys.exit(code)
"""
Work = Callable[[int, int, Cancel], Heard]  # number of the seed, its lane, when to end it


@dataclass(slots=True)
class _Failed:
    """The lowest number of a seed that failed."""

    lowest: int = sys.maxsize
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, number: int) -> None:
        with self._lock:
            self.lowest = min(self.lowest, number)


@dataclass(frozen=True, slots=True)
class _Until:
    """Set when the verifier was asked to stop, or when an earlier seed has failed."""

    number: int
    failed: _Failed
    cancel: Cancel | None

    def is_set(self) -> bool:
        stopped = self.cancel is not None and self.cancel.is_set()
        return stopped or self.failed.lowest < self.number


def hear_in_order(work: Work, count: int, at_once: int, cancel: Cancel | None) -> list[Heard]:
    """Return what the seeds 0 to `count` - 1 gave, up to and with the first that failed.

    Each is worked on in one of `at_once` lanes, by itself. The list is shorter where `cancel` kept
    seeds from being started.
    """
    lanes, failed = queue.SimpleQueue[int](), _Failed()
    for lane in range(at_once):
        lanes.put(lane)

    def one(number: int) -> Heard | None:
        until = _Until(number, failed, cancel)
        if until.is_set():
            return None
        lane = lanes.get()
        try:
            heard = work(number, lane, until)
        except BaseException:
            failed.add(number)
            raise
        finally:
            lanes.put(lane)
        if heard.seen is None:
            failed.add(number)
        return heard

    found: list[Heard] = []
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(one, number) for number in range(count)]
        try:
            for future in futures:
                heard = future.result()
                if heard is None:
                    break
                found.append(heard)
                if heard.seen is None:
                    break
        except BaseException:
            failed.add(-1)
            raise
    return found


@dataclass(frozen=True, slots=True)
class _Either:
    """Set when the run must end, or when the judge has heard all."""

    cancel: Cancel
    hearing: Hearing

    def is_set(self) -> bool:
        return self.hearing.is_set() or self.cancel.is_set()


def hear(
    spec: SandboxSpec, held: Holding, pair: Pair, cancel: Cancel, strong: Strong | None = None
) -> Heard:
    """Run the method in the sandbox and hear it with a judge outside."""
    ours, theirs = channel_pair()
    hearing = Hearing(Judge(held, pair, Channel(ours, MAX_MESSAGE), strong))
    thread = threading.Thread(target=hearing.work, name="judge")
    thread.start()
    try:
        argv = [sys.executable, "-P", "-c", START]  # -P: not the workspace
        words = [str(theirs.fileno()), str(spec.seen_workspace / "method")]
        done = run(spec, [*argv, *words], cancel=_Either(cancel, hearing), handed=theirs)
    finally:
        theirs.close()
        hearing.end()
        thread.join()
    if hearing.seen is not None:
        return Heard(done, hearing.seen, "")
    if hearing.error is not None:
        return Heard(done, None, str(hearing.error), hearing.is_lost)
    if done.killed_by == "cancel":
        return Heard(done, None, "its process closed the channel to the verifier, and went on")
    return Heard(done, None, how_it_ended(spec, done))
