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

Covered: every message of the method's process is data of a checked form. States are given whitened,
in a basis that is drawn for this run, so that shipped weights fit nothing. Log-likelihoods are
rounded (see `basis`).
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
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.agents.trial import how_it_ended
from aarlab.core.errors import AarlabError, MethodFailed
from aarlab.core.types import Example
from aarlab.core.wire import Ablation, TaskInfo
from aarlab.sandbox.running import Cancel, run
from aarlab.sandbox.spec import Finished, SandboxSpec
from aarlab.testbed.running.channel import Channel, ChannelClosed, Message
from aarlab.testbed.running.contract import checked_predictions
from aarlab.testbed.running.controls import ablated, changed_answers, probe_answers, probe_twins
from aarlab.testbed.running.job import StyleMoved
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.tasks.task import WeakLabels
from aarlab.testbed.tasks.train_task import equality_words, student_settings
from aarlab.testbed.tasks.twins import places_of, shift
from aarlab.verify import inside
from aarlab.verify.basis import Basis, Table

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
    table: Table = field(init=False)

    def __post_init__(self) -> None:
        made = Table(self.features, self.train, (*self.rows, *self.twins))
        object.__setattr__(self, "table", made)


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


@dataclass(slots=True)
class _Delivery:
    """Rows in the order sent, and how often states or log-likelihoods of them were asked for."""

    number: int
    rows: tuple[Example, ...]
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)


class Refused(MethodFailed):
    """The method's process said that it failed, or its answer was invalid."""


@dataclass(slots=True)
class Judge:
    """Drive one run over a channel; a predictor for the probes.

    Every run is asked for the same deliveries, ablated or not, so the deliveries do not reveal
    which.
    """

    held: Holding
    pair: Pair
    channel: Channel
    equality: bool = False
    logp: bool = False
    forwarded: int = 0
    _rng: np.random.Generator = field(init=False)
    _deliveries: dict[int, _Delivery] = field(default_factory=dict)
    _turned: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    _logp: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        self._rng = self._drawn("deliveries")

    def _drawn(self, what: str) -> np.random.Generator:
        about = f"{self.held.info.name}/{self.pair.teacher_seed}/{self.pair.seed}/{what}"
        digest = hmac.digest(self.held.secret, about.encode(), hashlib.sha256)
        return np.random.default_rng(np.frombuffer(digest, np.uint32))

    def hear(self) -> Seen:
        """Return what the run gave. Raises Refused, or ChannelClosed where its process ended."""
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
        return Seen(probs_N, changed, style, self.forwarded, self.equality, self.logp)

    def predict_proba(self, rows: Sequence[Example]) -> Floats:
        """Return P(label 1) of each row (N,), asked for in one delivery in a drawn order."""
        order_N = self._order(len(rows))
        delivery = self._new([rows[at] for at in order_N])
        self._send("predict", delivery, {})
        sent_N = self._answer("probs").arrays.get("probs", np.zeros(0))
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
            "log_likelihoods": held.features.has_logp,
            "split_sizes": {"train": len(held.train), "search": info.n_search},
        }
        delivery = self._new([held.train[at] for at in order_N])
        self._send("task", delivery, facts, labels_SN=labels_SN, groups=self._groups(delivery))

    def _order(self, count: int) -> NDArray[np.intp]:
        plain = self.held.basis == "plain"
        return np.arange(count) if plain else self._rng.permutation(count)

    def _new(self, rows: Sequence[Example]) -> _Delivery:
        number = len(self._deliveries) and max(self._deliveries) + 1
        self._deliveries[number] = _Delivery(number, tuple(rows))
        return self._deliveries[number]

    def _send(self, kind: str, delivery: _Delivery, facts: dict[str, Any], **arrays: Any) -> None:
        n_rows, n_answers = len(delivery.rows), len(delivery.rows[0].answers)
        ids, keys = self._words(n_rows), self._words(n_rows * n_answers)
        keys = keys.reshape(n_rows, n_answers)
        facts = {**facts, "delivery": delivery.number}
        self.channel.send(kind, facts, ids=ids, keys=keys, **arrays)

    def _groups(self, delivery: _Delivery) -> NDArray[np.bytes_]:
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
            if message.kind not in ("states", "logp", "equality"):
                raise Refused(f"its process sent {message.kind[:40]!r} where {wanted!r} was due")
            self._serve(message)

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
        elif message.kind == "logp":
            self.logp = True
            self._reply("logp", self._given_logp(), delivery)
        else:
            if layer not in self._turned:
                self._turned[layer] = self.held.table.turned(
                    layer, self.held.basis, lambda: self._drawn(f"layer {layer}")
                )
            self._reply("states", self._turned[layer], delivery)

    def _given_logp(self) -> NDArray[np.float32]:
        """Return log-likelihoods (U, 3), rounded except where runs are compared with open ones."""
        if self.held.basis == "plain":
            return self.held.table.logp()
        if self._logp is None:
            self._logp = self.held.table.coarse_logp(self._drawn("logp"))
        return self._logp

    def _check_asked(self, kind: str, layer: int, delivery: _Delivery) -> None:
        features = self.held.features
        if kind == "states" and layer not in features.layers():
            raise Refused("its process asked for states of a layer that there is not")
        if kind == "logp" and not features.has_logp:
            raise Refused("its process asked for log-likelihoods, which this task has not")
        about = kind, layer if kind == "states" else 0
        delivery.asked[about] += 1
        if delivery.asked[about] > MAX_ASKED:
            raise Refused(f"its process asked for the same {kind} more than {MAX_ASKED} times")

    def _reply(self, kind: str, table: NDArray[np.float32], delivery: _Delivery) -> None:
        self.forwarded += len(delivery.rows)
        self.channel.send(kind, None, **{kind: table[self.held.table.places(delivery.rows)]})

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
    _over_at: float | None = None

    def work(self) -> None:
        try:
            self.seen = self.judge.hear()
        except ChannelClosed:
            pass  # its process ended, and what the sandbox says is the reason; or it will be ended
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
        self.judge.channel.end()

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


# Not `-m`, which compiles the module again for each seed; what this process imported is compiled.
START = f"import sys; from {inside.__name__} import main; sys.exit(main(sys.argv[1:]))"
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


def hear(spec: SandboxSpec, held: Holding, pair: Pair, cancel: Cancel) -> Heard:
    """Run the method in the sandbox and hear it with a judge outside."""
    ours, theirs = channel_pair()
    hearing = Hearing(Judge(held, pair, Channel(ours, MAX_MESSAGE)))
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
        return Heard(done, None, str(hearing.error))
    if done.killed_by == "cancel":
        return Heard(done, None, "its process closed the channel to the verifier, and went on")
    return Heard(done, None, how_it_ended(spec, done))
