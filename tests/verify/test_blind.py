"""Verified runs without texts: what the method's process gets, what it cannot get, what is seen."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import verified_run
from toy_campaign import build_toy

from aarlab.core.errors import TextsWithheld
from aarlab.core.layout import DataRoot
from aarlab.core.types import BlindRow
from aarlab.core.wire import Predictions, VerificationResult
from aarlab.testbed.methods import METHODS
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.recipes.recipe import recipe_from
from aarlab.testbed.running.frozen_method import is_built_in, reads_texts
from aarlab.testbed.running.method_folder import recipe_files
from aarlab.testbed.tasks.material import run_secret
from aarlab.verify.basis import Basis, secret_basis
from aarlab.verify.hidden import held_for

SEEDS = [3, 4]
HEAD = "import json, os, sys\nimport numpy as np\nfrom aarlab.testbed.methods import METHODS\n"
# Says what it found as its error message: the one thing that a method can say.
TELLS = HEAD + "def fit(task, student, seed):\n    raise RuntimeError(json.dumps(look(task)))\n"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    return build_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def verify(toy: DataRoot, tmp_path: Path):
    def run(
        code: str | dict[str, str],
        basis: Basis = "secret",
        ablation: str = "none",
        seeds: Sequence[int] = SEEDS,
    ) -> VerificationResult:
        files = {"method.py": code} if isinstance(code, str) else code
        wanted = verified_run.wanted("gauss", seeds, ablation)
        return verified_run.verified(toy, tmp_path / "run", files, wanted, basis)

    return run


@pytest.fixture
def verify_once(verify):
    """Verified runs of one seed, for what one says as well as two."""
    return partial(verify, seeds=SEEDS[:1])


def told(result: VerificationResult) -> Any:
    first = result.error.partition("\n")[0]
    return json.loads(first.removeprefix("RuntimeError: "))


def test_blind_gives_the_same_predictions_as_open_to_the_bit(verify) -> None:
    plain = named_files("vanilla")["method.py"]
    blind, opened = verify(plain, "plain"), verify("READS_TEXT = True\n" + plain)
    assert (blind.delivery, opened.delivery) == ("blind", "open")
    assert opened.open_because == "the method says READS_TEXT = True" and not blind.open_because
    assert blind.runs == opened.runs and blind.ids == opened.ids
    assert blind.evidence.changed == opened.evidence.changed
    assert blind.evidence.style == opened.evidence.style


def test_a_recipe_of_all_teachers_runs_blind_as_it_runs_open(verify) -> None:
    recipe = recipe_from(
        {
            "label": {"source": "teachers"},
            "select": {"kind": "overlap", "k": 20},
            "train": {"rounds": 1, "epochs": 3},
        }
    )
    files = recipe_files(recipe)
    blind = verify(files, "plain")
    opened = verify(files | {"method.py": "READS_TEXT = True\n" + files["method.py"]})
    assert (blind.error, blind.delivery, opened.delivery) == ("", "blind", "open")
    assert blind.runs == opened.runs and len(blind.runs) == len(SEEDS)


def test_a_run_can_be_made_again_and_another_secret_gives_another(verify, toy: DataRoot) -> None:
    plain = named_files("vanilla")["method.py"]
    first = verify(plain)
    assert verify(plain).runs == first.runs
    path = toy.path / "private" / "verify.secret"
    kept = path.read_bytes()
    try:
        path.unlink()
        assert verify(plain).runs != first.runs
        assert path.stat().st_mode & 0o777 == 0o600 and len(run_secret(toy)) == 32
    finally:
        path.write_bytes(kept)


@pytest.mark.parametrize(
    "expression",
    ["row.prompt", "row.answers", "row.answers[0]", "len(row.prompt)", "dataclasses.asdict(row)"],
)
def test_reading_a_text_says_what_to_do_and_where(verify, expression: str) -> None:
    code = "import dataclasses\ndef fit(task, student, seed):\n"
    code += f"    return [{expression} for row in task.inputs]\n"
    result = verify(code)
    assert "a verified run holds no texts" in result.error and "READS_TEXT = True" in result.error
    assert f"method.py:3 in fit: return [{expression}" in result.error
    assert result.runs == [] and result.delivery == "blind"


def test_a_text_that_is_asked_for_in_predict_fails_there(verify) -> None:
    code = (
        "class P:\n    def predict_proba(self, inputs):\n"
        "        return [len(r.prompt) for r in inputs]\n"
        "def fit(task, student, seed):\n    return P()\n"
    )
    assert "method.py:3 in predict_proba" in verify(code).error


def test_no_file_of_the_task_and_no_generator_is_in_the_sandbox(verify, toy: DataRoot) -> None:
    look = """
def look(task):
    import aarlab.testbed as testbed
    files = []
    for top in ("/public", "/model", "/workspace", "/tmp", "/run", "/dev/shm"):
        for place, _, names in os.walk(top):
            files += [os.path.join(place, name) for name in names]
    generators = os.path.join(os.path.dirname(testbed.__file__), "tasks", "generators")
    try:
        import aarlab.testbed.tasks.generators.math_problems
        imported = True
    except ImportError:
        imported = False
    return {"files": files, "generators": os.listdir(generators), "imported": imported,
            "argv": sys.argv[:1] + [a for a in sys.argv[1:] if not a.isdigit()]}
"""
    found = told(verify(TELLS + look))
    assert found["files"] == ["/workspace/method/method.py"]
    assert found["generators"] == [] and found["imported"] is False
    assert found["argv"][1:] == ["/workspace/method"]


def test_a_seed_loads_little_and_collects_garbage(verify) -> None:
    """Each seed has a process of its own, so what it loads is paid for each."""
    look = """
def look(task):
    import gc
    heavy = {"torch", "scipy", "sqlalchemy", "fastapi", "psutil", "threadpoolctl", "asyncio"}
    return {"heavy": sorted(heavy & set(sys.modules)), "collects": gc.isenabled(),
            "kept apart": gc.get_freeze_count() > 10_000}
"""
    found = told(verify(TELLS + look))
    assert found == {"heavy": [], "collects": True, "kept apart": True}


def test_frames_hold_no_text_label_or_ablation(verify, toy: DataRoot) -> None:
    """Everything that can be reached from the runner's frames and the garbage collector."""
    look = """
def look(task):
    import gc
    words, frame = [], sys._getframe()
    while frame is not None:
        words += [repr(value)[:3000] for value in frame.f_locals.values()]
        frame = frame.f_back
    words += [o[:3000] for o in gc.get_objects() if isinstance(o, str)]
    words += [repr(o)[:3000] for o in gc.get_objects() if isinstance(o, (dict, tuple, list))]
    text = "\\n".join(words)
    kinds = {"question": "question_train", "first": "_first_0.", "ids": "selection-_1",
             "groups": "train-_g1"}
    held = {name: text.count(word.replace("_", " ").replace("- ", "-"))
            for name, word in kinds.items()}
    return {"held": held, "ablation": "permuted" in repr(sys.argv)}
"""
    rows = held_for(toy, "gauss", "selection", "secret")[0].rows
    assert "question " in rows[0].prompt and " first 0." in rows[0].answers[0]
    nothing = dict.fromkeys(("question", "first", "ids", "groups"), 0)
    found = told(verify(TELLS + look, ablation="permuted"))
    assert found == {"held": nothing, "ablation": False}
    opened = told(verify("READS_TEXT = True\n" + TELLS + look))
    assert opened["held"]["question"] > 0 and opened["held"]["groups"] > 0


def test_rows_to_predict_have_no_group_and_new_names_at_each_delivery(verify) -> None:
    code = (
        HEAD
        + """
class P:
    seen, groups = set(), set()
    def predict_proba(self, inputs):
        names = {r.id for r in inputs} | {k for r in inputs for k in r.keys}
        again = len(names & self.seen)
        self.seen |= names
        self.groups |= {r.group for r in inputs}
        if len(self.seen) > 3500:
            raise RuntimeError(json.dumps({"again": again, "groups": sorted(self.groups)}))
        return np.full(len(inputs), .5)
def fit(task, student, seed):
    p = P()
    p.seen |= {r.id for r in task.inputs}
    return p
"""
    )
    assert told(verify(code)) == {"again": 0, "groups": [""]}


def test_each_seed_is_a_process_and_a_folder_of_its_own(verify) -> None:
    code = (
        HEAD
        + """
class P:
    def predict_proba(self, inputs): return np.full(len(inputs), .5)
def fit(task, student, seed):
    for place in ("/workspace/kept", "/tmp/kept", "/dev/shm/kept"):
        if os.path.exists(place):
            raise RuntimeError(place)
        open(place, "w").close()
    return P()
"""
    )
    result = verify(code)
    assert result.error == "" and len(result.runs) == len(SEEDS)


def test_two_seeds_at_a_time_give_what_one_at_a_time_gives(toy: DataRoot, tmp_path: Path) -> None:
    run = verified_run.wanted("gauss", [3, 4, 5])
    files = named_files("vanilla")
    one, two = (
        verified_run.verified(toy, tmp_path / str(n), files, run, at_once=n) for n in (1, 2)
    )
    assert one.error == "" and one.runs == two.runs
    assert one.evidence == two.evidence
    fails = {"method.py": "def fit(task, student, seed):\n    raise RuntimeError(f'seed {seed}')\n"}
    result = verified_run.verified(toy, tmp_path / "f", fails, run, at_once=2)
    assert result.error.startswith("RuntimeError: seed 3") and result.runs == []


def test_what_asks_which_answers_agree_is_recorded(verify_once) -> None:
    assert verify_once(named_files("icm")["method.py"]).evidence.answer_equality is True
    assert verify_once(named_files("vanilla")["method.py"]).evidence.answer_equality is False


def test_own_code_that_asks_beyond_states_is_named_and_the_platforms_own_is_not(
    verify_once,
) -> None:
    """No basis hides log-likelihoods: a formula of a few numbers, fitted elsewhere, fits them."""
    asks = HEAD + (
        "def fit(task, student, seed):\n    student.zero_shot(task.inputs)\n"
        '    return METHODS["vanilla"].fit(task, student, seed)\n'
    )
    result = verify_once(asks)
    assert (result.error, result.asked) == ("", "log-likelihoods")
    assert result.evidence.log_likelihoods is True
    own = {**named_files("icm"), "more.py": ""}
    assert verify_once(own).asked == "which answers agree"
    assert verify_once(named_files("icm")).asked == "", "a built-in method ships no formula"
    zero_shot = recipe_files(recipe_from({"predict": {"kind": "zero_shot"}}), "any title")
    result = verify_once(zero_shot)
    assert (result.asked, result.evidence.log_likelihoods) == ("", True)
    assert verify_once(HEAD + 'fit = METHODS["vanilla"].fit\n').asked == "", "states alone"


@pytest.mark.parametrize(
    "change",
    [
        {"method.py": b"\nTHRESHOLD = 0.4\n"}, {"more.py": b""}, {"recipe.json": b"{"},
        {"method.py": b"\xff"},
    ],
)  # fmt: skip
def test_code_with_anything_of_its_own_is_not_the_platforms(change: dict[str, bytes]) -> None:
    files = {path: text.encode() for path, text in recipe_files(recipe_from({})).items()}
    assert is_built_in(files)
    assert not is_built_in(files | {path: files.get(path, b"") + b for path, b in change.items()})


def test_the_judge_counts_what_the_strong_model_was_asked(verify_once, toy: DataRoot) -> None:
    asks = (
        HEAD
        + """
class P:
    def predict_proba(self, inputs): return np.full(len(inputs), .5)
def fit(task, student, seed):
    student.states(task.inputs)
    student.compute.rows_forwarded = 10 ** 9
    return P()
"""
    )
    result = verify_once(asks)
    n_train = len(held_for(toy, "gauss", "selection", "secret")[0].train)
    assert result.error == "" and result.evidence.forwarded == n_train


def test_a_method_that_ends_its_process_fails_with_what_is_known(verify) -> None:
    code = "import os\ndef fit(task, student, seed):\n    os._exit(3)\n"
    assert "it left no predictions (exit code 3)" in verify(code).error


def test_an_ablation_replaces_every_copy_of_the_labels(verify, toy: DataRoot) -> None:
    look = """
def look(task):
    labels_SN = task.teacher_labels_SN.round(6)
    return {"first": labels_SN[:, :20].tolist(), "sums": labels_SN.sum(axis=1).tolist()}
"""
    plain, permuted = (told(verify(TELLS + look, "plain", kind)) for kind in ("none", "permuted"))
    assert np.allclose(plain["sums"], permuted["sums"])
    assert (np.array(plain["first"]) != np.array(permuted["first"])).any(axis=1).all()


def test_log_likelihoods_are_rounded_but_where_runs_are_compared(verify_once) -> None:
    code = (
        HEAD
        + """
def fit(task, student, seed):
    logp = student.zero_shot(task.inputs)
    pmi = np.asarray(logp.given_prompt_NA, float) - logp.alone_NA
    pmi = pmi[:, 0] - pmi[:, 1] if pmi.shape[1] == 2 else pmi[:, 0]
    raise RuntimeError(json.dumps(len(set(np.round(pmi / pmi.std(), 1)))))
"""
    )
    coarse, exact = told(verify_once(code)), told(verify_once(code, "plain"))
    assert coarse <= 14 < 20 < exact


def test_a_result_says_what_the_snapshot_ships(verify_once) -> None:
    plain = named_files("vanilla")["method.py"]
    assert verify_once(plain).ships == ""
    result = verify_once(
        {"method.py": plain, "head.json": json.dumps([0.5 + n for n in range(576)])}
    )
    assert result.error == "" and result.delivery == "blind"
    assert result.ships.startswith("more than logic needs of numbers (a head has 576)")


def test_a_basis_is_orthogonal_and_hides_the_coordinates() -> None:
    basis_DD = secret_basis(64, np.random.default_rng(1)).astype(float)
    assert np.allclose(basis_DD @ basis_DD.T, np.eye(64), atol=1e-5)
    states_ND = np.random.default_rng(2).normal(size=(2000, 64)) * np.linspace(3, 0.1, 64)
    weights_D = np.random.default_rng(3).normal(size=64)
    own_N, other_N = states_ND @ weights_D > 0, states_ND @ basis_DD @ weights_D > 0
    assert 0.4 < (own_N == other_N).mean() < 0.6
    distances = np.linalg.norm(states_ND[:50, None] - states_ND[None, :50], axis=2)
    turned_ND = states_ND @ basis_DD
    kept = np.linalg.norm(turned_ND[:50, None] - turned_ND[None, :50], axis=2)
    assert np.allclose(distances, kept, atol=1e-4), "what honest methods use is kept"


def test_blind_rows_compare_swap_and_travel_without_texts() -> None:
    row, other = BlindRow("a", "g", ("k1", "k2")), BlindRow("a", "g", ("k1", "k2"))
    assert row == other and len({row, other}) == 1 and row.kind == "preference"
    assert row.swapped().keys == ("k2", "k1") and "k1" not in repr(row)
    with pytest.raises(TextsWithheld, match=r"row\.prompt"):
        row.prompt  # noqa: B018


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("READS_TEXT = True\n", True),
        ("READS_TEXT: bool = True\n", True),
        ("READS_TEXT = False\n", False),
        ("READS_TEXT = True\nREADS_TEXT = False\n", False),
        ("READS_TEXT = 1\n", False),
        ("READS_TEXT = not False\n", False),
        ("if 1:\n    READS_TEXT = True\n", False),
        ("# READS_TEXT = True\n", False),
        ("def f(:\n", False),
    ],
)
def test_only_a_plain_statement_opens_a_run(code: str, says: bool) -> None:
    assert reads_texts({"method.py": code.encode()}) is says


def test_built_in_methods_that_read_texts_say_so() -> None:
    said = {name for name in METHODS if "READS_TEXT" in named_files(name)["method.py"]}
    assert {"guard_majority", "guard_length", "guard_tfidf", "critic_grpo"} <= said
    assert not said & {
        "vanilla",
        "icm",
        "critic",
        "debate",
        "ccs",
        "ue_zero_shot",
        "truth_mean",
        "em_posterior",
    }


def test_predictions_come_back_in_the_order_of_the_rows(verify, toy: DataRoot) -> None:
    """A predictor that goes by the states alone answers each row with its own answer."""
    result = verify(named_files("truth_mean")["method.py"])
    again = verify(named_files("truth_mean")["method.py"], "plain")
    found = np.array([Predictions(r.ids, r.runs).runs[0].probs for r in (result, again)])
    assert ((found[0] > 0.5) == (found[1] > 0.5)).mean() > 0.75
