"""Any source -> a folder with bf16 weights, config, tokenizer and `model.json`.

Needs torch and transformers; only `pull` calls it. Loading a converted folder needs neither the
network nor transformers.
"""

import contextlib
import io
import json
import logging
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers import logging as transformers_log

from aarlab.core.errors import AarlabError, BadInput, Damaged, NotFound
from aarlab.testbed.models.catalogue import FROM_TOKENIZER, ModelEntry, Template
from aarlab.testbed.models.compute import memory_for
from aarlab.testbed.models.decoder import Shape, shape_of
from aarlab.testbed.models.lm import LanguageModel, fitting_tokenizer
from aarlab.testbed.models.record import (
    CONFIG,
    WEIGHTS,
    ModelRecord,
    TemplateRecord,
    describe_files,
    write_record,
)

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
    with contextlib.redirect_stderr(io.StringIO()):  # progress bars that cannot be turned off
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


def _originals(origin: Origin) -> tuple[Any, Any]:
    """The model, float32 where the file is quantised and bf16 otherwise, and its fast tokenizer."""
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
    """`config.json` of the dequantised model, without paths of this machine."""
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
    """bf16 tensors by name; a head tied to the embedding is left out, as the two share memory."""
    tensors = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    if config.get("tie_word_embeddings"):
        tensors.pop("lm_head.weight", None)
    return tensors


def _template(entry: ModelEntry, tokenizer: Any) -> Template:
    """The entry's template; `FROM_TOKENIZER` becomes the tokenizer's own chat template."""
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
    """Log-probability of each next token of a fixed text (T,)."""
    tokens_T = torch.tensor(tokenizer(PROBE_TEXT, add_special_tokens=False)["input_ids"])
    logits_TV = original(tokens_T[None]).logits[0, :-1].float()
    logp_TV: Tensor = logits_TV.log_softmax(-1)
    return logp_TV.gather(1, tokens_T[1:, None])[:, 0]


def _logit_error(expected_T: Tensor, converted: LanguageModel) -> float:
    """Mean |difference|; infinite when the converted tokenizer finds other tokens."""
    found_T = torch.from_numpy(converted.next_token_logp(PROBE_TEXT))
    if len(found_T) != len(expected_T):
        return float("inf")
    return float((expected_T - found_T).abs().mean())
