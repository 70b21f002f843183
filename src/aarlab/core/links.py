"""Links to blobs in a store: URLs that are signed for one blob and a few minutes.

Whoever has a link needs nothing else, so no message here repeats one.
"""

import base64
import logging
import re
from urllib.parse import urlsplit

from aarlab.core.errors import BadInput
from aarlab.core.loopback import is_loopback

CHECKSUM = "x-amz-checksum-sha256"  # the header of a body that is put by a link
SIGNED = "X-Amz-Signature"  # in every link
_CODE = re.compile(rb"<Code>([A-Za-z]{1,60})</Code>")


def checksum(digest: str) -> str:
    """Return a SHA-256 in hex as CHECKSUM has it."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def check_link(url: str) -> None:
    """Raise BadInput for http beyond this machine, which would show the link to the network."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise BadInput(
            f"the store of blobs is at {parts.scheme}://{parts.hostname}: without TLS its links "
            "would be readable on the way. Give its https address in AWS_ENDPOINT_URL"
        )


def refusal(status: int, body: bytes) -> str:
    """Describe a store's refusal: its status, and its code where it gives one."""
    found = _CODE.search(body[:4000])
    return f"HTTP {status}" + (f" {found[1].decode()}" if found else "")


class _WithoutLinks(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return SIGNED not in record.getMessage()


_WITHOUT_LINKS = _WithoutLinks()


def keep_out_of_logs() -> None:
    """Drop what httpx logs of requests to links, at whatever level it logs."""
    logging.getLogger("httpx").addFilter(_WITHOUT_LINKS)
