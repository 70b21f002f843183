"""The trusted side of a verified run without texts: it holds rows, features and the clock.

One run is one seed in one process of its own. The judge sends the train rows' handles and the weak
labels, and asks for predictions in deliveries of its own choice: twins in place of their rows, rows
alone, crowded, shuffled, renamed (see `testbed.probes`), and at last the delivery that is scored.
Each delivery has ids, keys and an order of its own, drawn from a secret of the data root and the
run's seeds: the same run can be made again, and nobody else can draw them. It writes down
predictions, probes and what was asked for. An ablation is applied here, and looks like any other
run from inside.

Covered: every message of the method's process is data of a checked form; states are given
whitened, in a basis that is drawn for this run, so that shipped weights fit nothing.
Not covered: states carry content, so rows can be told apart, and known again, by them.
Legend: N rows, A answers a row, D state width, S teachers.
"""

import hashlib
import hmac
import logging
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aarlab.core.errors import AarlabError, MethodFailed
from aarlab.core.types import Example
from aarlab.core.wire import Ablation, TaskInfo
from aarlab.testbed.ablation import ablated
from aarlab.testbed.answers import equality_words
from aarlab.testbed.channel import Channel, ChannelClosed, Message
from aarlab.testbed.contract import checked_predictions
from aarlab.testbed.job import StyleMoved
from aarlab.testbed.probes import changed_answers, probe_answers, probe_twins
from aarlab.testbed.stored_features import LOGP, StoredFeatures
from aarlab.testbed.task import WeakLabels, student_settings
from aarlab.testbed.twins import places_of, shift

Basis = Literal["secret", "turned", "plain"]
Floats = NDArray[np.float64]
WORD = 16  # bytes of an id or key, in hexadecimal
MAX_MESSAGE = 2**23
AXES, ROWS_PER_AXIS = 128, 4  # of states: more axes are noise, which whitening would enlarge
GRACE_S = 2.0
MAX_ASKED = 8  # times for one thing about one delivery: the other side keeps what it was given
LOG = logging.getLogger("aarlab.verify")


@dataclass(frozen=True, slots=True)
class Holding:
    """What a verified run works on.

    `basis` is other than "secret" only where runs are compared: "turned" gives states that are not
    whitened, "plain" states and orders as they are stored.
    """

    info: TaskInfo
    train: tuple[Example, ...]
    labels: WeakLabels
    rows: tuple[Example, ...]
    twins: tuple[Example, ...]
    features: StoredFeatures
    secret: bytes
    basis: Basis = "secret"


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


@dataclass(slots=True)
class _Delivery:
    """Rows in the order in which they were sent, and how often what about them was asked for."""

    number: int
    rows: tuple[Example, ...]
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)


class Refused(MethodFailed):
    """The method's process said that it failed, or said what is no answer."""


@dataclass(slots=True)
class Judge:
    """Drives one run over a channel; a predictor for the probes.

    Every run is asked for the same deliveries, ablated or not, so that none can be told by them.
    """

    held: Holding
    pair: Pair
    channel: Channel
    equality: bool = False
    forwarded: int = 0
    _rng: np.random.Generator = field(init=False)
    _deliveries: dict[int, _Delivery] = field(default_factory=dict)
    _bases: dict[int, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)

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
        return Seen(probs_N, changed, style, self.forwarded, self.equality)

    def predict_proba(self, rows: Sequence[Example]) -> Floats:
        """P(label 1) of each row (N,), asked for in one delivery in a drawn order."""
        order_N = self._order(len(rows))
        delivery = self._new([rows[at] for at in order_N])
        self._send("predict", delivery, {})
        sent_N = self._answer("probs").arrays.get("probs", np.zeros(0))
        del self._deliveries[delivery.number]
        if sent_N.shape != (len(rows),) or sent_N.dtype != np.float64:
            raise Refused(f"its process sent {sent_N.shape} predictions for {len(rows)} rows")
        if not ((sent_N >= 0) & (sent_N <= 1)).all():  # said here, where no row is named
            raise Refused("its process sent predictions that are no probabilities")
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
            table = np.stack(self.held.features.answer_logp(delivery.rows), axis=-1)
            self._reply("logp", table.reshape(-1, len(LOGP)).astype(np.float32), delivery)
        else:
            states_NAD = self.held.features.states(delivery.rows, layer)
            states_MD = states_NAD.reshape(-1, states_NAD.shape[-1])
            self._reply("states", self._turned(states_MD, layer), delivery)

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
        self.channel.send(kind, None, **{kind: table})

    def _turned(self, states_MD: NDArray[np.float32], layer: int) -> NDArray[np.float32]:
        if self.held.basis == "plain":
            return states_MD
        if layer not in self._bases:
            self._bases[layer] = self._drawn_basis(states_MD.shape[1], layer)
        centre_D, turn_DD = self._bases[layer]
        return np.asarray((states_MD - centre_D) @ turn_DD, np.float32)

    def _drawn_basis(self, width: int, layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
        turn_DD = secret_basis(width, self._drawn(f"layer {layer}"))
        if self.held.basis == "turned":
            return np.zeros(width, np.float32), turn_DD
        train_MD = self.held.features.states(self.held.train, layer).reshape(-1, width)
        centre_D, white_DK = whitening(train_MD)
        return centre_D, white_DK @ turn_DD[: white_DK.shape[1]]

    def _words(self, count: int) -> NDArray[np.bytes_]:
        drawn = self._rng.bytes(count * WORD // 2).hex().encode()
        return np.frombuffer(drawn, f"S{WORD}")


def secret_basis(width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw an orthogonal matrix (D, D), uniformly over all (Mezzadri 2007)."""
    with threadpool_limits(1):  # 0.03 s; on busy cores threads that wait make it seconds
        q_DD, r_DD = np.linalg.qr(rng.standard_normal((width, width)))
    return (q_DD * np.sign(np.diag(r_DD))).astype(np.float32)


def whitening(states_MD: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean (D,) and a matrix (D, K) onto at most AXES principal axes of equal variance.

    Turned states keep the shape of their cloud: laid over a cloud of like rows whose labels are
    known, they gave a shipped head back what the basis took (benchmarks/blind.md). Equal variances
    leave nothing to lay over. The states are scaled so that their total variance stays what it was.
    """
    centre_D = states_MD.mean(axis=0)
    with threadpool_limits(1):
        spread_D, axes_DD = np.linalg.eigh(np.cov(states_MD.T.astype(np.float64), bias=True))
    count = max(
        1, min(AXES, len(states_MD) // ROWS_PER_AXIS, int((spread_D > 1e-9 * spread_D[-1]).sum()))
    )
    white_DK = axes_DD[:, -count:] * np.sqrt(spread_D.sum() / count / spread_D[-count:])
    return centre_D, white_DK.astype(np.float32)


def _number(message: Message, name: str) -> int:
    value = message.facts.get(name)
    return value if type(value) is int else -1


@dataclass(slots=True)
class Hearing:
    """A judge in a thread of its own beside the sandbox it hears.

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
