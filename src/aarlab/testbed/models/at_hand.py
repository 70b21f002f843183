"""A task's stored features with the strong model behind them: what a method gets in a sandbox."""

from collections.abc import Sequence
from pathlib import Path

from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.models.compute import choose
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.stored_features import StoredFeatures, WithModel


def source_at_hand(stored: StoredFeatures, model: Path, lower: Sequence[Path]) -> WithModel:
    """The model is loaded at once, before a method's first line. Nothing is written: what is
    computed here stays in this process. One thread, as several runs share a machine."""
    compute = choose("cpu")
    loaded = LanguageModel.load(model, 1, compute=compute)
    key = compute.model_id(loaded.record)
    return WithModel(stored, FeatureCache([], key, None, lambda: loaded, lower=lower))
