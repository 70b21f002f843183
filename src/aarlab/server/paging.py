"""Cursors of list routes: `after` and `limit` in, a `Link: <...>; rel="next"` header out.

Without `limit` a list comes whole.
"""

from collections.abc import Sequence
from typing import Annotated, NamedTuple, TypeVar

from fastapi import Depends, Query, Request, Response

from aarlab.core.wire_service import MAX_CURSOR

Item = TypeVar("Item")
Cursor = Annotated[
    int, Query(ge=0, le=MAX_CURSOR, description="cursor of the page before, from its Link header")
]
Limit = Annotated[int | None, Query(ge=1, le=1000, description="page size; all without it")]


class Page(NamedTuple):
    request: Request
    response: Response
    after: int
    limit: int | None

    def of(self, numbered: Sequence[tuple[int, Item]]) -> list[Item]:
        """Return the page of items with their cursors. One too many says that there is a next."""
        kept = numbered if self.limit is None else numbered[: self.limit]
        if len(kept) < len(numbered):
            url = self.request.url.include_query_params(after=kept[-1][0])
            self.response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return [item for _, item in kept]

    def of_all(self, items: Sequence[Item]) -> list[Item]:
        """Return the page of a whole list. The cursor is the place in it."""
        return self.of(list(enumerate(items, 1))[self.after :])


async def page_asked(
    request: Request, response: Response, after: Cursor = 0, limit: Limit = None
) -> Page:
    return Page(request, response, after, limit)


PageDep = Annotated[Page, Depends(page_asked)]
