"""Canonical JSON, content hashes and the hash chain: the same value has one text and one SHA-256.

The chain is append-only: h_t = SHA256(h_{t-1} || canonical entry).

Covered: an edited, removed, inserted or reordered entry, and, against an exported head, truncation.
Not covered: an operator who rewrites the whole chain and every exported head.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aarlab.core.errors import Damaged


def canonical_json(value: Any) -> str:
    """Return JSON with sorted keys, without white space, UTF-8 kept.

    Raises ValueError for NaN and infinity.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_hex(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def content_hash(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of a value."""
    return sha256_hex(canonical_json(value))


GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class LogEntry:
    """`seq` counts from 1, `body` is JSON, `hash` covers the previous hash and this entry."""

    seq: int
    kind: str
    at: str
    body: dict[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class LogHead:
    """The exported end of a chain; a later chain must pass through it."""

    seq: int
    hash: str


def next_hash(previous: str, seq: int, kind: str, at: str, body: dict[str, Any]) -> str:
    entry = canonical_json({"seq": seq, "kind": kind, "at": at, "body": body})
    return sha256_hex(previous + entry)


def verify_chain(entries: Iterable[LogEntry], *heads: LogHead) -> LogHead:
    """Return the head of an intact chain; raise Damaged naming the first bad entry.

    With `heads`, the chain must also pass through each of them (finds truncation and rewriting).
    """
    previous, seq = GENESIS, 0
    missing = set(heads) - {LogHead(0, GENESIS)}
    for entry in entries:
        seq += 1
        if entry.seq != seq:
            raise Damaged(f"log entry {seq} is missing: found number {entry.seq} in its place")
        previous = next_hash(previous, seq, entry.kind, entry.at, entry.body)
        if entry.hash != previous:
            raise Damaged(f"log entry {seq} ({entry.kind}) does not match its hash: it was changed")
        missing.discard(LogHead(seq, previous))
    if missing:
        head = min(missing, key=lambda lost: lost.seq)
        raise Damaged(
            f"the log does not contain the exported head {head.seq}:{head.hash[:12]}: it was cut "
            "off or rewritten"
        )
    return LogHead(seq, previous)
