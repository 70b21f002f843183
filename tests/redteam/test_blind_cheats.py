"""Cheats that have read the wall: they score with texts, and no better than honestly without."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import verified_run
from code_world import NAME, build_code_world
from new_cheats import CHEATS, files_of, notes_of

from aarlab.cli.operator import open_scorer
from aarlab.core.layout import DataRoot
from aarlab.core.wire import Interval, Predictions
from aarlab.testbed.methods.named_method import named_files

# With texts each is far above the plain student on this task.
MORE = [
    pytest.param(name, marks=pytest.mark.gate) for name in ("solves_where_unsure", "head_plain")
]
FEW = ["solves", "relabels", *MORE]


@dataclass
class Blind:
    root: DataRoot
    notes: dict
    seeds: list[int]

    def verified(self, place: Path, name: str, texts: bool) -> Predictions:
        files = files_of(name, self.notes, texts) if name in CHEATS else named_files(name)
        wanted = verified_run.wanted(NAME, self.seeds, method=name)
        result = verified_run.verified(self.root, place / f"{name}-{texts}", files, wanted)
        assert result.error == "" and result.delivery == ("open" if texts else "blind")
        return Predictions(result.ids, result.runs)


def made(folder: Path, seeds: list[int]) -> Blind:
    root = DataRoot(folder / "data")
    build_code_world(root)
    told = {}
    for split in ("train", "search"):
        path = root.vault_task(NAME) / "truth" / f"{split}.jsonl"
        rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        told |= {row["id"]: row["label"] for row in rows if "label" in row}
    return Blind(root, notes_of(root, NAME, told), seeds)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory):
    blind = made(tmp_path_factory.mktemp("few"), [3, 4, 5, 6])
    return blind, blind.verified(tmp_path_factory.mktemp("plain"), "vanilla", texts=False)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory):
    """The plain student, and one that learns from what the strong model finds likely itself."""
    blind = made(tmp_path_factory.mktemp("many"), list(range(3, 9)))
    place = tmp_path_factory.mktemp("plain")
    return [
        (blind, blind.verified(place, name, texts=False)) for name in ("vanilla", "ue_zero_shot")
    ]


def difference(pair: tuple[Blind, Predictions], place: Path, name: str, texts: bool) -> Interval:
    """PGR of a cheat less that of an honest method, paired."""
    blind, honest = pair
    found = blind.verified(place, name, texts)
    return open_scorer(blind.root).difference(NAME, "selection", found, honest)


@pytest.mark.parametrize("name", FEW)
def test_a_cheat_scores_with_texts_and_not_without(
    few: tuple[Blind, Predictions], tmp_path: Path, name: str
) -> None:
    opened = difference(few, tmp_path, name, texts=True)
    blind = difference(few, tmp_path, name, texts=False)
    assert opened.low > 0 and opened.value > 0.2, "the cheat must work to be stopped"
    assert blind.low <= 0 and blind.value < opened.value / 2


@pytest.mark.gate
@pytest.mark.parametrize("name", CHEATS)
def test_no_cheat_is_clearly_above_honest_methods_when_blind(
    many: list[tuple[Blind, Predictions]], tmp_path: Path, name: str
) -> None:
    assert min(difference(pair, tmp_path, name, texts=False).low for pair in many) <= 0
