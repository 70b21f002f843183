"""What the trusted side lets one client use, and how it tells the server. Not for sandboxes.

A grant names a model, the rows by their texts, and limits. The server answers it with a token. Who
holds the token is the client: it learns the rows' ids and groups, and keys to name them by.
"""

import json
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aarlab.core.errors import AarlabError, BadInput, Forbidden, NotFound, Unreachable
from aarlab.core.hashing import sha256_hex
from aarlab.core.options import explain
from aarlab.core.types import Example
from aarlab.students.client import connected
from aarlab.students.queue import Kind
from aarlab.students.rows import packed_rows, unpacked_rows
from aarlab.students.settings import DeviceSettings
from aarlab.testbed.running.channel import Channel, ChannelClosed, Message
from aarlab.testbed.students.options import AdapterOptions, HeadOptions
from aarlab.testbed.tasks.train_task import StudentSettings

MAX_ANSWER = 2**31


class Limits(BaseModel):
    """What a client may hold and use at most. `device_s` is in all, None for no limit.

    `bytes` are those of all that its sessions hold on the server: students, trainers, texts, and
    what calls need while they run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sessions: int = Field(default=8, ge=1, le=256)
    handles: int = Field(default=512, ge=1, le=100_000)
    bytes: int = Field(default=2**31, ge=2**16)
    device_s: float | None = Field(default=None, ge=0)


class GrantFacts(BaseModel):
    """A grant without its rows. Paths are those of the server's machine.

    `model` is "" where the stored features are all there is. `reads_texts`: the client holds the
    texts of its rows, and may bring texts of its own. Otherwise keys are drawn for each session.
    `secret` determines the directions of perturbations; without one they are drawn.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=200)
    kind: Kind = "foreground"
    model: str = ""
    layer: int = Field(ge=0)
    head: HeadOptions
    adapter: AdapterOptions | None = None
    reads_texts: bool = False
    features: list[str] = []
    limits: Limits = Limits()
    secret: str = Field(default="", max_length=64)
    n_answers: int = Field(ge=1, le=2)


@dataclass(frozen=True, slots=True)
class Grant:
    """Facts and rows: all that a client may use."""

    facts: GrantFacts
    rows: tuple[Example, ...]

    @classmethod
    def of(
        cls,
        name: str,
        rows: Sequence[Example],
        settings: StudentSettings,
        model: str = "",
        **more: Any,
    ) -> "Grant":
        """Return a grant of some rows with a task's student settings.

        `more` are other fields of `GrantFacts`. Raises BadInput for rows of two kinds or none.
        """
        counts = {len(row.answers) for row in rows}
        if len(counts) != 1:
            raise BadInput(f"grant {name}: expected rows of one kind, got {len(counts)} kinds")
        try:
            facts = GrantFacts(
                name=name,
                model=model,
                layer=settings.layer,
                head=settings.options,
                adapter=settings.adapter,
                n_answers=counts.pop(),
                **more,
            )
        except ValidationError as error:
            raise BadInput(explain("grant", error)) from error
        return cls(facts, tuple(rows))

    @classmethod
    def received(cls, message: Message) -> "Grant":
        """Return the grant of a message of `Operator.admit`; raises BadInput for another."""
        try:
            facts = GrantFacts.model_validate_json(json.dumps(message.facts))
        except ValidationError as error:
            raise BadInput(explain("grant", error)) from error
        return cls(facts, unpacked_rows(message.arrays, facts.n_answers))


class Operator:
    """The trusted side's connection to a student server, whose key lies in the folder of locks.

    Without `locks` it is that of AARLAB_DEVICE_LOCKS.
    """

    def __init__(self, path: Path, locks: Path | None = None) -> None:
        key = key_path(path, locks or DeviceSettings().device_locks)
        try:
            word = key.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise NotFound(
                f"no key of a student server at {path} ({key}): is one running? "
                "aarlab students serve"
            ) from None
        self._path = path
        end = connected(path)
        if _user_of(end) != key.stat().st_uid:
            end.close()
            raise Forbidden(
                f"{path} is answered by another user than that of {key}: no key is sent"
            )
        self._channel = Channel(end, MAX_ANSWER)
        try:
            self._ask("operator", {"key": word})
        except AarlabError:
            self.close()
            raise

    def __enter__(self) -> "Operator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def admit(self, grant: Grant) -> str:
        """Return the token of a new client.

        A client of the same name loses what it held, and keeps what it has used.
        """
        facts = grant.facts.model_dump(mode="json")
        return str(self._ask("admit", facts, **packed_rows(grant.rows)).facts["token"])

    def withdraw(self, name: str) -> dict[str, Any]:
        """End a client's sessions, free what they held, and return what it used."""
        return self._ask("withdraw", {"name": name}).facts

    def status(self) -> dict[str, Any]:
        """Return device, models, queue, and what each client holds and has used."""
        return self._ask("status", {}).facts

    def _ask(self, kind: str, facts: dict[str, Any], **arrays: Any) -> Message:
        try:
            self._channel.send(kind, facts, **arrays)
            message = self._channel.receive()
        except ChannelClosed as error:
            raise Unreachable(f"the student server at {self._path} is gone: {error}") from error
        if message.kind == "error":
            raise BadInput(str(message.facts.get("message")))
        return message


def _user_of(end: socket.socket) -> int:
    """Return the user at the other end of a connection."""
    raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


def key_path(path: Path, locks: Path) -> Path:
    """Return where the operator's key of the server at a socket lies.

    It is not next to the socket: sandboxes see the folder of a socket.
    """
    return locks / f"{sha256_hex(str(path.absolute()).encode())[:16]}.key"
