"""`model.json`: what a converted model folder holds, checked by sha256. Imports no torch."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from aarlab.core.errors import Damaged, NotFound
from aarlab.core.files import write_json
from aarlab.core.hashing import content_hash

RECORD = "model.json"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
FILES = (WEIGHTS, CONFIG, TOKENIZER)


class FileRecord(BaseModel):
    """A file's checksum and size.

    `stamp` is inode and change time when the sha256 was taken. While both stand, nobody wrote to
    the file and it is not read again. A copy or a touched file has another stamp, and is hashed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str
    n_bytes: int
    stamp: str | None = None


class TemplateRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    opening: str
    prompt_end: str
    alone_opening: str


class ModelRecord(BaseModel):
    """The identity of a converted model.

    `source` names package and version, or repository and revision, or a path. `logit_error` is the
    mean |difference| of log-probabilities to the source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["aarlab-model-1"] = "aarlab-model-1"
    name: str
    source: dict[str, Any]
    license: str
    n_blocks: int
    width: int
    context: int
    template: TemplateRecord
    files: dict[str, FileRecord]
    versions: dict[str, str]
    logit_error: float

    @property
    def key(self) -> str:
        """Return a digest (64 hex) of what features depend on.

        That is weights, tokenizer, shape, template and context.
        """
        files = {name: file.sha256 for name, file in self.files.items()}
        return content_hash([files, self.template.model_dump(), self.context])


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path) -> FileRecord:
    stamp = file_stamp(path.stat())  # taken first: a write while hashing shows later
    digest = file_sha256(path)
    return FileRecord(sha256=digest, n_bytes=path.stat().st_size, stamp=stamp)


def file_stamp(status: os.stat_result) -> str:
    return f"{status.st_ino}:{status.st_ctime_ns}"


def mismatch(path: Path, expected: FileRecord) -> str | None:
    """Return how a file differs from its record, or None when it does not."""
    if not path.is_file():
        return "it is missing"
    status = path.stat()
    if status.st_size != expected.n_bytes:
        return f"expected {expected.n_bytes} bytes, found {status.st_size}"
    if file_stamp(status) == expected.stamp:
        return None
    if (found := file_sha256(path)) != expected.sha256:
        return f"expected sha256 {expected.sha256}, found {found}"
    return None


def describe_files(folder: Path) -> dict[str, FileRecord]:
    return {name: describe_file(folder / name) for name in FILES}


def write_record(folder: Path, record: ModelRecord) -> None:
    write_json(folder / RECORD, record.model_dump())


def read_record(folder: Path) -> ModelRecord:
    """Parse `model.json`; NotFound when the model was never pulled, Damaged when unreadable."""
    path = folder / RECORD
    if not path.is_file():
        raise NotFound(f"no model at {folder}; run: aarlab models pull {folder.name}")
    try:
        return ModelRecord.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        raise _damaged(folder, RECORD, "it is not a model record") from error


def verified_record(folder: Path) -> ModelRecord:
    """Return the record after every file it names was found as recorded, or raise Damaged."""
    record = read_record(folder)
    for name, expected in record.files.items():
        if reason := mismatch(folder / name, expected):
            raise _damaged(folder, name, reason)
    return record


def _damaged(folder: Path, name: str, reason: str) -> Damaged:
    return Damaged(
        f"{folder / name} is damaged: {reason}; run: aarlab models pull {folder.name} --force"
    )
