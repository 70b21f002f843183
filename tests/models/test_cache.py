"""The feature cache: served by content, computed once, safe under writers, loud when damaged."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aarlab.core.errors import BadInput, Damaged, NotFound
from aarlab.core.types import Example
from aarlab.testbed.models import shards
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.models.cache import FeatureCache, ModelId, cached_models, item_key
from aarlab.testbed.models.lm import loader
from aarlab.testbed.models.record import read_record

ROWS = [
    Example(f"r{i}", f"g{i // 2}", f"What is {i} and 9?", (f"It is {i + 9}.", f"It is {i}."))
    for i in range(12)
]


@pytest.fixture
def model(tiny: Path) -> ModelId:
    return ModelId("tiny", read_record(tiny).key)


@pytest.fixture
def filled(tiny: Path, model: ModelId, tmp_path: Path) -> Path:
    """A folder with layers 1 and 3 and the log-likelihoods of all rows."""
    folder = tmp_path / "features"
    FeatureCache([], model, folder, loader(tiny, 1)).precompute(ROWS, (3, 1), logp=True)
    return folder


def test_cached_rows_are_served_in_any_order_without_a_model(
    tiny: Path, model: ModelId, filled: Path
) -> None:
    fresh = FeatureCache([], model, None, loader(tiny, 1))
    cache = FeatureCache([filled], model)
    states_NAD = cache.states(ROWS, 3)
    assert states_NAD.shape == (12, 2, 32) and states_NAD.dtype == np.float32
    np.testing.assert_array_equal(states_NAD, fresh.states(ROWS, 3))
    order = [7, 2, 2, 11]
    np.testing.assert_array_equal(cache.states([ROWS[i] for i in order], 3), states_NAD[order])
    logp, expected = cache.answer_logp(ROWS[::-1]), fresh.answer_logp(ROWS)
    for found, wanted in zip(logp, expected, strict=True):
        np.testing.assert_array_equal(found, wanted[::-1])
    assert logp.tokens_NA.dtype == np.int32 and (logp.given_prompt_NA < 0).all()
    assert cache.layers(ROWS) == (1, 3) and cache.has_logp(ROWS)


def test_content_counts_not_the_id_or_the_place(model: ModelId, filled: Path) -> None:
    cache = FeatureCache([filled], model)
    first, second = ROWS[4].answers
    swapped = Example("new", "other", ROWS[4].prompt, (second, first))
    single = Example("one", "other", ROWS[4].prompt, (second,))
    states_NAD = cache.states([ROWS[4]], 1)
    np.testing.assert_array_equal(cache.states([swapped], 1), states_NAD[:, ::-1])
    np.testing.assert_array_equal(cache.states([single], 1), states_NAD[:, 1:])
    assert item_key(AnswerItem("ab", "c")) != item_key(AnswerItem("a", "bc"))


def test_what_is_missing_is_named_when_no_model_may_be_loaded(model: ModelId, filled: Path) -> None:
    cache = FeatureCache([filled], model)
    with pytest.raises(NotFound, match="24 answers have no cached state_2 of tiny"):
        cache.states(ROWS, 2)
    stranger = Example("x", "x", "Unseen?", ("Yes.", "No."))
    with pytest.raises(NotFound, match="2 answers"):
        cache.answer_logp([*ROWS, stranger])
    assert cache.layers([stranger]) == () and not cache.has_logp([stranger])
    other = FeatureCache([filled], ModelId("tiny", "f" * 64))
    with pytest.raises(NotFound):
        other.states(ROWS, 3)


def test_only_missing_answers_are_computed_and_kept(
    tiny: Path, model: ModelId, filled: Path
) -> None:
    extra = Example("x", "x", "Unseen?", ("Yes.", "No."))
    told: list[tuple[int, int]] = []
    cache = FeatureCache([], model, filled, loader(tiny, 1))
    cache.precompute([*ROWS, extra], (1,), logp=True, progress=lambda *seen: told.append(seen))
    assert cache.n_computed == 2 and told == [(1, 2), (2, 2)]  # after P(answer | prompt), P(answer)
    cache.states([extra, *ROWS], 1)
    assert cache.n_computed == 2
    FeatureCache([filled], model).states([extra], 1)


def test_a_read_only_cache_computes_in_memory(tiny: Path, model: ModelId, filled: Path) -> None:
    before = sorted(path.as_posix() for path in filled.rglob("*"))
    cache = FeatureCache([filled], model, None, loader(tiny, 1))
    cache.states(ROWS, 2)
    assert cache.layers(ROWS) == (1, 2, 3)
    assert sorted(path.as_posix() for path in filled.rglob("*")) == before


def test_rows_with_different_numbers_of_answers_are_refused(model: ModelId, filled: Path) -> None:
    mixed = [ROWS[0], Example("one", "g", ROWS[1].prompt, ROWS[1].answers[:1])]
    for rows in (mixed, []):
        with pytest.raises(BadInput, match="number of answers"):
            FeatureCache([filled], model).states(rows, 3)


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "state_3.npy flipped": lambda shard: _flip(shard / "state_3.npy"),
    "state_3.npy cut": lambda shard: os.truncate(shard / "state_3.npy", 300),
    "state_3.npy gone": lambda shard: (shard / "state_3.npy").unlink(),
    "keys.npy flipped": lambda shard: _flip(shard / "keys.npy"),
    "index.json cut": lambda shard: os.truncate(shard / "index.json", 40),
    "index.json gone": lambda shard: (shard / "index.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_with_its_repair(damage: str, model: ModelId, filled: Path) -> None:
    (shard,) = filled.glob("*/*")
    DAMAGE[damage](shard)
    with pytest.raises(Damaged, match=f"{damage.split()[0]} is damaged.*delete the folder"):
        FeatureCache([filled], model).states(ROWS, 3)


def test_a_failed_write_leaves_nothing(
    tiny: Path, model: ModelId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        FeatureCache([], model, tmp_path / "full", loader(tiny, 1)).states(ROWS, 1)
    assert [path for path in (tmp_path / "full").rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    FeatureCache([], model, tmp_path / "full", loader(tiny, 1)).states(ROWS, 1)


def test_an_unfinished_shard_is_ignored(model: ModelId, filled: Path) -> None:
    (shard,) = filled.glob("*/*")
    (shard.parent / ".half").mkdir()
    (shard.parent / ".half" / "keys.npy").write_bytes(b"half")
    assert FeatureCache([filled], model).layers(ROWS) == (1, 3)
    assert cached_models([filled]) == {"tiny": model}


WRITER = """
import sys
from pathlib import Path
import numpy as np
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.models.cache import item_key
from aarlab.testbed.models.shards import NewShard, write_shard
for turn in range(30):
    keys = [item_key(AnswerItem(str(turn), str(i))) for i in range(50)]
    states = np.full((50, 32), turn, np.float32)
    write_shard(Path(sys.argv[1]), NewShard("tiny", "a" * 64, keys, {"state_1": states}))
"""


def test_writers_and_readers_at_the_same_time_do_not_hurt_each_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    model = ModelId("tiny", "a" * 64)
    while any(writer.poll() is None for writer in writers):
        FeatureCache([tmp_path], model).layers(ROWS)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    rows = [Example(f"{t}", "g", str(t), ("7", "49")) for t in range(30)]
    states_NAD = FeatureCache([tmp_path], model).states(rows, 1)
    np.testing.assert_array_equal(states_NAD[:, :, 5], np.arange(30)[:, None] * np.ones(2))


def test_models_are_found_from_the_folder_alone(tiny: Path, model: ModelId, filled: Path) -> None:
    assert cached_models([filled]) == {"tiny": model}
    (index,) = filled.glob("*/*/index.json")
    newer = json.loads(index.read_text()) | {"model_key": "e" * 64}
    (filled / ("e" * 16) / "shard").mkdir(parents=True)
    (filled / ("e" * 16) / "shard" / "index.json").write_text(json.dumps(newer))
    with pytest.raises(BadInput, match="two versions of tiny"):
        cached_models([filled])


BARE = """
import sys
from pathlib import Path
from aarlab.core.types import Example
from aarlab.testbed.models.cache import FeatureCache, cached_models
folder = Path(sys.argv[1])
cache = FeatureCache([folder], cached_models([folder])["tiny"])
row = Example("r", "g", "What is 3 and 9?", ("It is 12.", "It is 3."))
assert cache.states([row], 3).shape == (1, 2, 32)
assert not {"torch", "transformers", "tokenizers"} & set(sys.modules)
"""


def test_cached_features_need_no_torch_and_no_write_access(filled: Path) -> None:
    subprocess.run(["chmod", "-R", "a-w", str(filled)], check=True)
    try:
        subprocess.run([sys.executable, "-c", BARE, str(filled)], env={}, check=True, timeout=60)
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(filled)], check=True)
