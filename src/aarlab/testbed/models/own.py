"""A person's own models and pairs: `models.yaml` in the data root, beside the built-in catalogue.

models:
  mine: {folder: /data/mine}                       # or gguf: FILE, sha256: ..., or hf: OWNER/NAME,
  base: {hf: Qwen/Qwen3-0.6B-Base, revision: COMMIT}
pairs:
  mine: {weak: smollm2-135m@9, strong: mine@24, more_layers: [12, 18]}
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aarlab.core.errors import BadInput, Conflict, Damaged, NotFound
from aarlab.core.files import write_atomic
from aarlab.core.foreign import read_yaml
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.catalogue import (
    CATALOGUE,
    CHATML,
    FROM_TOKENIZER,
    PAIRS,
    PLAIN,
    FolderSource,
    GgufSource,
    HuggingFaceSource,
    ModelEntry,
    ModelRef,
    Pair,
    Source,
)
from aarlab.testbed.models.record import read_record
from aarlab.testbed.options import explain

FILE = "models.yaml"
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
TEMPLATES = {"plain": PLAIN, "chatml": CHATML, "chat": FROM_TOKENIZER}


class OwnModel(BaseModel):
    """One of folder, gguf, hf. `template` chat takes the tokenizer's own chat template."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    folder: Path | None = None
    gguf: Path | None = None
    hf: str | None = None
    revision: str = "main"
    sha256: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$")] = None
    template: Literal["plain", "chatml", "chat"] = "plain"
    context: Annotated[int, Field(ge=16, le=1_000_000)] = 2048
    licence: str = "not stated"

    @model_validator(mode="after")
    def _one_source(self) -> "OwnModel":
        if sum(source is not None for source in (self.folder, self.gguf, self.hf)) != 1:
            raise ValueError("give exactly one of folder, gguf, hf")
        if self.sha256 and self.gguf is None:
            raise ValueError("sha256 belongs to a gguf file")
        return self

    @property
    def source(self) -> Source:
        if self.folder is not None:
            return FolderSource(self.folder.expanduser())
        if self.gguf is not None:
            return GgufSource(self.gguf.expanduser(), self.sha256)
        return HuggingFaceSource(str(self.hf), self.revision)

    def entry(self, name: str) -> ModelEntry:
        return ModelEntry(
            name=name,
            title=str(self.folder or self.gguf or self.hf),
            source=self.source,
            license=self.licence,
            n_blocks=None,
            width=None,
            family="base" if self.template == "plain" else "instruct",
            template=TEMPLATES[self.template],
            context=self.context,
        )


class OwnPair(BaseModel):
    """`weak` and `strong` as MODEL@LAYER, a layer being a number of blocks."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    weak: Annotated[str, Field(pattern=r"^[^@]+@\d+$")]
    strong: Annotated[str, Field(pattern=r"^[^@]+@\d+$")]
    more_layers: tuple[Annotated[int, Field(ge=0)], ...] = ()

    def pair(self, name: str) -> Pair:
        weak, strong = (_ref(text) for text in (self.weak, self.strong))
        return Pair(name, f"{self.weak} -> {self.strong}", weak, strong, {}, {}, self.more_layers)


def _ref(text: str) -> ModelRef:
    model, layer = text.rsplit("@", 1)
    return ModelRef(model, int(layer))


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    models: dict[Annotated[str, Field(pattern=NAME)], OwnModel] = {}
    pairs: dict[Annotated[str, Field(pattern=NAME)], OwnPair] = {}


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Built-in and user-defined models and pairs by name.

    `blocks` gives the number of blocks of each model for which it is known.
    """

    models: dict[str, ModelEntry]
    pairs: dict[str, Pair]
    blocks: dict[str, int]

    def model(self, name: str) -> ModelEntry:
        if name not in self.models:
            known = ", ".join(self.models)
            raise NotFound(f"no model {name!r} in the catalogue; there are: {known}")
        return self.models[name]

    def pair(self, name: str) -> Pair:
        """Return a model pair by name.

        Raises NotFound for an unknown name, or BadInput if it uses a layer that its model lacks.
        """
        if name not in self.pairs:
            raise NotFound(f"no model pair {name!r}; there are: {', '.join(self.pairs)}")
        pair = self.pairs[name]
        for model, layers in (
            (pair.weak.model, (pair.weak.layer,)),
            (pair.strong.model, (pair.strong.layer, *pair.more_layers)),
        ):
            most = self.blocks.get(model, max(layers))
            if max(layers) > most:
                raise BadInput(f"pair {name!r} asks for layer {max(layers)} of {model}, which has "
                               f"{most} blocks")  # fmt: skip
        return pair


def catalogue_of(root: DataRoot) -> Catalogue:
    """Raises BadInput naming the file and each wrong entry, or an own name that hides another."""
    own = _read(root.path / FILE)
    hidden = [*(own.models.keys() & CATALOGUE), *(own.pairs.keys() & PAIRS)]
    if hidden:
        raise BadInput(f"{root.path / FILE}: {hidden[0]!r} is a built-in name; choose another")
    models = CATALOGUE | {name: model.entry(name) for name, model in own.models.items()}
    pairs = PAIRS | {name: pair.pair(name) for name, pair in own.pairs.items()}
    for pair in pairs.values():
        for ref in (pair.weak, pair.strong):
            if ref.model not in models:
                raise BadInput(f"{root.path / FILE}: pair {pair.name!r} names no known model "
                               f"{ref.model!r}")  # fmt: skip
    blocks = {name: _blocks(root, entry) for name, entry in models.items()}
    return Catalogue(models, pairs, {name: n for name, n in blocks.items() if n is not None})


def _blocks(root: DataRoot, entry: ModelEntry) -> int | None:
    """Return the number of blocks from the catalogue or the pulled model, or None if unknown."""
    if entry.n_blocks is not None:
        return entry.n_blocks
    try:
        return read_record(root.models / entry.name).n_blocks
    except (NotFound, Damaged):
        return None


def _check_there(name: str, model: OwnModel) -> None:
    """Raise NotFound or BadInput unless a local source exists and has the declared format."""
    if model.folder is not None:
        folder = model.folder.expanduser()
        if not folder.is_dir():
            raise NotFound(f"{name}: there is no folder {folder}")
        if not (folder / "config.json").is_file():
            raise BadInput(f"{name}: {folder} holds no config.json; give a folder in Hugging Face "
                           "format (config.json, safetensors, tokenizer.json)")  # fmt: skip
    if model.gguf is not None:
        file = model.gguf.expanduser()
        if not file.is_file():
            raise NotFound(f"{name}: there is no file {file}")
        with file.open("rb") as opened:
            if opened.read(4) != b"GGUF":
                raise BadInput(f"{name}: {file} is not a GGUF file")


def add_own(root: DataRoot, part: Literal["models", "pairs"], name: str, value: Any) -> None:
    """Add an entry after checking it; Conflict when the name is taken, nothing written then."""
    path = root.path / FILE
    raw = (read_yaml(path.read_bytes(), str(path)) if path.exists() else None) or {}
    _parsed(raw, path)
    entries = raw.setdefault(part, {})
    if name in entries or name in (CATALOGUE if part == "models" else PAIRS):
        raise Conflict(f"{name!r} is taken; choose another name, or edit {path}")
    entries[name] = value
    parsed = _parsed(raw, path)
    if part == "models":
        _check_there(name, parsed.models[name])
    before = path.read_bytes() if path.exists() else None
    root.path.mkdir(parents=True, exist_ok=True)
    write_atomic(path, yaml.safe_dump(raw, sort_keys=False))
    try:
        known = catalogue_of(root)
        if part == "pairs":
            known.pair(name)
    except BadInput:
        path.unlink() if before is None else write_atomic(path, before)
        raise


def _read(path: Path) -> _File:
    if not path.exists():
        return _File()
    return _parsed(read_yaml(path.read_bytes(), str(path)) or {}, path)


def _parsed(raw: Any, path: Path) -> _File:
    try:
        return _File.model_validate(raw)
    except ValidationError as error:
        raise BadInput(explain(str(path), error)) from error
