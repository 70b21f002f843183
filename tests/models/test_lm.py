"""Features of a language model: against transformers row by row, in batches, at the limits."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from aarlab.core.errors import BadInput, Damaged, NotFound
from aarlab.testbed.models.answers import AnswerItem, Wanted
from aarlab.testbed.models.lm import LanguageModel

ALL = Wanted((0, 1, 2, 3), logp=True)
ITEMS = [
    AnswerItem(f"What is the sum of {a} and {b}?", f"The sum is {a + b}{', as it is' * extra}.")
    for a in (4, 19)
    for b in (9, 3)
    for extra in range(3)
] + [AnswerItem("What does harbour mean? " * 9, "A part of the sea.")]


@pytest.fixture(scope="module")
def exact(tiny: Path) -> LanguageModel:
    return LanguageModel.load(tiny, dtype=torch.float32)


@torch.inference_mode()
def test_states_and_likelihoods_are_those_of_one_row_at_a_time(
    tiny: Path, exact: LanguageModel
) -> None:
    original = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    found = exact.features(ITEMS, ALL)
    assert found.logp_I3 is not None
    assert found.states_LID.shape == (4, len(ITEMS), 32)
    assert found.states_LID.dtype == found.logp_I3.dtype == np.float32
    for i, item in enumerate(ITEMS):
        prompt, answer, alone = (
            tokenizer(text, add_special_tokens=False)["input_ids"]
            for text in (item.prompt + "\n", item.answer, "\n")
        )
        out = original(torch.tensor([prompt + answer]), output_hidden_states=True)
        for layer in range(3):
            mean = out.hidden_states[layer][0, len(prompt) :].mean(0)
            np.testing.assert_allclose(found.states_LID[layer, i], mean, rtol=1e-4, atol=1e-5)
        given = _logp(out.logits[0], prompt, answer)
        lonely = _logp(original(torch.tensor([alone + answer])).logits[0], alone, answer)
        np.testing.assert_allclose(found.logp_I3[i], [given, lonely, len(answer)], rtol=1e-4)


def _logp(logits: torch.Tensor, prefix: list[int], answer: list[int]) -> float:
    log_probs = logits.log_softmax(-1)
    return sum(float(log_probs[len(prefix) - 1 + j, token]) for j, token in enumerate(answer))


def test_a_batch_gives_what_single_rows_give_in_bf16(tiny: Path) -> None:
    model = LanguageModel.load(tiny)
    together = model.features(ITEMS, ALL)
    for i, item in enumerate(ITEMS):
        single = model.features([item], ALL)
        apart = np.linalg.norm(together.states_LID[:, i] - single.states_LID[:, 0], axis=1)
        assert (apart < 0.03 * np.linalg.norm(single.states_LID[:, 0], axis=1)).all()
        assert together.logp_I3 is not None and single.logp_I3 is not None
        np.testing.assert_allclose(together.logp_I3[i], single.logp_I3[0], rtol=0.02)


def test_order_and_repeats_do_not_matter(exact: LanguageModel) -> None:
    order = [3, 0, 3, 12, 7]
    straight = exact.features(ITEMS, ALL)
    mixed = exact.features([ITEMS[i] for i in order], ALL)
    np.testing.assert_allclose(
        mixed.states_LID, straight.states_LID[:, order], rtol=1e-4, atol=1e-5
    )


def test_only_the_blocks_that_are_needed_run(
    exact: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    hidden = exact.decoder.hidden

    def counting(*arguments: object) -> object:
        ran.append(arguments[-1])  # type: ignore[arg-type]
        return hidden(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(exact.decoder, "hidden", counting)
    found = exact.features(ITEMS[:2], Wanted((1,), logp=False))
    assert ran == [1] and found.logp_I3 is None


def test_a_long_row_keeps_the_end_of_the_prompt_and_the_answer(exact: LanguageModel) -> None:
    room = 128 - len(exact.token_ids(ITEMS[0].answer)) - len(exact.token_ids("\n"))
    ids = exact.token_ids("a b c d e f g h " * 60)
    kept = exact._tokenizer.decode(ids[-room:])
    long = AnswerItem(exact._tokenizer.decode(ids), ITEMS[0].answer)
    found = exact.features([long, ITEMS[0]], ALL)
    same = exact.features([AnswerItem(kept, ITEMS[0].answer)], ALL)
    assert found.n_truncated == 1 and same.n_truncated == 0
    np.testing.assert_allclose(found.states_LID[:, 0], same.states_LID[:, 0], rtol=1e-4, atol=1e-5)


def test_an_answer_longer_than_the_context_keeps_its_beginning(exact: LanguageModel) -> None:
    endless = AnswerItem("Count.", "one two " * 200)
    found = exact.features([endless], ALL)
    assert found.n_truncated == 1
    assert found.logp_I3 is not None and found.logp_I3[0, 2] == 127
    assert np.isfinite(found.states_LID).all() and np.isfinite(found.logp_I3).all()


@pytest.mark.parametrize(
    "wanted", [Wanted((4,), False), Wanted((-1,), False), Wanted((1, 1), False)]
)
def test_a_layer_that_is_not_there_is_refused(exact: LanguageModel, wanted: Wanted) -> None:
    with pytest.raises(BadInput, match="layer"):
        exact.features(ITEMS[:1], wanted)


def test_an_empty_answer_is_refused(exact: LanguageModel) -> None:
    with pytest.raises(BadInput, match="empty"):
        exact.features([AnswerItem("What?", "  ")], ALL)


def test_nothing_asked_of_nothing(exact: LanguageModel) -> None:
    assert exact.features([], ALL).states_LID.shape == (4, 0, 32)


def test_a_damaged_byte_is_found_before_the_model_is_used(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    subprocess.run(["cp", "-r", str(tiny), str(folder)], check=True)
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-7] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(Damaged, match=r"model\.safetensors.*aarlab models pull tiny --force"):
        LanguageModel.load(folder)
    (folder / "model.safetensors").write_bytes(weights[:-1])
    with pytest.raises(Damaged, match="bytes"):
        LanguageModel.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(Damaged, match="missing"):
        LanguageModel.load(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(Damaged, match="not a model record"):
        LanguageModel.load(folder)
    with pytest.raises(NotFound, match="aarlab models pull nowhere"):
        LanguageModel.load(tmp_path / "nowhere")


BARE = """
import socket, sys
from pathlib import Path
def refuse(*a, **k): raise AssertionError("network")
socket.socket.connect = refuse
from aarlab.testbed.models.answers import AnswerItem, Wanted
from aarlab.testbed.models.lm import LanguageModel
model = LanguageModel.load(Path(sys.argv[1]), n_threads=1)
model.features([AnswerItem("a", "b")], Wanted((2,), True))
assert "transformers" not in sys.modules, "loading must not need transformers"
"""


def test_a_read_only_folder_loads_without_home_or_network(tiny: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in tiny.iterdir()}
    os.chmod(tiny, 0o555)
    try:
        subprocess.run([sys.executable, "-c", BARE, str(tiny)], env={}, check=True, timeout=120)
    finally:
        os.chmod(tiny, 0o755)
    assert before == {path.name: path.stat().st_mtime_ns for path in tiny.iterdir()}
