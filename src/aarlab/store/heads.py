"""Signed heads of the log: an Ed25519 key, and heads exported as lines that only grow.

Covered: a line that was changed, or signed by another key; with `log.check_log`, every change of
the log up to the last exported head, also by whoever holds the database.
Not covered: whoever holds the key and all copies of the heads; copy them to another machine.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import ValidationError

from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput, Damaged, NotFound
from aarlab.core.files import write_new
from aarlab.core.hashing import LogHead, canonical_json
from aarlab.core.wire import SignedHead


class Signer:
    """The platform's key, in memory."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes_raw().hex()

    @classmethod
    def open(cls, private: Path, public: Path) -> "Signer":
        """Return the key in `private` (PEM, mode 600).

        It is made on first use with `public` next to it.
        """
        if not private.exists():
            private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_new(private, _pem(Ed25519PrivateKey.generate()), mode=0o600)
        try:
            key = serialization.load_pem_private_key(private.read_bytes(), password=None)
        except ValueError:
            raise Damaged(f"{private} is not a private key: restore it from a copy") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise Damaged(f"{private} is not an Ed25519 key: restore it from a copy")
        signer = cls(key)
        write_new(public, f"{signer.public_key}\n", mode=0o600)
        return signer

    def sign(self, head: LogHead) -> SignedHead:
        at = now_iso()
        return SignedHead(
            seq=head.seq,
            hash=head.hash,
            at=at,
            signature=self._key.sign(_message(head.seq, head.hash, at)).hex(),
            public_key=self.public_key,
        )


def append(path: Path, head: SignedHead) -> None:
    """Add one line at the end and to the disk; several processes may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, f"{head.model_dump_json()}\n".encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read_public_key(path: Path) -> str:
    try:
        key = path.read_text(encoding="utf-8").strip()
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    except OSError:
        raise NotFound(f"no public key at {path}: give the one of the run, signing.pub") from None
    except ValueError:
        raise BadInput(f"{path} is not a public key: expected 64 hex digits") from None
    return key


def read_heads(paths: list[Path], public_key: str) -> list[LogHead]:
    """Return the heads of all files.

    Raises Damaged naming the line with a wrong or foreign signature.
    """
    return [
        _checked(line, public_key, f"{path}, line {number}")
        for path in paths
        for number, line in enumerate(_lines(path), 1)
    ]


def _lines(path: Path) -> list[str]:
    text = path.read_bytes().decode(errors="replace")  # other bytes make a line invalid
    return text.removesuffix("\n").split("\n") if text else []


def _checked(line: str, public_key: str, where: str) -> LogHead:
    try:
        head = SignedHead.model_validate_json(line)
    except ValidationError:
        raise Damaged(f"{where} is not a signed head: it was changed") from None
    if head.public_key != public_key:
        raise Damaged(
            f"{where} is signed by the foreign key {head.public_key[:16]}, not by {public_key[:16]}"
        )
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
    try:
        key.verify(bytes.fromhex(head.signature), _message(head.seq, head.hash, head.at))
    except InvalidSignature:
        raise Damaged(f"{where} has a wrong signature: it was changed") from None
    return LogHead(head.seq, head.hash)


def _message(seq: int, digest: str, at: str) -> bytes:
    return f"aarlab head 1\n{canonical_json({'seq': seq, 'hash': digest, 'at': at})}".encode()


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
