"""Catalogue, pairs and settings."""

from pathlib import Path

import pytest

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.catalogue import CATALOGUE, PAIRS, catalogue_of
from aarlab.testbed.settings import load_settings


@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_pairs_name_models_and_layers_that_exist(pair: object) -> None:
    for task in ("chat", "math", "code", "some-import"):
        weak, strong = pair.weak_for(task), pair.strong_for(task)  # type: ignore[attr-defined]
        assert 0 < weak.layer <= CATALOGUE[weak.model].n_blocks
        assert 0 < strong.layer <= CATALOGUE[strong.model].n_blocks
        assert weak != strong


def test_unknown_names_list_what_there_is(tmp_path: Path) -> None:
    known = catalogue_of(DataRoot(tmp_path))
    with pytest.raises(NotFound, match="smollm2-135m"):
        known.model("gpt-9")
    with pytest.raises(NotFound, match="embedded, embedded-wide, qwen-paper"):
        known.pair("other")


def test_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AARLAB_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings().root.path == tmp_path / ".aarlab"
    monkeypatch.setenv("AARLAB_HOME", "~/data")
    monkeypatch.setenv("AARLAB_TORCH_THREADS", "2")
    assert load_settings().root.models == tmp_path / "data" / "models"
    assert load_settings().torch_threads == 2


@pytest.mark.parametrize("value", ["none", "0", "1.5"])
def test_a_setting_that_does_not_fit_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AARLAB_TORCH_THREADS", value)
    with pytest.raises(BadInput, match="AARLAB_TORCH_THREADS"):
        load_settings()
