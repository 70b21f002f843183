"""Blobs past the server: into the store and from there, by links that the platform gives.

The platform's token never goes there. A link is good for minutes, so each try asks for new ones.

Covered: a link that was cut at any byte, one that is too old, a store that does not answer for a
while. Links and what a store says of them are in no message and no log.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import httpx

from aarlab.client.transport import FIRST_WAIT_S, LONGEST_WAIT_S
from aarlab.core.errors import AarlabError, NotFound, Unreachable
from aarlab.core.links import CHECKSUM, check_link, checksum, keep_out_of_logs, refusal
from aarlab.core.wire_kept import MOST_LINKS, Links, LinksAsked

AT_ONCE = 8
REQUEST_S = 60.0


class Bucket:
    """The blobs of one AAR. `ask` gets links; without an answer for `deadline_s` it is an error.

    Proxies and CAs are those of the machine (HTTPS_PROXY, SSL_CERT_FILE).
    """

    def __init__(self, ask: Callable[[LinksAsked], Links], deadline_s: float) -> None:
        self._ask, self._deadline_s = ask, deadline_s
        keep_out_of_logs()
        self._client = httpx.Client(timeout=REQUEST_S)
        self._threads = ThreadPoolExecutor(AT_ONCE)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        self._client.close()

    def put(self, blobs: Mapping[str, bytes]) -> None:
        """Put blobs by their SHA-256. Raises Unreachable at the deadline."""
        names = list(blobs)
        for first in range(0, len(names), MOST_LINKS):
            self._all(names[first : first + MOST_LINKS], blobs)

    def get(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield blobs, a few at a time. Raises NotFound for one that is not there."""
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            found = self._all(list(dict.fromkeys(some)), None)
            yield from ((name, found[name]) for name in some)

    def _all(self, names: Sequence[str], blobs: Mapping[str, bytes] | None) -> dict[str, bytes]:
        """Put these blobs, or get them where there are none, until each has been."""
        done: dict[str, bytes] = {}
        give_up, wait_s = time.monotonic() + self._deadline_s, FIRST_WAIT_S
        while left := [name for name in names if name not in done]:
            if blobs is None:
                urls = self._ask(LinksAsked(get=left)).get
            else:
                urls = self._ask(LinksAsked(put={name: len(blobs[name]) for name in left})).put
            sent = self._threads.map(lambda name, of=urls: self._one(name, of[name], blobs), left)
            answers = dict(zip(left, sent, strict=True))
            came = {name: one for name, one in answers.items() if isinstance(one, bytes)}
            done |= came
            if came:
                give_up, wait_s = time.monotonic() + self._deadline_s, FIRST_WAIT_S
                continue
            if time.monotonic() + wait_s > give_up:
                raise next(one for one in answers.values() if isinstance(one, AarlabError))
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        return done

    def _one(self, name: str, url: str, blobs: Mapping[str, bytes] | None) -> bytes | AarlabError:
        """Return what came, or why nothing did."""
        check_link(url)
        try:
            if blobs is None:
                answer = self._client.get(url)
            else:
                headers = {CHECKSUM: checksum(name)}
                answer = self._client.put(url, content=blobs[name], headers=headers)
        except httpx.TransportError as error:
            return Unreachable(f"the store of blobs does not answer ({type(error).__name__})")
        if answer.is_success:
            return answer.content
        said = refusal(answer.status_code, answer.content)
        if blobs is None and answer.status_code == httpx.codes.NOT_FOUND:
            raise NotFound(f"the store of blobs has no blob {name} ({said})")
        return Unreachable(f"the store of blobs refuses blob {name} ({said})")
