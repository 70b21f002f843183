"""`python -m aarlab.testbed.running.run_method`: what runs inside the sandbox, as a process."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from aarlab.core.errors import BadInput, MethodFailed
from aarlab.core.layout import DataRoot
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.recipes.recipe import LabelStage, Recipe, SelectStage, TrainStage
from aarlab.testbed.running.job import Job, JobError, JobOutput, SeedPair, read_job
from aarlab.testbed.running.method_folder import recipe_files, write_method
from aarlab.testbed.running.run_method import main, run_job

FIT = "def fit(task, student, seed):\n"
CONSTANT = """import numpy as np
class P:
    def predict_proba(self, inputs):
        return {expression}
def fit(task, student, seed):
    return P()
"""


def job_for(built, tmp_path, files, **changes):
    method = tmp_path / "method"
    write_method(method, files)
    values = {"method": method, "public": DataRoot(built).public_task("gauss")}
    values["runs"] = [SeedPair(teacher_seed=i, seed=10 + i) for i in range(2)]
    return Job(**{**values, **changes})


def run_process(job, tmp_path):
    path, out = tmp_path / "job.json", tmp_path / "out"
    path.write_text(job.model_dump_json())
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "aarlab.testbed.running.run_method",
        str(path),
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    return done, out


def test_a_recipe_folder_runs_as_a_process(built, tmp_path):
    recipe = Recipe(label=LabelStage(source="posterior"), train=TrainStage(epochs=2))
    job = job_for(built, tmp_path, recipe_files(recipe, 'Mine """quoted\\"'))
    done, out = run_process(job, tmp_path)
    assert done.returncode == 0, done.stderr
    output = JobOutput.model_validate_json((out / "predictions.json").read_bytes())
    assert [run.seed for run in output.runs] == [10, 11]
    assert [record.teacher_seed for record in output.records] == [0, 1]
    assert len(output.ids) == len(output.runs[0].probs) == 240
    assert output.runs[0].probs != output.runs[1].probs
    record = output.records[0]
    assert record.compute["rows_trained"] == 2 * 320 and record.seconds > 0
    assert {"agrees_with_teacher", "misfit", "agrees_with_zero_shot"} <= set(record.diagnostics)
    assert not (out / "error.json").exists()


def test_a_run_loads_neither_torch_nor_transformers(built, tmp_path):
    source = (
        "import sys\n"
        + CONSTANT.format(expression="np.full(len(inputs), 0.5)")
        + "loaded = {'torch', 'transformers', 'sklearn'} & set(sys.modules)\n"
        + "assert not loaded, loaded\n"
    )
    done, _ = run_process(job_for(built, tmp_path, {"method.py": source}), tmp_path)
    assert done.returncode == 0, done.stderr


BAD = {
    "raises": (FIT + "    raise RuntimeError('no luck')\n", "no luck.*method.py:2 in fit"),
    "exits": (FIT + "    raise SystemExit(0)\n", "SystemExit"),
    "no predictor": (FIT + "    return 3\n", "predict_proba"),
    "no fit": ("x = 1\n", "no function fit"),
    "syntax": ("def fit(:\n", "SyntaxError"),
    "nan": (CONSTANT.format(expression="np.full(len(inputs), np.nan)"), r"\[0, 1\], first nan"),
    "above 1": (CONSTANT.format(expression="np.full(len(inputs), 1.5)"), "first 1.5"),
    "shape": (CONSTANT.format(expression="np.zeros((len(inputs), 2))"), "shape"),
    "text": (CONSTANT.format(expression="['a'] * len(inputs)"), "ValueError"),
    "peeks": (FIT + "    return task.truth_N\n", "has no attribute 'truth_N'"),
    "other rows": (
        FIT + "    from aarlab.core.types import Example\n"
        "    student.states([Example('x', 'g', 'unknown', ('row',))])\n",
        "no stored features for row 'x'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_broken_method_gives_an_error_file_and_no_predictions(built, tmp_path, name):
    source, says = BAD[name]
    job = job_for(built, tmp_path, {"method.py": source})
    path = tmp_path / "job.json"
    path.write_text(job.model_dump_json())
    assert main([str(path), str(tmp_path / "out")]) == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["error.json"]
    error = JobError.model_validate_json((tmp_path / "out" / "error.json").read_bytes())
    assert error.code == "method_failed" and re.search(says, error.message, re.DOTALL)


def test_a_broken_method_exits_with_1_as_a_process(built, tmp_path):
    done, out = run_process(job_for(built, tmp_path, {"method.py": BAD["raises"][0]}), tmp_path)
    assert done.returncode == 1 and "no luck" in done.stderr
    assert json.loads((out / "error.json").read_text())["code"] == "method_failed"


def test_only_the_methods_own_frames_are_shown(built, tmp_path):
    source = FIT + "    student.new().fit(task.inputs, [1])\n"
    with pytest.raises(MethodFailed) as caught:
        run_job(job_for(built, tmp_path, {"method.py": source}))
    assert "method.py:2" in str(caught.value) and "train.py" not in str(caught.value)


def test_a_recipe_that_keeps_nothing_fails_with_its_reason(built, tmp_path):
    recipe = Recipe(select=SelectStage(kind="threshold", threshold=0.95))
    labels = tmp_path / "weak_labels.npz"
    weak = np.load(DataRoot(built).public_task("gauss") / "weak_labels.npz")
    flat = np.clip(weak["probs_SN"], 0.45, 0.55)
    np.savez(labels, ids=weak["ids"], seeds=weak["seeds"], probs_SN=flat)
    job = job_for(built, tmp_path, recipe_files(recipe), weak_labels=labels)
    with pytest.raises(MethodFailed, match="keep more"):
        run_job(job)


def test_permuted_labels_are_the_same_labels_in_another_order(built, tmp_path):
    source = "import json, pathlib\n" + CONSTANT.format(
        expression="np.full(len(inputs), 0.5)"
    ).replace(
        "    return P()",
        "    p = pathlib.Path(__file__).parent / f'{seed}.json'\n"
        "    p.write_text(json.dumps(task.weak_labels_N.tolist()))\n    return P()",
    )
    seen = {}
    for ablation in ("none", "permuted"):
        run_job(job_for(built, tmp_path, {"method.py": source}, ablation=ablation))
        seen[ablation] = [
            json.loads((tmp_path / "method" / f"{s}.json").read_text()) for s in (10, 11)
        ]
    for plain, permuted in zip(seen["none"], seen["permuted"], strict=True):
        assert plain != permuted and sorted(plain) == sorted(permuted)


def test_verification_runs_on_hidden_rows_and_fresh_teachers(built, tmp_path):
    vault = DataRoot(built).vault_task("gauss")
    with np.load(vault / "weak_labels.npz") as fresh:
        runs = [SeedPair(teacher_seed=int(fresh["seeds"][0]), seed=1)]
    output = run_job(
        job_for(
            built,
            tmp_path,
            recipe_files(Recipe()),
            runs=runs,
            split="selection",
            eval_inputs=vault / "inputs" / "selection.jsonl",
            weak_labels=vault / "weak_labels.npz",
            features=[vault / "features" / "selection.npz"],
        )
    )
    assert output.split == "selection" and output.ids[0].startswith("selection-")


def test_selection_without_its_rows_is_refused(built, tmp_path):
    with pytest.raises(BadInput, match="eval_inputs"):
        run_job(job_for(built, tmp_path, recipe_files(Recipe()), split="selection"))


def test_named_methods_run_from_a_folder(built, tmp_path):
    output = run_job(job_for(built, tmp_path, named_files("guard_tfidf")))
    assert len(output.runs) == 2
    with pytest.raises(BadInput):
        named_files("a;b")


def test_bad_jobs_are_refused(tmp_path):
    path = tmp_path / "job.json"
    with pytest.raises(BadInput, match="cannot read"):
        read_job(path)
    path.write_text('{"method": "m", "extra": 1}')
    with pytest.raises(BadInput, match="extra"):
        read_job(path)
    assert main([str(path), str(tmp_path / "out")]) == 1
    assert main([]) == 2
