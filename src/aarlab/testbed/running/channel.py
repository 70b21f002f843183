"""Messages between a method's process and the trusted one next to it: a typed header, raw arrays.

A message is 8 bytes of lengths (header, body; little endian), a JSON header, and the arrays' bytes.
Nothing is unpickled.

Covered: lengths over the limit, other types than numbers and bytes, shapes that do not fit the
body, invalid JSON, an end in the middle. All of them raise BadInput or ChannelClosed before more
than the limit is read or kept.
With `frame_s` also a sender that takes longer for the rest of a message, and a reader that takes
longer to take one: ChannelClosed.
Not covered: a sender that sends nothing; and without `frame_s` one that is slow. End its process.
"""

import contextlib
import json
import math
import socket
import struct
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import AarlabError, BadInput
from aarlab.core.foreign import read_json

_LENGTHS = struct.Struct("<II")
MAX_HEADER = 65_536
MAX_ARRAYS, MAX_DIMENSIONS, MAX_WORD = 16, 4, 256
Arrays = Mapping[str, NDArray[Any]]


class ChannelClosed(AarlabError):
    """The other side ended, or closed the channel."""

    code = "channel_closed"


class Message(NamedTuple):
    """`facts` are plain JSON values, `arrays` numbers or byte strings by name."""

    kind: str
    facts: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


class Channel:
    """One end of a connected stream socket; refuses messages over `limit` bytes.

    A message that has begun must have arrived, or gone, after `frame_s` seconds.
    """

    def __init__(self, end: socket.socket, limit: int, frame_s: float | None = None) -> None:
        self._end, self._limit, self._frame_s = end, limit, frame_s
        self._until: float | None = None
        end.settimeout(frame_s)

    def send(self, kind: str, facts: Mapping[str, Any] | None = None, **arrays: Any) -> None:
        """Send a message. Raises ChannelClosed if the other end is no longer reading."""
        kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        about = [[name, a.dtype.str, list(a.shape)] for name, a in kept.items()]
        header = json.dumps({"kind": kind, "facts": facts or {}, "arrays": about}).encode()
        body = sum(array.nbytes for array in kept.values())
        try:
            if self._frame_s is not None:
                self._end.settimeout(self._frame_s)
            self._end.sendall(_LENGTHS.pack(len(header), body) + header)
            for array in kept.values():
                if array.nbytes:
                    self._end.sendall(array.reshape(-1).view(np.uint8).data)
        except OSError as error:
            raise ChannelClosed(f"the other side is gone: {error}") from error

    def receive(self) -> Message:
        """Return the next message.

        Raises ChannelClosed at the end, BadInput for an invalid message.
        """
        self._until = None if self._frame_s is None else time.monotonic() + self._frame_s
        header_bytes, body_bytes = _LENGTHS.unpack(self._exactly(_LENGTHS.size))
        if header_bytes > MAX_HEADER or body_bytes > self._limit:
            raise BadInput(f"a message of {header_bytes} + {body_bytes} bytes is too long")
        header = read_json(bytes(self._exactly(header_bytes)), "message header")
        kind, facts, places = _checked(header, body_bytes)
        body = self._exactly(body_bytes)
        arrays, at = dict[str, NDArray[Any]](), 0
        for name, dtype, shape in places:
            size = math.prod(shape)
            found = np.frombuffer(body, dtype, size, at) if size else np.empty(0, dtype)
            arrays[name] = found.reshape(shape)
            at += dtype.itemsize * size
        return Message(kind, facts, arrays)

    def close(self) -> None:
        self._end.close()

    def end(self) -> None:
        """End both directions for whoever waits on this channel in another thread."""
        with contextlib.suppress(OSError):  # closed already
            self._end.shutdown(socket.SHUT_RDWR)

    def _exactly(self, count: int) -> bytearray:
        found = bytearray(count)
        view, at = memoryview(found), 0
        while at < count:
            try:
                if self._until is not None:
                    self._end.settimeout(max(self._until - time.monotonic(), 1e-3))
                got = self._end.recv_into(view[at:])
            except OSError as error:
                raise ChannelClosed(f"the other side is gone: {error}") from error
            if got == 0:
                raise ChannelClosed("the other side closed the channel")
            at += got
        return found


_Place = tuple[str, np.dtype[Any], tuple[int, ...]]


def _checked(header: Any, body_bytes: int) -> tuple[str, dict[str, Any], list[_Place]]:
    if not isinstance(header, dict) or header.keys() != {"kind", "facts", "arrays"}:
        raise BadInput("message header: expected kind, facts and arrays")
    kind, facts, arrays = header["kind"], header["facts"], header["arrays"]
    if not isinstance(kind, str) or not isinstance(facts, dict) or not isinstance(arrays, list):
        raise BadInput("message header: kind, facts or arrays is of another type")
    if len(arrays) > MAX_ARRAYS:
        raise BadInput(f"message header: {len(arrays)} arrays, at most {MAX_ARRAYS}")
    places = [_place(one) for one in arrays]
    if sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in places) != body_bytes:
        raise BadInput("message header: its arrays do not fill its body")
    if len({name for name, _, _ in places}) != len(places):
        raise BadInput("message header: an array is named twice")
    return kind, facts, places


def _place(one: Any) -> _Place:
    if not isinstance(one, list) or len(one) != 3:
        raise BadInput("message header: an array is name, type and shape")
    name, kind, shape = one
    if not isinstance(name, str) or not isinstance(kind, str) or not isinstance(shape, list):
        raise BadInput("message header: an array is name, type and shape")
    return name, _dtype(kind), _shape(shape)


def _dtype(kind: str) -> np.dtype[Any]:
    plain = kind in ("<f4", "<f8", "<i4", "<i8", "|b1")
    word = kind.startswith("|S") and kind[2:].isascii() and kind[2:].isdigit()
    if not plain and not (word and len(kind) < 6 and 0 < int(kind[2:]) <= MAX_WORD):
        raise BadInput(f"message header: arrays of type {kind[:20]!r} are not sent")
    return np.dtype(kind)


def _shape(shape: list[Any]) -> tuple[int, ...]:
    sizes = [n for n in shape if type(n) is int and 0 <= n < 2**31]
    if len(sizes) != len(shape) or len(shape) > MAX_DIMENSIONS:
        raise BadInput("message header: a shape is up to 4 sizes")
    if math.prod(max(n, 1) for n in sizes) >= 2**31:  # numpy refuses such arrays, even empty ones
        raise BadInput("message header: an array of 2^31 values or more")
    return tuple(sizes)
