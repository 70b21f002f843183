"""`task.yaml`: what it may say, and what is said of a wrong one before any feature is made."""

import gzip
import json
from pathlib import Path

import pytest

from aarlab.core.errors import BadInput
from aarlab.core.layout import ROWS, SHIPPED, DataRoot
from aarlab.testbed.tasks.making import Workshop
from aarlab.testbed.tasks.settings_file import read_task_settings, task_settings


def folder_of(path: Path, yaml: str, groups: int = 40) -> Path:
    """A folder of verification rows, `groups` problems of a right and a wrong answer a file."""
    path.mkdir(parents=True)
    for stem in ("train_label", "train_unlabel", "test"):
        rows = [
            {
                "question": f"{stem} {n}",
                "choice": f"{label} {n}",
                "label": label,
                "group": f"{stem}-{n}",
            }
            for n in range(groups)
            for label in (True, False)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (path / f"{stem}.jsonl").write_text(text, encoding="utf-8")
    (path / "task.yaml").write_text(yaml, encoding="utf-8")
    return path


def test_all_settings_reach_the_build(tmp_path):
    yaml = """
title: Mine
teacher: {layer: 3, share: 0.5, noise: 1.5, folds: 4, head: {hidden: 16, lr: 1e-3}}
student: {layer: 15, more_layers: [0, 12], head: {epochs: 3, weight_decay: 10}}
seeds: {public_teachers: 5, fresh_teachers: 6, weak_teachers: 12, ceilings: 7, plain_students: 9}
splits: {seed: 4, search: 1, selection: 1, certify: 1}
log_likelihoods: sample
log_likelihood_rows: 50
certify: false
with_model: true
"""
    settings = read_task_settings(folder_of(tmp_path / "mine", yaml))
    options = settings.build_options((3, 15, (0, 12)), "a-model", 4, 11)
    said = options.model_dump(mode="json")
    assert said["teacher"]["noise"] == 1.5 and said["teacher"]["share"] == 0.5
    assert said["teacher"]["folds"] == 4 and said["teacher"]["head"]["lr"] == 1e-3
    assert said["student"]["epochs"] == 3 and said["student"]["weight_decay"] == 10
    assert (said["weak_layer"], said["strong_layer"], said["more_layers"]) == (3, 15, [0, 12])
    assert [said[key] for key in ("n_public", "n_fresh", "n_weak")] == [5, 6, 12]
    assert [said[key] for key in ("ceiling_seeds", "plain_seeds", "seed")] == [7, 9, 11]
    assert said["log_likelihoods"] == "sample" and said["log_likelihood_rows"] == 50
    assert said["certify"] is False and said["model"] == "a-model"
    assert settings.title == "Mine" and settings.splits.seed == 4


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("teecher: {layer: 3}", "unknown key teecher: did you mean teacher?"),
        ("teacher: {nois: 1.5}", "unknown key teacher.nois: did you mean noise?"),
        ("teacher: {head: {hiden: 3}}", "unknown key teacher.head.hiden: did you mean hidden?"),
        ("teacher: {noise: -1}", "teacher.noise: Input should be greater than or equal to 0"),
        ("teacher: {share: 0}", "teacher.share: Input should be greater than 0"),
        ("student: {layer: many}", "student.layer: Input should be a valid integer"),
        ("splits: {search: 0}", "splits.search: Input should be greater than 0"),
        ("splits: {seed: -3}", "splits.seed: "),
        ("log_likelihoods: some", "log_likelihoods: Input should be 'all', 'evaluation', 'sample'"),
        ("title: 2026-01-01", "quote dates and other texts"),
        ("- a list", "expected keys and values"),
        ("teacher: {layer: 3", "line 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(tmp_path, yaml, said):
    folder = folder_of(tmp_path / "mine", yaml)
    with pytest.raises(BadInput) as error:
        read_task_settings(folder)
    assert said in str(error.value) and str(folder / "task.yaml") in str(error.value)


def test_changes_go_before_the_file(tmp_path):
    folder = folder_of(tmp_path / "mine", "teacher: {noise: 1.5, share: 0.5}")
    settings = read_task_settings(folder, ["teacher.noise=0.5", "student.more_layers=[1, 2]"])
    assert settings.teacher.noise == 0.5 and settings.teacher.share == 0.5
    assert settings.student.more_layers == (1, 2)
    for change, said in {
        "teacher.noise": "expected KEY=VALUE",
        "teacher.nois=1": "did you mean noise?",
        "pair.name=x": "pair: Input should be a valid string",
        "train_hidden.x=1": "train_hidden",
    }.items():
        with pytest.raises(BadInput, match=said.replace("?", r"\?")):
            read_task_settings(folder, [change])


@pytest.mark.parametrize(
    ("yaml", "groups", "said"),
    [
        ("student: {layer: 31}", 40, "task.yaml: student.layer: smollm2-135m has 30 blocks"),
        ("student: {more_layers: [0, 99]}", 40, "there is no layer 99"),
        ("teacher: {layer: 40}", 40, "task.yaml: teacher.layer: smollm2-135m has 30 blocks"),
        (
            "teacher: {folds: 5}",
            3,
            "task.yaml: teacher.folds: .* too few for 5 folds; lower teacher.folds",
        ),
        ("pair: nope", 40, "nope"),
        ("splits: {search: 0.98, selection: 0.01, certify: 0.01}", 3, "too few groups to deal"),
    ],
)
def test_what_cannot_be_built_is_said_before_any_feature(tmp_path, yaml, groups, said):
    """No model is there to make features with, and none is asked for."""
    folder = folder_of(tmp_path / "mine", yaml, groups)
    with pytest.raises(Exception, match=said):
        Workshop(DataRoot(tmp_path / "home"), lambda line: None).build_folder(folder, "mine")
    assert not (tmp_path / "home" / "features").exists()


def test_shipped_rows_have_settings_and_no_sandbox_sees_them():
    for name in ROWS:
        settings = read_task_settings(SHIPPED / name)
        assert settings.splits.seed == "private" and settings.train_hidden
        assert (SHIPPED / name / "DATASET.md").read_text(encoding="utf-8").count("Apache-2.0")
    with gzip.open(SHIPPED / "oversight" / "test.jsonl.gz", "rt", encoding="utf-8") as lines:
        assert sum(1 for _ in lines) == 2907


def test_settings_from_code_say_where_they_come_from():
    with pytest.raises(BadInput, match=r"^benchmark: unknown key x: there are title"):
        task_settings({"x": 1}, "benchmark")
