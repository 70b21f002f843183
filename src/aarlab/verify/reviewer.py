"""Reviews of code by a paid model, on the platform's books.

Killed at any line, a call is made again only after the one before it was booked: an answer is kept
on disk before it is booked, and a call without an answer is booked at its worst.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from aarlab.agents.operator_books import FREE, Books, Platform
from aarlab.agents.prices import Price, price_of
from aarlab.agents.refusals import WHAT_TO_DO, refusal_of
from aarlab.core.errors import BudgetExhausted, Damaged, NotFound
from aarlab.core.files import write_json
from aarlab.core.layout import RunDir
from aarlab.verify.review import MAX_ANSWER_TOKENS, Ask, Reply, Review, endpoint, review_code
from aarlab.verify.settings import ReviewSettings

NOT_BILLED = (
    httpx.HTTPStatusError,
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


class Kept(NamedTuple):
    """An answer on disk and the call that it belongs to."""

    call: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Reviewer:
    """`answers` is a folder with a file for each snapshot that was answered."""

    ask: Ask
    books: Books
    answers: Path

    def settle(self) -> None:
        """Book what a killed process left open; before the first review."""
        kept = [_read(path) for path in sorted(self.answers.glob("*.json"))]
        self.books.settle({answer.call: answer.reply.tokens for answer in kept})

    def __call__(self, snapshot: str, files: Mapping[str, bytes]) -> Review:
        """Review the code of a snapshot.

        Raises BudgetExhausted where a call could exceed the cap, and then makes none. Also raises
        it where the provider does not serve this account.
        """
        return review_code(files, partial(self._asked, snapshot))

    def _asked(self, snapshot: str, prompt: str) -> Reply:
        path = self.answers / f"{snapshot}.json"
        if path.exists():  # and booked: by the process that asked, or by `settle`
            return _read(path).reply
        held, begun = self.books.begin(snapshot, prompt, MAX_ANSWER_TOKENS), time.monotonic()
        try:
            reply = self.ask(prompt)
        except NOT_BILLED as error:
            self.books.end(held, FREE, time.monotonic() - begun)
            refusal = refusal_of(error)
            if refusal.meaning in ("account", "key", "settings"):
                # The operator's account is at fault, not the code: review it once that is fixed.
                what = WHAT_TO_DO[refusal.meaning]
                raise BudgetExhausted(f"the reviewer's provider: {refusal}: {what}") from error
            raise
        except httpx.HTTPError:
            self.books.end(held, None, time.monotonic() - begun)
            raise
        self.answers.mkdir(parents=True, exist_ok=True)
        write_json(path, {"call": held.call, "reply": reply._asdict()}, 0o600)
        self.books.end(held, reply.tokens, time.monotonic() - begun)
        return reply


def _read(path: Path) -> Kept:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Kept(raw["call"], Reply(**raw["reply"]))
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} is no answer of a review: remove it") from error


class Unpriced:
    """Stands in for a reviewer whose model has no known price: no call is made."""

    def __init__(self, why: str) -> None:
        self._why = why

    def settle(self) -> None:
        """It made no call."""

    def __call__(self, _snapshot: str, _files: Mapping[str, bytes]) -> Review:
        raise BudgetExhausted(self._why)


def reviewer(
    run: RunDir, platform: Platform, settings: ReviewSettings, cap_dollars: float | None
) -> Reviewer | Unpriced | None:
    """None where no endpoint is configured."""
    ask, name = endpoint(settings), f"{settings.format}/{settings.model}"
    if ask is None:
        return None
    try:
        price = _price(run, settings, name)
    except NotFound as error:
        return Unpriced(f"{error}; or set AARLAB_REVIEW_PRICE, as [3.0, 15.0]")
    books = Books(platform, "review", name, price, cap_dollars)
    return Reviewer(ask, books, run.verifier / "reviews")


def _price(run: RunDir, settings: ReviewSettings, name: str) -> Price:
    """The setting's, the spec's (by either name), or the table's on the day of the campaign."""
    if settings.price is not None:
        read, written = settings.price
        return Price(model=name, dated="AARLAB_REVIEW_PRICE", input=read, output=written)
    frozen: dict[str, Any] = (
        json.loads(run.spec.read_text(encoding="utf-8")) if run.spec.exists() else {}
    )
    given = frozen.get("campaign", {}).get("prices", {})
    own = {model: Price.model_validate(price) for model, price in given.items()}
    if settings.model in own:
        return own[settings.model]
    return price_of(name, own, frozen.get("settings", {}).get("created_at"))
