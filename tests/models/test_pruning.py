"""The cache below its limit: what is used stays, in this process and in others."""

import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aarlab.cli.main import cli
from aarlab.core.errors import Damaged, NotFound
from aarlab.core.types import Example
from aarlab.testbed.models import record
from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.models.cache import FeatureCache, ModelId, item_key
from aarlab.testbed.models.shards import INDEX, NewShard, lease, prune, usage, write_shard

MODEL = ModelId("tiny", "a" * 64)


def _rows(turn: int) -> list[Example]:
    return [Example(f"{turn}-{i}", "g", f"{turn}", (f"{i}",)) for i in range(50)]


def _write(folder: Path, turn: int) -> Path:
    """One shard with the states of a turn's rows; nobody holds it."""
    keys = [item_key(AnswerItem(e.prompt, e.answers[0])) for e in _rows(turn)]
    states = np.full((50, 32), turn, np.float32)
    path = write_shard(folder, NewShard("tiny", MODEL.key, keys, {"state_1": states})).folder
    gc.collect()
    os.utime(path / INDEX, (1_000_000 + turn,) * 2)
    return path


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    shards = [_write(tmp_path, turn) for turn in range(4)]
    (one,) = usage(tmp_path)
    assert (one.n_shards, one.n_answers, one.used) == (4, 200, 1_000_003)
    cache = FeatureCache([tmp_path], MODEL)
    cache.states(_rows(0), 1)
    del cache
    gone = prune(tmp_path, one.n_bytes // 2)
    assert gone.n_shards == 2 and [s.exists() for s in shards] == [True, False, False, True]
    assert prune(tmp_path, one.n_bytes // 2) == (0, 0)


def test_what_is_read_or_being_written_stays(tmp_path: Path) -> None:
    shards = [_write(tmp_path, turn) for turn in range(3)]
    cache = FeatureCache([tmp_path], MODEL)
    cache.states(_rows(1), 1)
    fresh, old = shards[0].parent / ".fresh", shards[0].parent / ".old"
    fresh.mkdir()
    old.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    assert prune(tmp_path, 0).n_shards == 2
    assert [s.exists() for s in shards] == [False, True, False]
    assert fresh.exists() and not old.exists()
    np.testing.assert_array_equal(cache.states(_rows(1), 1)[0, 0], np.ones(32))
    with pytest.raises(NotFound, match="50 answers have no cached state_1"):
        cache.states(_rows(2), 1)
    del cache
    assert prune(tmp_path, 0).n_shards == 1 and usage(tmp_path) == []


def test_a_copy_elsewhere_serves_when_one_shard_is_gone(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    _write(first, 7)
    _write(second, 7)
    cache = FeatureCache([first, second], MODEL)
    assert cache.layers(_rows(8)) == ()  # knows both, holds neither
    prune(second, 0)
    assert cache.states(_rows(7), 1)[3, 0, 0] == 7


def test_a_new_shard_is_held_by_its_writer(tmp_path: Path) -> None:
    keys = [item_key(AnswerItem("p", "a"))]
    shard = write_shard(tmp_path, NewShard("tiny", MODEL.key, keys, {"state_1": np.ones((1, 4))}))
    assert prune(tmp_path, 0).n_shards == 0
    del shard
    assert prune(tmp_path, 0).n_shards == 1


def test_a_shard_that_is_going_cannot_be_leased(tmp_path: Path) -> None:
    shard = _write(tmp_path, 1)
    assert lease(shard) is not None
    prune(tmp_path, 0)
    assert lease(shard) is None


def test_a_file_nobody_wrote_to_is_not_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = _write(tmp_path, 5)
    hashed: list[Path] = []
    digest = record.file_sha256

    def noting(path: Path) -> str:
        hashed.append(path)
        return digest(path)

    monkeypatch.setattr(record, "file_sha256", noting)
    FeatureCache([tmp_path], MODEL).states(_rows(5), 1)
    assert hashed == []
    os.utime(shard / "state_1.npy")  # could have been written to
    FeatureCache([tmp_path], MODEL).states(_rows(5), 1)
    assert hashed == [shard / "state_1.npy"]
    raw = bytearray((shard / "state_1.npy").read_bytes())
    raw[-1] ^= 1
    (shard / "state_1.npy").write_bytes(raw)
    with pytest.raises(Damaged, match="expected sha256"):
        FeatureCache([tmp_path], MODEL).states(_rows(5), 1)


WORKER = """
import random, sys
from pathlib import Path
import numpy as np
from aarlab.core.types import Example
from aarlab.testbed.models.answers import AnswerFeatures
from aarlab.testbed.models.cache import FeatureCache, ModelId

class Lengths:  # states are a function of the prompt, so that a wrong row shows
    def features(self, items, wanted, progress):
        states = [[np.full(64, float(item.prompt), np.float32) for item in items]]
        return AnswerFeatures(np.array(states), None, 0)

draw = random.Random(int(sys.argv[2]))
for _ in range(25):
    cache = FeatureCache([], ModelId("tiny", "a" * 64), Path(sys.argv[1]), Lengths, 60_000)
    for _ in range(4):
        numbers = draw.sample(range(400), 60)
        rows = [Example(str(n), "g", str(n), ("x",)) for n in numbers]
        assert (cache.states(rows, 1)[:, 0, 5] == numbers).all()
"""


def test_writers_readers_and_pruners_in_several_processes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(seed)]) for seed in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    prune(tmp_path, 60_000)
    (left,) = usage(tmp_path)
    assert 0 < left.n_bytes <= 60_000
    assert not list(tmp_path.glob("*/.*"))


def test_the_command_shows_and_prunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path))
    for turn in range(3):
        _write(tmp_path / "features", turn)
    shown = CliRunner().invoke(cli, ["models", "cache"])
    assert shown.exit_code == 0 and "150" in shown.output and "at most 50.00 GB" in shown.output
    pruned = CliRunner().invoke(cli, ["models", "cache", "--prune", "--limit-gb", "0"])
    assert "dropped 3 shards" in pruned.output and usage(tmp_path / "features") == []
