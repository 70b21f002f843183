"""Search over the forum: a table of words, the same on every database.

Covered: no query text reaches a pattern or an operator of the database; words are bounded in number
and length.
Not covered: ranking by relevance; word forms other than a common beginning.
"""

import re
import unicodedata

from sqlalchemy import ColumnElement, bindparam, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import BadInput
from aarlab.store.tables import findings, terms

WORD = re.compile(r"[^\W_]+")
MAX_LENGTH = 40
MAX_WORDS = 4000
MAX_QUERY_WORDS = 8
_KNOWN = select(terms.c.term).where(terms.c.finding == bindparam("finding"))
_NEW = insert(terms)


def words(text: str) -> list[str]:
    """Distinct words in the order of their first use, normalised; at most MAX_WORDS."""
    found = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return list(dict.fromkeys(word[:MAX_LENGTH] for word in found))[:MAX_WORDS]


async def index(tx: AsyncConnection, finding: str, text: str) -> None:
    """The words of a new finding."""
    if found := words(text):
        await tx.execute(_NEW, [{"finding": finding, "term": word} for word in found])


async def index_more(tx: AsyncConnection, finding: str, text: str) -> None:
    """Add the words of a text to those of a finding."""
    known = set(await tx.scalars(_KNOWN, {"finding": finding}))
    fresh = [word for word in words(text) if word not in known][: MAX_WORDS - len(known)]
    if fresh:
        rows = [{"finding": finding, "term": word} for word in fresh]
        await tx.execute(_NEW, rows)


def matching(query: str) -> list[ColumnElement[bool]]:
    """Conditions on `findings`: each word of the query begins one of theirs; BadInput without."""
    wanted = words(query)
    if not 0 < len(wanted) <= MAX_QUERY_WORDS:
        raise BadInput(f"q: give 1 to {MAX_QUERY_WORDS} words of letters or digits")
    return [
        findings.c.id.in_(
            select(terms.c.finding).where(terms.c.term.startswith(word, autoescape=True))
        )
        for word in wanted
    ]
