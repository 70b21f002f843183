"""A frozen language model: states over an answer's tokens and log-likelihoods, in one pass.

`source_at_hand` puts it behind a task's stored features: what a method gets in a sandbox.

Legend: I items (an answer to a prompt), L layers, D state width, M answer tokens of a batch.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor

from aarlab.core.errors import BadInput
from aarlab.testbed.models.answers import (
    AnswerFeatures,
    AnswerItem,
    Batch,
    Branch,
    Layout,
    Wanted,
    batches,
    grow_trees,
)
from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.models.compute import DTYPES, Compute, choose_by, is_out_of_memory, memory_for
from aarlab.testbed.models.decoder import Decoder, shape_of
from aarlab.testbed.models.record import CONFIG, TOKENIZER, WEIGHTS, ModelRecord, verified_record
from aarlab.testbed.models.token_states import RowStates, RowTokens
from aarlab.testbed.settings import load_settings
from aarlab.testbed.students.features import StoredFeatures, WithModel

VOCABULARY_CHUNK = 512
Rows = list[tuple[tuple[int, ...], Branch]]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Accumulators of one run over items; only the parts that were asked for are written."""

    states_LID: NDArray[np.float32]
    logp_I: NDArray[np.float64]


class LanguageModel:
    """A converted model folder in memory. Never touches the network; writes nothing."""

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer, record: ModelRecord, n_threads: int = 1
    ) -> None:
        self.decoder, self.record, self.layout = decoder, record, Layout()
        self._tokenizer, self.n_threads, self.compute = tokenizer, n_threads, Compute()
        self._embeddings: NDArray[np.float32] | None = None
        self.folder: Path | None = None  # of weights as they are here, in Hugging Face format
        self._context = min(record.context, decoder.shape.max_context)
        self.between: Callable[[], None] = lambda: None  # called between steps of long work

    @classmethod
    def load(
        cls,
        folder: Path,
        n_threads: int | None = None,
        dtype: torch.dtype | None = None,
        compute: Compute | None = None,
    ) -> "LanguageModel":
        """Check every file and load the model.

        Damaged names the file that does not match, BadInput what to change when the memory is too
        small. `dtype` goes before that of `compute`.

        On a CPU `n_threads` batches run at once, one thread each; by default as many as torch would
        use.
        """
        record, compute = verified_record(folder), compute or Compute()
        dtype = dtype or DTYPES[compute.dtype]
        shape = shape_of(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
        n_bytes = record.files[WEIGHTS].n_bytes * dtype.itemsize // torch.bfloat16.itemsize
        with memory_for(record.name, 2 * n_bytes), safe_open(folder / WEIGHTS, "pt") as weights:
            tensors = {
                name: weights.get_tensor(name).to(compute.device, dtype)
                for name in weights.keys()  # noqa: SIM118
            }
            decoder = Decoder(shape, tensors)
        text = (folder / TOKENIZER).read_text(encoding="utf-8")
        tokenizer = fitting_tokenizer(record.name, text, len(decoder.embedding_VD))
        threads = 1 if compute.device == "cuda" else n_threads or torch.get_num_threads()
        model = cls(decoder, tokenizer, record, threads)
        model.layout, model.compute = model.layout._replace(batch=compute.batch_tokens), compute
        model.folder = folder
        return model

    @property
    def key(self) -> str:
        return self.record.key

    def features(
        self,
        items: Sequence[AnswerItem],
        wanted: Wanted,
        progress: Callable[[float], None] = lambda done: None,
    ) -> AnswerFeatures:
        """Compute mean states of each answer's tokens and, when asked for, log-likelihoods.

        The states are those after each of `wanted.layers` blocks. The log-likelihoods are log
        P(answer | prompt) and log P(answer).

        `progress(done)` is called after each batch with the share of the work done so far, 0 to 1.
        Rows longer than the model's context lose the start of the prompt, then the answer's end;
        `n_truncated` counts them. Raises BadInput for an empty answer, a layer the model does not
        have, too little memory, or values that are not finite.
        """
        self._check(items, wanted)
        self.between()
        given, cut = self._rows(items)
        n_truncated = sum(cut)
        sums = self._sums(len(items), len(wanted.layers))
        share = 0.5 if wanted.logp else 1.0
        self._sum_up(given, wanted, sums, lambda done: progress(share * done))
        self._check_finite(items, wanted, sums)
        if not wanted.logp:
            return AnswerFeatures(sums.states_LID, None, n_truncated)
        tokens_I = np.array([len(branch.tokens) for _, branch in given])
        alone_I = self._alone(items, lambda done: progress(share + share * done))
        logp_I3 = np.stack([sums.logp_I, alone_I, tokens_I], axis=1)
        return AnswerFeatures(sums.states_LID, logp_I3.astype(np.float32), n_truncated)

    def row_states(self, items: Sequence[AnswerItem], layer: int) -> list[RowStates]:
        """Compute bf16 states (T, D) after `layer` blocks of every token of prompt and answer.

        Rows longer than the context lose the start of the prompt, as in `features`.
        """
        self._check(items, Wanted((layer,), logp=False))
        self.between()
        rows, cut = self._rows(items)
        made: dict[int, RowStates] = {}
        self._run_in_memory(rows, lambda batch: made.update(self._whole_rows(batch, layer)))
        return [made[i]._replace(cut=is_cut) for i, is_cut in enumerate(cut)]

    @torch.inference_mode()
    def _whole_rows(self, batch: Batch, layer: int) -> dict[int, RowStates]:
        """Return, by item, its prompt's states, which answers share, and its own."""
        state_BTD = self._states(batch, layer, {})
        bits_BTD = state_BTD.to(torch.bfloat16).cpu().view(torch.int16).numpy().view(np.uint16)
        made: dict[int, RowStates] = {}
        items, firsts, counts = np.unique(batch.items_M, return_index=True, return_counts=True)
        for item, first, count in zip(items, firsts, counts, strict=True):
            row, n_prompt = batch.rows_M[first], int(batch.before_M[first]) + 1
            own = bits_BTD[row, batch.columns_M[first : first + count]]
            made[int(item)] = RowStates(np.concatenate([bits_BTD[row, :n_prompt], own]), n_prompt)
        return made

    @property
    def context(self) -> int:
        """Return the most tokens that a row may have."""
        return self._context

    def prompt_tokens(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return token ids of prompts in the model's template, up to where an answer begins."""
        template = self.record.template
        return self._encode([template.opening + p + template.prompt_end for p in prompts])

    def row_tokens(self, items: Sequence[AnswerItem]) -> list[RowTokens]:
        """Return token ids of prompt and answer, within the context."""
        self._check(items, Wanted((), logp=False))
        return [
            RowTokens(np.array((*prompt, *branch.tokens), np.int32), len(prompt), is_cut)
            for (prompt, branch), is_cut in zip(*self._rows(items), strict=True)
        ]

    def embeddings(self) -> NDArray[np.float32]:
        """Return the embedding of every token, (V, D), read-only."""
        if self._embeddings is None:
            self._embeddings = self.decoder.embedding_VD.float().cpu().numpy()
            self._embeddings.setflags(write=False)
        return self._embeddings

    def text(self, ids: Sequence[int]) -> str:
        decoded: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return decoded

    def with_decoder(self, decoder: Decoder) -> "LanguageModel":
        """Return a model with the same tokenizer and template on other weights.

        Its `key` is the original's: keep its features in memory, never in the original's cache.
        """
        model = LanguageModel(decoder, self._tokenizer, self.record, self.n_threads)
        model.layout, model.compute, model.between = self.layout, self.compute, self.between
        return model

    def n_bytes_apart(self, other: "LanguageModel") -> int:
        """Return the size of the blocks' tensors that this model does not share with another."""
        shared = {id(one) for one in _tensors(other.decoder)}
        mine = (one for one in _tensors(self.decoder) if id(one) not in shared)
        return sum(one.numel() * one.element_size() for one in mine)

    def token_ids(self, text: str) -> list[int]:
        return list(self._encode([text])[0])

    @torch.inference_mode()
    def next_token_logp(self, text: str) -> NDArray[np.float64]:
        """Return the log-probability of each token but the first, given the ones before."""
        tokens_T = self.token_ids(text)
        rows: Rows = [((tokens_T[0],), Branch(0, tuple(tokens_T[1:])))]
        (batch,) = batches(grow_trees(rows, self.layout), self.layout)
        return self._logp(batch, self._states(batch, self.decoder.shape.n_blocks, {}))

    def _check(self, items: Sequence[AnswerItem], wanted: Wanted) -> None:
        last = self.decoder.shape.n_blocks
        if any(not 0 <= layer <= last for layer in wanted.layers):
            raise BadInput(f"{self.record.name} has layers 0 to {last}, not {wanted.layers}")
        if len(set(wanted.layers)) < len(wanted.layers):
            raise BadInput(f"a layer is named twice in {wanted.layers}")
        for item in items:
            if not item.answer.strip():
                raise BadInput(f"an answer to {item.prompt[:60]!r} is empty")

    def _check_finite(self, items: Sequence[AnswerItem], wanted: Wanted, sums: _Sums) -> None:
        finite_LI = np.asarray(np.isfinite(sums.states_LID).all(axis=2))
        bad_I = ~(finite_LI.all(axis=0) & np.isfinite(sums.logp_I))
        if not bad_I.any():
            return
        layers = [
            n for n, finite_I in zip(wanted.layers, finite_LI, strict=True) if not finite_I.all()
        ]
        first = items[int(bad_I.argmax())].prompt[:60]
        where = f"layers {layers}" if layers else "the log-likelihoods"
        raise BadInput(
            f"{self.record.name} computes values that are not finite in {where}, for "
            f"{bad_I.sum()} of {len(items)} answers, e.g. to {first!r}: "
            f"set AARLAB_DTYPE=float32; if that does not help, its weights cannot be used"
        )

    def _sums(self, n_items: int, n_layers: int) -> _Sums:
        return _Sums(
            np.zeros((n_layers, n_items, self.decoder.shape.width), np.float32), np.zeros(n_items)
        )

    def _rows(self, items: Sequence[AnswerItem]) -> tuple[Rows, list[bool]]:
        """Return each item's trunk and branch tokens within the context, and whether it was cut."""
        template = self.record.template
        prompts = self._encode([template.opening + x.prompt + template.prompt_end for x in items])
        answers = self._encode([item.answer for item in items])
        rows: Rows = []
        cut = list[bool]()
        for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            answer_cut = answer[: self._context - 1]
            room = self._context - len(answer_cut)
            prompt_cut = prompt if len(prompt) <= room else self._end_of(prompt, room)
            cut.append(len(prompt_cut) + len(answer_cut) < len(prompt) + len(answer))
            rows.append((prompt_cut, Branch(index, answer_cut)))
        return rows, cut

    def _end_of(self, prompt: tuple[int, ...], room: int) -> tuple[int, ...]:
        """Return the prompt's last tokens.

        The template's opening comes first if that leaves half the room.
        """
        opening = self._encode([self.record.template.opening])[0]
        opening = opening if 2 * len(opening) <= room else ()
        return opening + prompt[len(prompt) - (room - len(opening)) :]

    def _alone(
        self, items: Sequence[AnswerItem], progress: Callable[[float], None]
    ) -> NDArray[np.float64]:
        """Compute log P(answer) after the template's neutral opening, once per different answer."""
        opening = self._encode([self.record.template.alone_opening])[0]
        unique = {answer: i for i, answer in enumerate(dict.fromkeys(x.answer for x in items))}
        room = self._context - len(opening)
        rows = [
            (opening, Branch(i, tokens[: min(room, self._context - 1)]))
            for i, tokens in enumerate(self._encode(list(unique)))
        ]
        sums = self._sums(len(unique), 0)
        self._sum_up(rows, Wanted((), logp=True), sums, progress)
        return sums.logp_I[[unique[item.answer] for item in items]]

    def _encode(self, texts: list[str]) -> list[tuple[int, ...]]:
        encoded = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [tuple(one.ids) for one in encoded]

    def _sum_up(
        self, rows: Rows, wanted: Wanted, sums: _Sums, progress: Callable[[float], None]
    ) -> None:
        def clear() -> None:
            sums.states_LID[:], sums.logp_I[:] = 0, 0

        work = partial(self._run_batch, wanted=wanted, sums=sums)
        self._run_in_memory(rows, work, clear, progress)

    def _run_in_memory(
        self,
        rows: Rows,
        work: Callable[[Batch], None],
        clear: Callable[[], None] = lambda: None,
        progress: Callable[[float], None] = lambda done: None,
    ) -> None:
        """Run the batches, and when out of memory once more with batches half as large.

        Raises BadInput if that is not enough either.
        """
        for again in (False, True):
            try:
                self._run(rows, work, progress)
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if again:
                    raise BadInput(
                        f"{self.record.name}: out of memory even with batches of "
                        f"{self.layout.batch} tokens; set AARLAB_BATCH_TOKENS lower, on a CPU also "
                        f"AARLAB_TORCH_THREADS, or choose a smaller model"
                    ) from error
            clear()
            self.layout = Layout(*(max(1, size // 2) for size in self.layout))
            torch.cuda.empty_cache()  # does nothing where CUDA was never used

    def _run(
        self, rows: Rows, work: Callable[[Batch], None], progress: Callable[[float], None]
    ) -> None:
        """Run batches concurrently, one thread each.

        Torch's own threads meet after every operation and wait spinning, which on a busy machine
        was four times slower than a single thread.
        """
        todo = list(batches(grow_trees(rows, self.layout), self.layout))
        one_thread = partial(torch.set_num_threads, 1)
        with ThreadPoolExecutor(self.n_threads, initializer=one_thread) as pool:
            for n_done, _ in enumerate(pool.map(work, todo), start=1):
                progress(n_done / len(todo))

    @torch.inference_mode()
    def _run_batch(self, batch: Batch, wanted: Wanted, sums: _Sums) -> None:
        """Fill in the items of the batch; every item is in one batch only, so no lock is needed."""
        n_blocks = self.decoder.shape.n_blocks if wanted.logp else max(wanted.layers, default=0)
        places = {layer: sums.states_LID[i] for i, layer in enumerate(wanted.layers)}
        last_BTD = self._states(batch, n_blocks, places)
        if wanted.logp:
            np.add.at(sums.logp_I, batch.items_M, self._logp(batch, last_BTD))

    def _states(
        self, batch: Batch, n_blocks: int, places: dict[int, NDArray[np.float32]]
    ) -> Tensor:
        """Write the mean states of the layers in `places` and return the last layer's states."""
        rows_M, columns_M = self._there(batch.rows_M), self._there(batch.columns_M)
        tokens_BT, positions_BT = self._there(batch.tokens_BT), self._there(batch.positions_BT)
        visible_BTT = self._there(batch.visible_BTT)
        state_BTD = tokens_BT
        steps = self.decoder.hidden(tokens_BT, positions_BT, visible_BTT, n_blocks)
        for layer, state_BTD in enumerate(steps):
            if layer in places:
                items, means = _means(state_BTD[rows_M, columns_M], batch.items_M)
                places[layer][items] = means
        return state_BTD

    def _logp(self, batch: Batch, state_BTD: Tensor) -> NDArray[np.float64]:
        """Compute each answer token's log-probability (M,) from the state of the token before."""
        states_MD = state_BTD[self._there(batch.rows_M), self._there(batch.before_M)]
        targets_M = self._there(batch.tokens_BT[batch.rows_M, batch.columns_M])
        return self._log_probs(states_MD, targets_M)

    def _log_probs(self, states_MD: Tensor, targets_M: Tensor) -> NDArray[np.float64]:
        """Compute log-probabilities in chunks.

        A float32 row of the vocabulary per answer token would fill the memory.
        """
        chunks = [
            self.decoder.log_probs(
                states_MD[start : start + VOCABULARY_CHUNK],
                targets_M[start : start + VOCABULARY_CHUNK],
            )
            for start in range(0, len(targets_M), VOCABULARY_CHUNK)
        ]
        return torch.cat(chunks).double().cpu().numpy()

    def _there(self, array: NDArray[np.int64] | NDArray[np.bool_]) -> Tensor:
        """Copy the array to the model's device."""
        return torch.from_numpy(array).to(self.decoder.device)


def fitting_tokenizer(name: str, text: str, n_rows: int) -> Tokenizer:
    """Return the tokenizer of a tokenizer.json, without added tokens that have no embedding row.

    GGUF readers add such tokens, and they may occur in a text. Raises BadInput where other ids
    exceed the embedding's `n_rows`, or where there are no tokens.
    """
    tokenizer = Tokenizer.from_str(text)
    if max(tokenizer.get_vocab().values(), default=-1) >= n_rows:
        kept = json.loads(text)
        kept["added_tokens"] = [one for one in kept["added_tokens"] if one["id"] < n_rows]
        tokenizer = Tokenizer.from_str(json.dumps(kept))
    top = max(tokenizer.get_vocab().values(), default=-1)
    if top >= n_rows:
        raise BadInput(
            f"{name}: its tokenizer has ids up to {top:,}, its embedding {n_rows:,} rows: they are "
            "not of one model; take tokenizer and weights from one repository and pull it again"
        )
    if top < 0:
        raise BadInput(f"{name}: its tokenizer has no tokens; get its tokenizer.json again")
    return tokenizer


def _means(
    states_MD: Tensor, items_M: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the float32 mean over the tokens of each item that is in the batch."""
    items, place_M, n_tokens = np.unique(items_M, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(items), states_MD.shape[1])
    sums.index_add_(0, torch.from_numpy(place_M), states_MD.float().cpu())
    return items, (sums / torch.from_numpy(n_tokens)[:, None]).numpy()


def loader(
    folder: Path, n_threads: int | None, compute: Compute | None = None
) -> Callable[[], LanguageModel]:
    """Return a callable for `FeatureCache` that loads the model only when a row is missing."""
    return lambda: LanguageModel.load(folder, n_threads, compute=compute)


def _tensors(decoder: Decoder) -> Iterator[Tensor]:
    for block in decoder.blocks:
        for one in fields(block):
            value = getattr(block, one.name)
            if isinstance(value, Tensor):
                yield value


def source_at_hand(stored: StoredFeatures, model: Path, lower: Sequence[Path]) -> WithModel:
    """Load the model at once, before a method's first line, behind a task's stored features.

    Nothing is written: what is computed here stays in this process. One thread, as several runs
    share a machine.
    """
    compute = choose_by(load_settings(), "cpu")
    loaded = LanguageModel.load(model, 1, compute=compute)
    key = compute.model_id(loaded.record)
    return WithModel(stored, FeatureCache([], key, None, lambda: loaded, lower=lower))
