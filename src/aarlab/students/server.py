"""The server: one lock on a device, one socket, a thread for each connection.

A connection begins with a word. The operator's key, which lies in the folder of the locks, opens
the trusted side: grants are made and withdrawn there. A grant's token opens a session of its
client (`calls.py`). All sessions share the models and one queue for the device.

Covered: frames are checked and limited (`channel.py`); one that is no message ends its own session
alone. A client that dies, or that does not read or write on, is ended, and what it held is freed. A
connection that does not say who it is is closed after seconds, and few come from one user's
sandbox. Calls beside the device are slow while another client has it, so that a flood of them takes
no time from its training. A device
has one server: the lock is the kernel's, and ends with its holder, however that ends.
Not covered: a client that keeps the device busy within its limits is stopped by `Limits.device_s`
alone. Whoever may read the key file is the operator.
"""

import contextlib
import hashlib
import hmac
import logging
import os
import secrets
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from aarlab.core.device_lock import DeviceLock
from aarlab.core.errors import (
    AarlabError,
    BadInput,
    BudgetExhausted,
    Conflict,
    Forbidden,
    NotFound,
    Unreachable,
)
from aarlab.core.files import write_atomic
from aarlab.students.calls import Client, Session, usage_of
from aarlab.students.client import connected
from aarlab.students.grants import Grant, key_path
from aarlab.students.queue import ClientGone, DeviceQueue
from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.running.channel import Channel, ChannelClosed, Message
from aarlab.testbed.students.features import StoredFeatures

LOG = logging.getLogger("aarlab.students")
MAX_GREETING, MAX_REQUEST, MAX_GRANT = (
    2**12,
    2**24,
    2**30,
)  # bytes of a first frame, a client's, the operator's
FRAME_S = 60.0  # for the rest of a frame that has begun
GREETING_S = 10.0  # for a new connection to say who it is
IDLE_S = 6 * 3600.0  # after which a session that asks nothing is ended
UNKNOWN = 32  # connections of one user and sandbox that have not said who they are
BESIDE_S = 0.01  # for a call beside the device while another client has it
SHOWN = 200  # clients in a status
NO_CLIENT = "no client has this token: its grant may have been withdrawn"


def running(folder: Path) -> list[dict[str, Any]]:
    """Return the notes of the servers whose locks lie in a folder and are held."""
    if not folder.is_dir():
        return []
    locks = [DeviceLock(folder, path.stem) for path in sorted(folder.glob("*.lock"))]
    found = [{"device": lock.path.stem, **lock.note()} for lock in locks if lock.is_held]
    return [note for note in found if "socket" in note]  # a verifier has none


@dataclass(frozen=True, slots=True)
class Serving:
    """What a server is told. `price` is in dollars an hour of the device."""

    socket: Path
    locks: Path
    device: str = "cpu"
    price: float = 0.0


class StudentServer:
    """Serve the models, by name, on one device. `run` serves until `stop` is called."""

    def __init__(self, serving: Serving, models: Mapping[str, FeatureCache]) -> None:
        self._serving, self._models = serving, dict(models)
        self.queue = DeviceQueue()
        self._lock = threading.Lock()
        self._clients: dict[str, Client] = {}
        self._tokens: dict[bytes, str] = {}
        self._open: dict[Channel, Client | None] = {}
        self._stored: dict[tuple[str, ...], StoredFeatures] = {}
        self._unknown: Counter[Origin] = Counter()
        self._key = secrets.token_hex(32)
        self._started_at = time.time()
        self._device_lock = DeviceLock(serving.locks, serving.device)
        self._listening: socket.socket | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Take the device, load the models and open the socket.

        Raises Conflict where another server has the device or the socket.
        """
        path = self._serving.socket
        self._device_lock.take({"pid": os.getpid(), "socket": str(path.absolute())})
        try:
            for cache in self._models.values():
                cache.language_model().between = self.queue.breathe
            self._listening = _bound(path)
            # Before anybody can connect: a killed server left its own key there.
            write_atomic(key_path(path, self._serving.locks), self._key, 0o600)
            self._listening.listen(128)
        except BaseException:
            self.stop()
            raise

    def run(self) -> None:
        """Accept connections until `stop`; `start` first."""
        assert self._listening is not None
        while not self._stopped.is_set():
            try:
                end, _ = self._listening.accept()
            except OSError:  # closed by `stop`; gone already; or no descriptor is left
                self._stopped.wait(0.05)
                continue
            origin = _origin_of(end)
            with self._lock:
                full = self._unknown[origin] >= UNKNOWN
                self._unknown[origin] += not full
            if full:
                end.close()
                continue
            try:
                threading.Thread(target=self._serve, args=(end, origin), daemon=True).start()
            except RuntimeError:
                LOG.exception("a connection is closed: no thread is left")
                self._known(origin)
                end.close()

    def stop(self) -> None:
        """End all sessions, remove the socket and its key, and release the device."""
        self._stopped.set()
        path = self._serving.socket
        if self._listening is not None:
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)
            self._listening.close()
            path.unlink(missing_ok=True)
            key_path(path, self._serving.locks).unlink(missing_ok=True)
        with self._lock:
            channels = list(self._open)
        for channel in channels:
            channel.end()
        self._device_lock.give()

    # ------------------------------------------------------------ one connection
    def _serve(self, end: socket.socket, origin: "Origin") -> None:
        try:
            try:
                message = Channel(end, MAX_GREETING, GREETING_S).receive()
            finally:
                self._known(origin)
            self._greet(end, message)
        except (ChannelClosed, BadInput, ClientGone):
            pass  # that connection's own end
        except Exception:
            LOG.exception("a connection is ended")
        finally:
            end.close()

    def _known(self, origin: "Origin") -> None:
        """Count one connection less that has not said who it is."""
        with self._lock:
            self._unknown[origin] -= 1
            if not self._unknown[origin]:
                del self._unknown[origin]

    def _greet(self, end: socket.socket, message: Message) -> None:
        if message.kind == "operator" and _is_word(message.facts.get("key"), self._key):
            with self._listed(Channel(end, MAX_GRANT), None) as channel:
                channel.send("ok")
                self._attend_operator(channel)
            return
        channel = Channel(end, MAX_REQUEST, FRAME_S)
        session: Session | None = None
        try:
            client = self._client_of(message.facts.get("token"))
            with self._listed(channel, client):
                session = self._admitted(client, end)
                facts, arrays = session.greeting()
                channel.send("ok", facts, **arrays)
                self._attend(end, channel, session)
        except ChannelClosed:
            raise
        except AarlabError as error:  # a frame that is none, too: the session ends
            channel.send("error", {"code": error.code, "message": str(error)})
        finally:
            if session is not None:
                session.close()

    def _client_of(self, token: Any) -> Client:
        word = token if isinstance(token, str) else ""
        with self._lock:
            name = self._tokens.get(hashlib.sha256(word.encode()).digest())
            if name is None:
                raise Forbidden(NO_CLIENT)
            return self._clients[name]

    def _admitted(self, client: Client, end: socket.socket) -> Session:
        """Return a new session of a client whose channel is listed.

        Raises BudgetExhausted for one more than its grant allows, and Forbidden where the grant was
        withdrawn meanwhile.
        """
        facts = {
            "device": self._serving.device,
            "price": self._serving.price,
            "model": client.grant.facts.model,
        }
        session = Session(client, self.queue, facts, lambda: _is_there(end))
        most = client.grant.facts.limits.sessions
        with self._lock, client.lock:
            if self._clients.get(client.name) is not client:
                raise Forbidden(NO_CLIENT)
            if len(client.sessions) >= most:
                raise BudgetExhausted(f"{client.name} has {most} connections open: close one")
            client.sessions.append(session)
        return session

    def _attend(self, end: socket.socket, channel: Channel, session: Session) -> None:
        waiting = select.poll()
        waiting.register(end, select.POLLIN)
        while waiting.poll(IDLE_S * 1000):
            message, n_turns = channel.receive(), session.n_turns
            if session.is_beside:
                self.queue.wait_calm(session.name, BESIDE_S)
            kind, facts, arrays = session.answer(message)
            session.is_beside = session.n_turns == n_turns
            channel.send(kind, facts, **arrays)
            session.answered()

    @contextmanager
    def _listed(self, channel: Channel, client: Client | None) -> Iterator[Channel]:
        with self._lock:
            self._open[channel] = client
        try:
            yield channel
        finally:
            with self._lock:
                del self._open[channel]

    # ------------------------------------------------------------ the trusted side
    def _attend_operator(self, channel: Channel) -> None:
        calls = {"admit": self._admit, "withdraw": self._withdraw, "status": self._status}
        while True:
            message = channel.receive()
            call = calls.get(message.kind)
            try:
                if call is None:
                    raise BadInput(f"no call {message.kind[:40]!r}; there are {', '.join(calls)}")
                channel.send("ok", call(message))
            except AarlabError as error:
                if isinstance(error, ChannelClosed):
                    raise
                channel.send("error", {"code": error.code, "message": str(error)[:4000]})

    def _admit(self, message: Message) -> dict[str, Any]:
        grant = Grant.received(message)
        facts, token = grant.facts, secrets.token_hex(24)
        if facts.model and facts.model not in self._models:
            raise NotFound(f"no model {facts.model!r} here; there are {sorted(self._models)}")
        if not facts.model and not facts.features:
            raise BadInput("grant: name a model, files of stored features, or both")
        stored = self._features(tuple(facts.features)) if facts.features else None
        client = Client(grant, stored, self._models.get(facts.model))
        with self._lock:
            before = self._clients.get(facts.name)
            self._forget(facts.name)
        if before is not None:
            self._end_sessions(before)
            client.compute, client.n_calls = before.compute, before.n_calls
        with self._lock:
            self._clients[facts.name] = client
            self._tokens[hashlib.sha256(token.encode()).digest()] = facts.name
            self._drop_unused()
        return {"token": token}

    def _withdraw(self, message: Message) -> dict[str, Any]:
        name = message.facts.get("name")
        with self._lock:
            client = self._clients.get(name) if isinstance(name, str) else None
        if client is None:
            raise NotFound(f"there is no client {str(name)[:200]!r}")
        with self._lock:
            self._forget(client.name)
            self._drop_unused()
        self._end_sessions(client)
        return usage_of(client, self.queue)

    def _status(self, message: Message) -> dict[str, Any]:
        holder, waiting = self.queue.look()
        with self._lock:
            clients = list(self._clients.values())
        return {
            "device": self._serving.device,
            "price": self._serving.price,
            "pid": os.getpid(),
            "up_s": time.time() - self._started_at,
            "models": sorted(self._models),
            "keys": {n: c.language_model().record.key for n, c in sorted(self._models.items())},
            "holder": holder,
            "waiting": waiting[:SHOWN],
            "clients": [
                {
                    "name": client.name,
                    "kind": client.grant.facts.kind,
                    "sessions": len(client.sessions),
                    **usage_of(client, self.queue),
                }
                for client in clients[:SHOWN]
            ],
        }

    def _features(self, paths: tuple[str, ...]) -> StoredFeatures:
        """Return stored features; grants that name the same files share one copy."""
        with self._lock:
            found = self._stored.get(paths)
        if found is None:
            found = StoredFeatures.open([Path(path) for path in paths])
            with self._lock:
                found = self._stored.setdefault(paths, found)
        return found

    def _forget(self, name: str) -> None:
        self._clients.pop(name, None)
        self._tokens = {key: one for key, one in self._tokens.items() if one != name}

    def _drop_unused(self) -> None:
        used = {tuple(client.grant.facts.features) for client in self._clients.values()}
        self._stored = {paths: kept for paths, kept in self._stored.items() if paths in used}

    def _end_sessions(self, client: Client) -> None:
        """End a client's connections and wait until what they held is free."""
        with self._lock:
            mine = [channel for channel, one in self._open.items() if one is client]
        for channel in mine:
            channel.end()
        until = time.monotonic() + FRAME_S
        while client.sessions and time.monotonic() < until:
            time.sleep(0.01)


def _bound(path: Path) -> socket.socket:
    """Return a socket that every user may connect to, once it listens.

    A socket without a server is replaced.
    """
    try:
        connected(path).close()
    except Unreachable:
        if path.is_socket():
            path.unlink()
    else:
        raise Conflict(f"a server answers at {path} already: choose another --socket")
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.bind(str(path))
        path.chmod(0o666)  # a token opens a session, not the right to connect
    except OSError as error:
        end.close()
        raise BadInput(f"{path}: {error.strerror}; choose another --socket") from error
    return end


class Origin(NamedTuple):
    """Where a connection comes from: a user, and the name of its sandbox's process namespace.

    Sandboxes of an ordinary user share that user.
    """

    user: int
    processes: str


def _origin_of(end: socket.socket) -> Origin:
    raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process, user, _ = struct.unpack("3i", raw)
    try:
        return Origin(user, os.readlink(f"/proc/{process}/ns/pid"))
    except OSError:  # it has ended, or cannot be looked at
        return Origin(user, "")


def _is_word(given: Any, word: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode(), word.encode())


def _is_there(end: socket.socket) -> bool:
    """Return whether the other end of a connection is still open."""
    look = select.poll()
    try:
        look.register(end, select.POLLRDHUP)
        return not look.poll(0)
    except (OSError, ValueError):  # closed on this side
        return False
