"""What a blind method asks of the strong model: checked, translated, limited and written down.

The method's process has no socket but the judge's channel. It names rows by delivery and place, and
what it made by handle. Here they become rows of the grant, and go to a session with the model
(`strong.py`). What comes back is predictions, logits, or the handle of something that stays there.

Covered: templates and their words are recorded, and limited in number and size: they are what an
author can say about rows. A generated text meets only the rows that it is about. Handles of a
delivery end with it. Heads stay on the trusted side. The seeds of fresh weights and perturbations
are exchanged for drawn ones, also where a message names none, so that no known weights or
directions can be had. A student that reads label tokens, where the task's does not, counts as a
question for log-likelihoods. What is held of filled templates is limited.
Not covered: predictions and logits are given as they are. With enough students they say how like
each other rows are, without the noise of states; and where the task's own students read label
tokens, one that has hardly learned says their log-odds. Each template is a question that the model
reads the text for, so a few bits of the text are learned with each.
Legend: B rows of a call, N rows of a delivery.
"""

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import BadInput, MethodFailed
from aarlab.core.types import Example
from aarlab.testbed.running.channel import Message
from aarlab.testbed.students.templates import ASKED, ASKED_CHARACTERS, Template
from aarlab.verify.strong import Line, asked_facts

MAX_ROWS, MAX_FREED, MAX_DELIVERIES = 100_000, 4096, 512
MAX_HELD = 2**29  # characters of filled templates that a run holds; a row's own text counts as ROW
ROW = 1000  # not its length, which an error would then tell
SEED_BITS = 62
NOT_STATES = (
    "rows with generated texts have no states and no log-likelihoods in a verified run: train a "
    "student on them (student.new)"
)


class Refused(MethodFailed):
    """The method's process said that it failed, or its answer was invalid."""


class About(NamedTuple):
    """What rows of a template are about: rows of another delivery."""

    template: Template
    parent: int
    first: int  # number of the first one in the session
    handle: int
    with_texts: bool
    size: int  # in characters, as far as it counts


@dataclass(slots=True)
class Delivery:
    """Rows in the order sent, and how often states or log-likelihoods of them were asked for."""

    number: int
    rows: tuple[Example, ...]
    numbers_N: NDArray[np.int32]  # in the grant
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)
    about: About | None = None

    @property
    def n_answers(self) -> int:
        """Return how many answers each of its rows has, or how many words follow its template."""
        own = len(self.rows[0].answers)
        return own if self.about is None else len(self.about.template.words_of(own)) or own


class _Written(NamedTuple):
    """Which rows a generated text is about."""

    delivery: int
    rows: bytes


Deliveries = dict[int, Delivery]
Reply = tuple[dict[str, Any], dict[str, NDArray[Any]]]


@dataclass(slots=True)
class Asking:
    """One run's session with the strong model. `secret` exchanges seeds, None leaves them.

    `deliveries` are the judge's. `forwarded` counts rows that the model saw. `log_odds` is whether
    students were made that read label tokens, other than those of the task (`reads_labels`).
    """

    line: Line
    deliveries: Deliveries
    new: Callable[[Sequence[Example]], Delivery]
    secret: bytes | None
    reads_labels: bool = False
    log_odds: bool = False
    templates: dict[Template, None] = field(default_factory=dict)
    _texts: dict[int, _Written] = field(default_factory=dict)
    _blocks: dict[int, int] = field(default_factory=dict)  # delivery of a template's rows by handle

    @property
    def forwarded(self) -> int:
        return self.line.compute.rows_forwarded

    def answer(self, message: Message) -> Reply:
        """Return the facts and arrays of an answer.

        Raises BadInput, NotFound, BudgetExhausted or MethodFailed with what the method may read,
        Refused for a message that no honest client sends.
        """
        self.free(message.facts.get("free", []))
        call = CALLS.get(message.kind)
        if call is None:
            raise Refused(f"its process sent {message.kind[:40]!r}, which is not a call")
        return call(self, message)

    def close_delivery(self, number: int) -> None:
        """End what is about the rows of a delivery."""
        gone = [h for h, block in self._blocks.items() if self._parent(block) == number]
        gone += [handle for handle, text in self._texts.items() if text.delivery == number]
        self.free(gone)

    def free(self, handles: Any) -> None:
        """Let things go, with the rows that they name."""
        if not isinstance(handles, list) or len(handles) > MAX_FREED:
            raise Refused("its process freed something other than a list of handles")
        gone = [handle for handle in handles if type(handle) is int]
        for handle in gone:
            self._texts.pop(handle, None)
            if (block := self._blocks.pop(handle, None)) is not None:
                self.deliveries.pop(block, None)
        if gone:
            self.line.ask("usage", {"free": gone})

    # ------------------------------------------------------------ rows and templates
    def ask(self, message: Message) -> Reply:
        """Make rows of a template about the rows of one delivery."""
        delivery, rows_B = self._of_one(message)
        if len(self.deliveries) > MAX_DELIVERIES:
            raise BadInput("too many rows of templates are held: drop those that are done with")
        texts = message.facts.get("texts", [])
        if not isinstance(texts, list) or len(texts) > 4:
            raise Refused("its process named texts by something other than a list of handles")
        mine = _Written(delivery.number, rows_B.tobytes())
        if any(type(text) is not int or self._texts.get(text) != mine for text in texts):
            raise BadInput(
                "texts: a generated text meets the rows that it is about, in the order in which it "
                "was generated for them (one text for each row)"
            )
        template = self._noted(message, delivery, len(texts))
        size = len(rows_B) * (n_characters(template) + ROW)
        if size + sum(self._about(block).size for block in self._blocks.values()) > MAX_HELD:
            raise BadInput(
                f"rows of templates of over {MAX_HELD:,} characters are held: drop those that are "
                "done with, or ask about fewer rows"
            )
        facts = asked_facts(template) | {"texts": texts}
        made = self.line.ask("ask", facts, rows=delivery.numbers_N[rows_B]).facts
        block = self.new([delivery.rows[at] for at in rows_B])
        block.about = About(
            template, delivery.number, made["first"], made["handle"], bool(texts), size
        )
        self._blocks[made["handle"]] = block.number
        return {"handle": made["handle"], "delivery": block.number}, {}

    def generate(self, message: Message) -> Reply:
        delivery, rows_B = self._of_one(message)
        template = self._noted(message, delivery, 0)
        facts = {name: message.facts.get(name) for name in ("n", "options", "model")}
        given = {**asked_facts(template), **self._with_seeds(facts)}
        handles = self.line.ask("generate", given, rows=delivery.numbers_N[rows_B]).facts["handles"]
        for handle in handles:
            self._texts[handle] = _Written(delivery.number, rows_B.tobytes())
        return {"handles": handles}, {}

    def _noted(self, message: Message, delivery: Delivery, n_texts: int) -> Template:
        """Return a message's template, written down; raises BadInput over what a run may say."""
        template = _template(message)
        template.check(delivery.n_answers, n_texts)
        if template not in self.templates:
            size = sum(map(n_characters, (*self.templates, template)))
            if len(self.templates) >= ASKED or size > ASKED_CHARACTERS:
                raise BadInput(
                    f"a verified run may ask {ASKED} different templates, of "
                    f"{ASKED_CHARACTERS:,} characters in all: the same one for all rows counts once"
                )
            self.templates[template] = None
        return template

    def _of_one(self, message: Message) -> tuple[Delivery, NDArray[np.int32]]:
        """Return the delivery that all rows of a message are of, and their places in it."""
        numbers_B, rows_B, swapped_B = self._named(message)
        if len(set(numbers_B.tolist())) != 1:
            raise BadInput("templates are about rows of one delivery: ask for each by itself")
        delivery = self._delivery(int(numbers_B[0]), rows_B)
        if delivery.about is not None:
            raise BadInput("a template is about rows that were delivered, not about template rows")
        if swapped_B.any():
            raise BadInput(
                "a template is about rows as they were delivered: say swapped=True with it instead "
                "of asking about row.swapped()"
            )
        return delivery, rows_B

    def _places(self, message: Message) -> dict[str, NDArray[Any]]:
        """Return the arrays that name a message's rows in the session."""
        numbers_B, rows_B, swapped_B = self._named(message)
        found_B = np.empty(len(rows_B), np.int32)
        for number in set(numbers_B.tolist()):
            mine_B = numbers_B == number
            delivery = self._delivery(number, rows_B[mine_B])
            if delivery.about is None:
                found_B[mine_B] = delivery.numbers_N[rows_B[mine_B]]
            else:
                found_B[mine_B] = delivery.about.first + rows_B[mine_B]
        return {"rows": found_B, "swapped": swapped_B}

    def _named(
        self, message: Message
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
        names = ("deliveries", "rows", "swapped")
        numbers_B, rows_B, swapped_B = (message.arrays.get(name) for name in names)
        if numbers_B is None or rows_B is None or swapped_B is None:
            raise Refused("its process named no rows")
        kinds = [array.dtype.name for array in (numbers_B, rows_B, swapped_B)]
        if kinds != ["int32", "int32", "bool"] or rows_B.ndim != 1:
            raise Refused("its process named rows in another form")
        if not len(rows_B) or not numbers_B.shape == rows_B.shape == swapped_B.shape:
            raise Refused("its process named rows in another form")
        if len(rows_B) > MAX_ROWS:
            raise BadInput(f"{len(rows_B):,} rows at once: ask for up to {MAX_ROWS:,}")
        return numbers_B, rows_B, swapped_B

    def _delivery(self, number: int, rows_B: NDArray[np.int32]) -> Delivery:
        delivery = self.deliveries.get(number)
        if delivery is None:
            raise Refused("its process asked about rows of no open delivery")
        if rows_B.min() < 0 or rows_B.max() >= len(delivery.rows):
            raise Refused("its process asked about rows that were not delivered")
        return delivery

    def _about(self, block: int) -> About:
        about = self.deliveries[block].about
        assert about is not None
        return about

    def _parent(self, block: int) -> int:
        return self._about(block).parent

    # ------------------------------------------------------------ students and trainers
    def tune(self, message: Message) -> Reply:
        texts, places = message.facts.get("texts"), self._places(message)
        if texts is not None:
            self._check_about(texts, message)
        facts = {"texts": texts, **self._wanted(message, "model", "options")}
        given = {name: message.arrays[name] for name in ("weights",) if name in message.arrays}
        return {"handle": self.line.ask("tune", facts, **places, **given).facts["handle"]}, {}

    def _check_about(self, text: Any, message: Message) -> None:
        """Check that texts to learn are about the rows, or the rows that these are asked of."""
        numbers_B, rows_B, _ = self._named(message)
        written = self._texts.get(text) if type(text) is int else None
        numbers = set(numbers_B.tolist())
        delivery = self._delivery(int(numbers_B[0]), rows_B)
        if written is not None and len(numbers) == 1 and delivery.about is not None:
            in_order = np.array_equal(rows_B, np.arange(len(delivery.rows)))
            same = delivery.numbers_N.tobytes() == self._numbers_of(written).tobytes()
            if in_order and same and written.delivery == delivery.about.parent:
                return
        if written is not None and written == _Written(delivery.number, rows_B.tobytes()):
            return
        raise BadInput("texts: expected texts that were generated for these rows, in this order")

    def _numbers_of(self, written: _Written) -> NDArray[np.int32]:
        numbers_N = self.deliveries[written.delivery].numbers_N
        return numbers_N[np.frombuffer(written.rows, np.int32)]

    def make(self, message: Message) -> Reply:
        facts = self._wanted(message, "layer", "adapter", "model", "options")
        return {"handle": self.line.ask("new", facts).facts["handle"]}, {}

    def trainer(self, message: Message) -> Reply:
        facts = self._wanted(message, "layer", "adapter", "model", "options")
        made = self.line.ask("trainer", facts, **self._places(message))
        return {"handle": made.facts["handle"]}, {}

    def fit(self, message: Message) -> Reply:
        facts = self._wanted(message, "handle", "options")
        given = {n: message.arrays[n] for n in ("targets", "weights") if n in message.arrays}
        self.line.ask(message.kind, facts, **self._places(message), **given)
        return {}, {}

    def predict(self, message: Message) -> Reply:
        facts = self._wanted(message, "handle")
        return {}, self.line.ask(message.kind, facts, **self._places(message)).arrays

    def move(self, message: Message) -> Reply:
        """Pass on a call of a trainer that names no rows."""
        facts = self._wanted(message, "handle", "lr", "seed", "scale", "saved")
        arrays = {name: message.arrays[name] for name in ("grad",) if name in message.arrays}
        made = self.line.ask(message.kind, facts, **arrays).facts
        return {name: made[name] for name in ("handle",) if name in made}, {}

    def _wanted(self, message: Message, *names: str) -> dict[str, Any]:
        """Return these facts of a message, with other seeds."""
        facts = {name: message.facts[name] for name in names if name in message.facts}
        adapter = facts.get("adapter")
        if isinstance(adapter, dict) and adapter.get("readout") == "labels":
            self.log_odds |= not self.reads_labels
        return self._with_seeds(facts)

    def _with_seeds(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return facts with other seeds; options that name none have seed 0, as their classes."""
        options = facts.get("options")
        if isinstance(options, dict):
            facts["options"] = {**options, "seed": self._seed(options.get("seed", 0))}
        if "seed" in facts:
            facts["seed"] = self._seed(facts["seed"])
        return facts

    def _seed(self, seed: Any) -> Any:
        if self.secret is None or type(seed) is not int or seed < 0:
            return seed
        digest = hmac.digest(self.secret, str(seed).encode(), hashlib.sha256)
        return int.from_bytes(digest[:8], "little") >> (64 - SEED_BITS)


Call = Callable[[Asking, Message], Reply]
CALLS: dict[str, Call] = {
    "ask": Asking.ask,
    "generate": Asking.generate,
    "tune": Asking.tune,
    "new": Asking.make,
    "fit": Asking.fit,
    "go_on": Asking.fit,
    "predict": Asking.predict,
    "trainer": Asking.trainer,
    "forward": Asking.predict,
    "backward": Asking.move,
    "step": Asking.move,
    "perturb": Asking.move,
    "save": Asking.move,
    "restore": Asking.move,
}


def n_characters(template: Template) -> int:
    """Return the characters of a template and its words."""
    return len(template.text) + sum(map(len, template.words or ()))


def in_words(template: Template) -> str:
    """Return a template as it is shown with a score."""
    words = "" if template.words is None else f" -> {' | '.join(template.words) or 'its answers'}"
    return f"{template.text}{words}{' (swapped)' if template.swapped else ''}"


def _template(message: Message) -> Template:
    text, words = message.facts.get("template"), message.facts.get("words")
    swapped = message.facts.get("asked_swapped", False)
    fits = isinstance(text, str) and isinstance(swapped, bool)
    if words is not None:
        fits = fits and isinstance(words, list) and all(isinstance(word, str) for word in words)
    if not fits:
        raise Refused("its process sent a template of another form")
    return Template(str(text), None if words is None else tuple(words), swapped)
