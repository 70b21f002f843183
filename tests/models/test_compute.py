"""Where a model computes: float types have keys of their own, too little memory is said plainly."""

from pathlib import Path

import numpy as np
import pytest
import torch

from aarlab.core.errors import BadInput
from aarlab.testbed.models import compute
from aarlab.testbed.models.answers import AnswerItem, Wanted
from aarlab.testbed.models.compute import Compute, choose
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.record import read_record
from aarlab.testbed.settings import load_settings

ITEMS = [AnswerItem(f"What is the sum of {a} and 9?", f"The sum is {a + 9}.") for a in range(40)]
ALL = Wanted((1, 3), logp=True)


def test_each_float_type_has_a_key_of_its_own(tiny: Path) -> None:
    record = read_record(tiny)
    bf16, exact = Compute().model_id(record), Compute(dtype="float32").model_id(record)
    assert bf16.key == record.key != exact.key
    assert (bf16.name, exact.name) == ("tiny", "tiny (float32)")
    assert exact.computed.startswith("float32 on cpu, torch ")


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [("fma avx512_bf16", "bfloat16"), ("asimd bf16 i8mm", "bfloat16"), ("sse avx2", "float32")],
)
def test_a_chip_without_bf16_computes_in_float32(
    flags: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(compute, "Path", lambda _: tmp_path / "cpuinfo")
    assert choose("cpu").dtype == dtype
    assert choose("cpu", "float32").dtype == "float32"


def test_cuda_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose("auto").device == "cpu"
    with pytest.raises(BadInput, match="AARLAB_DEVICE"):
        choose("cuda")


@pytest.mark.parametrize(
    ("name", "value"),
    [("DEVICE", "tpu"), ("DTYPE", "int8"), ("BATCH_TOKENS", "0"), ("CACHE_GB", "nan")],
)
def test_settings_that_do_not_fit_are_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AARLAB_{name}", value)
    with pytest.raises(BadInput, match=f"AARLAB_{name}"):
        load_settings()


def test_the_batch_is_halved_once_and_the_result_is_the_same(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LanguageModel.load(tiny, 1, torch.float32, Compute(batch_tokens=256))
    expected = model.features(ITEMS, ALL)
    sizes = _refuse_batches_above(model, 128, monkeypatch)
    found = model.features(ITEMS, ALL)
    assert max(sizes) > 128 and model.layout.batch == 128
    np.testing.assert_allclose(found.states_LID, expected.states_LID, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.logp_I3, expected.logp_I3, rtol=1e-4)


def test_too_little_memory_names_the_settings_to_lower(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = LanguageModel.load(tiny, 1)
    _refuse_batches_above(model, 8, monkeypatch)
    with pytest.raises(BadInput, match="batches of 1024 tokens; set AARLAB_BATCH_TOKENS lower"):
        model.features(ITEMS, ALL)


def _refuse_batches_above(
    model: LanguageModel, limit: int, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """The allocator really fails, on more memory than any machine has."""
    sizes: list[int] = []
    hidden = model.decoder.hidden

    def hungry(tokens_BT: torch.Tensor, *rest: object) -> object:
        sizes.append(tokens_BT.numel())
        if tokens_BT.numel() > limit and len(sizes) > 1:  # the first one has already left its sums
            torch.empty(1 << 46)
        return hidden(tokens_BT, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(model.decoder, "hidden", hungry)
    return sizes


def test_a_model_too_large_for_the_memory_says_so(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        torch.empty(1 << 46)

    monkeypatch.setattr("aarlab.testbed.models.lm.Decoder", full)
    with pytest.raises(BadInput, match=r"tiny needs about .* GB of memory.*AARLAB_DTYPE"):
        LanguageModel.load(tiny)


def test_other_errors_are_not_taken_for_it(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LanguageModel.load(tiny, 1)
    monkeypatch.setattr(model.decoder, "hidden", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        model.features(ITEMS, ALL)


def test_values_that_are_not_finite_are_refused(tiny: Path) -> None:
    model = LanguageModel.load(tiny, 1)
    model.decoder.blocks[1].down[:] = float("nan")  # type: ignore[index]
    assert np.isfinite(model.features(ITEMS, Wanted((1,), False)).states_LID).all()
    with pytest.raises(BadInput, match=r"layers \[3\], for 40 of 40 answers.*AARLAB_DTYPE=float32"):
        model.features(ITEMS, ALL)


@pytest.mark.gpu
def test_a_gpu_computes_what_the_cpu_computes(tiny: Path) -> None:
    here = LanguageModel.load(tiny, 1, compute=Compute(dtype="float32"))
    there = LanguageModel.load(tiny, compute=choose("cuda", "float32"))
    expected, found = here.features(ITEMS, ALL), there.features(ITEMS, ALL)
    np.testing.assert_allclose(found.states_LID, expected.states_LID, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(found.logp_I3, expected.logp_I3, rtol=1e-2)
