"""A verified run, inside its sandbox: `python -m aarlab.verify.inside CHANNEL METHOD_FOLDER`.

This process holds the method's code, weak labels, handles of rows, and what it asked the trusted
process at the other end of CHANNEL (a descriptor) for: states, log-likelihoods, and predictions of
students that are there. It is one run with one seed. It never holds a text, a label, a seed but its
own, or a file of the task.

Covered: a method that raises, exits, or returns NaN, a wrong shape or an object that is not a
predictor is reported with the author's lines.
Not covered: what the method does to this process; whatever it says is checked at the other end.
"""

import socket
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import AarlabError, BadInput, MethodFailed, NotFound, error_of
from aarlab.core.types import BlindRow, Example
from aarlab.sandbox.syscalls import forbid_exec
from aarlab.testbed.running.channel import Channel, Message
from aarlab.testbed.running.contract import checked_predictions
from aarlab.testbed.running.method_folder import guarded, load_method
from aarlab.testbed.students.features import AnswerLogp
from aarlab.testbed.students.options import AdapterOptions, HeadOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.train_task import TrainTask, leading

LIMIT = 2**31
STORED_ALONE = (
    "this task has stored features only, so the strong model is asked nothing about new texts, and "
    "no blocks are trained; build the task with the model: aarlab task build NAME --with-model"
)
NO_LOGP = (
    "this task was built for states alone: it has no log-likelihoods, so no method or recipe with "
    "zero-shot scores runs on it"
)


class Deliveries:
    """A FeatureSource over the deliveries of one run; each is asked for once per layer."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._lock = channel, threading.Lock()
        self._dropped: deque[int] = deque()
        self._has_model = False
        self._place: dict[str, tuple[int, int]] = {}
        self._kept: dict[tuple[int, str], NDArray[Any]] = {}
        self._layers: tuple[int, ...] = ()
        self._has_logp = False

    def describe(self, facts: dict[str, Any]) -> None:
        self._layers, self._has_logp = tuple(facts["layers"]), facts["log_likelihoods"]
        self._has_model = facts["model"]

    def rows(self, message: Message) -> tuple[BlindRow, ...]:
        """Return the rows of a delivery. Its arrays are ids (N,), keys (N, A), groups (N,)."""
        ids, words_NA = message.arrays["ids"], self.keys(message)
        groups = message.arrays.get("groups", np.full(len(ids), b""))
        return tuple(
            BlindRow(id.decode(), group.decode(), words_A)
            for id, group, words_A in zip(ids.tolist(), groups.tolist(), words_NA, strict=True)
        )

    def keys(self, message: Message) -> list[tuple[str, ...]]:
        """Return the keys of a delivery's rows, and remember where they are."""
        number, keys = int(message.facts["delivery"]), message.arrays["keys"]
        for at, key in enumerate(keys.reshape(-1).tolist()):
            self._place[key.decode()] = (number, at)
        return [tuple(key.decode() for key in keys_A) for keys_A in keys.tolist()]

    def forget(self, number: int) -> None:
        """Drop a delivery that has been answered."""
        self._kept = {what: kept for what, kept in self._kept.items() if what[0] != number}
        self._place = {key: at for key, at in self._place.items() if at[0] != number}

    def of(self, rows: Sequence[Example]) -> dict[str, NDArray[Any]]:
        """Return the arrays that name rows in a message: delivery, place, answers swapped."""
        found = [(*self._find(row.keys[0]), len(row.keys)) for row in rows]
        numbers, places, sizes = np.array(found, np.int32).reshape(-1, 3).T
        return {
            "deliveries": np.ascontiguousarray(numbers),
            "rows": (places // sizes).astype(np.int32),
            "swapped": places % sizes == 1,
        }

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        if layer not in self._layers and not self._has_model:
            raise BadInput(f"no states of layer {layer}; stored are layers {list(self._layers)}")
        return self._gather(examples, "states", layer)

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        if not self._has_logp:
            raise NotFound(NO_LOGP)
        logp_NA3 = self._gather(examples, "logp", 0)
        given_NA, alone_NA, tokens_NA = np.moveaxis(logp_NA3, -1, 0)
        return AnswerLogp(given_NA, alone_NA, tokens_NA.astype(np.int32))

    def layers(self, examples: Sequence[Example] = ()) -> tuple[int, ...]:
        return self._layers

    def ask(self, kind: str, facts: Mapping[str, Any] | None = None, **arrays: Any) -> Message:
        """Return the judge's answer; raises the error that it answered with."""
        with self._lock:
            dropped = [self._dropped.popleft() for _ in range(len(self._dropped))]
            more = {"free": dropped} if dropped else {}
            self._channel.send(kind, {**(facts or {}), **more}, **arrays)
            message = self._channel.receive()
        if message.kind == "error":
            raise error_of(str(message.facts.get("code")), str(message.facts.get("message")))
        return message

    def drop(self, handle: int) -> None:
        """Have the other side free a handle with the next call. Safe while memory is collected."""
        self._dropped.append(handle)

    def _gather(self, examples: Sequence[Example], what: str, layer: int) -> NDArray[np.float32]:
        keys_NA = [example.keys for example in examples]
        if len({len(keys_A) for keys_A in keys_NA}) != 1:
            raise BadInput("features need at least one row, and rows of one kind")
        places = [self._find(key) for keys_A in keys_NA for key in keys_A]
        numbers_M = np.array([number for number, _ in places])
        rows_M = np.array([row for _, row in places])
        parts = {number: self._of(number, what, layer) for number in set(numbers_M.tolist())}
        if len(parts) == 1:
            (table,) = parts.values()
            out = table[rows_M]
        else:
            width = next(iter(parts.values())).shape[1:]
            out = np.empty((len(places), *width), np.float32)
            for number, table in parts.items():
                mine_M = numbers_M == number
                out[mine_M] = table[rows_M[mine_M]]
        shape = (len(examples), len(keys_NA[0]), *out.shape[1:])
        return np.asarray(out.reshape(shape), np.float32)

    def _find(self, key: str) -> tuple[int, int]:
        if key not in self._place:
            raise NotFound("no stored features for this row: it was not delivered in this run")
        return self._place[key]

    def _of(self, number: int, what: str, layer: int) -> NDArray[np.float32]:
        kept = self._kept.get((number, f"{what}-{layer}"))
        if kept is None:
            kept = self.ask(what, {"delivery": number, "layer": layer}).arrays[what]
            self._kept[number, f"{what}-{layer}"] = kept
        return kept


class StoredAlone(StudentFactory):
    """Students of a task on stored features: the strong model is not asked."""

    def ask(self, *_: Any, **__: Any) -> Any:
        raise MethodFailed(STORED_ALONE)

    generate = tuned = ask


def _students(source: Deliveries, facts: dict[str, Any]) -> StudentFactory:
    head = HeadOptions.given(facts["head"])
    if not facts["model"]:
        return StoredAlone(source, facts["layer"], head)
    from aarlab.verify.asked import BlindSource, BlindStudents  # loads more than most runs need

    adapter = facts["adapter"]
    return BlindStudents(
        BlindSource(source),
        facts["layer"],
        head,
        adapter=None if adapter is None else AdapterOptions.given(adapter),
    )


def run(channel: Channel, folder: Path) -> None:
    """Fit once, then predict what is delivered until the other side ends."""
    source, message = Deliveries(channel), channel.receive()
    facts = message.facts
    source.describe(facts)
    labels_SN = message.arrays["labels_SN"]
    rows = source.rows(message)
    task = TrainTask(
        name="task",
        kind=facts["kind"],
        inputs=rows,
        weak_labels_N=leading(labels_SN),
        groups=tuple(row.group for row in rows),
        split_sizes=facts["split_sizes"],
        teacher_labels_SN=labels_SN,
        ask_equality=lambda: tuple(
            word.decode() for word in source.ask("equality").arrays["words"].tolist()
        ),
    )
    student = _students(source, facts)
    forbid_exec()
    fit = load_method(folder).fit
    torch = sys.modules.get("torch")
    if torch is not None:  # several runs share the machine
        torch.set_num_threads(1)
    predictor = guarded(folder, lambda: fit(task, student, facts["seed"]))
    channel.send("fitted")
    while (message := channel.receive()).kind == "predict":
        probs_N = guarded(folder, partial(checked_predictions, predictor, source.rows(message)))
        source.forget(message.facts["delivery"])
        channel.send("probs", probs=probs_N)


def main(argv: list[str]) -> int:
    if len(argv) != 2 or not argv[0].isdigit():
        sys.stderr.write("usage: python -m aarlab.verify.inside CHANNEL METHOD_FOLDER\n")
        return 2
    channel = Channel(socket.socket(fileno=int(argv[0])), LIMIT)
    try:
        run(channel, Path(argv[1]))
    except AarlabError as error:
        sys.stderr.write(f"{error}\n")
        channel.send("failed", {"code": error.code, "message": str(error)[:4000]})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
