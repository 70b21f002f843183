"""Blind runs that use the strong model: what passes the judge, and what attackers get from it."""

import json
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_task
import verified_run
from student_kit import served

from aarlab.core.delivery import TEMPLATES_ASKED, stamps
from aarlab.core.device_lock import DeviceLock
from aarlab.core.errors import BadInput, Conflict
from aarlab.core.layout import DataRoot
from aarlab.core.wire import VerificationResult
from aarlab.students.server import Serving, StudentServer, running
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.models.cache import FeatureCache, ModelId
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.record import WEIGHTS, read_record
from aarlab.testbed.running.channel import Channel, Message
from aarlab.testbed.settings import TestbedSettings
from aarlab.testbed.students.templates import ASKED, ASKED_CHARACTERS
from aarlab.testbed.tasks.making import Workshop
from aarlab.verify import rerun
from aarlab.verify.basis import Basis
from aarlab.verify.hidden import held_for
from aarlab.verify.judge import Hearing, Holding, Judge, Pair
from aarlab.verify.rerun import most_s
from aarlab.verify.strong import StrongModels

SEEDS = [3]
HEADS, BLOCKS = "heads", "blocks"
QUESTION = "{prompt}\n{answer}\nIs this right?"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """Two tasks on a tiny model: heads, and students of its top block."""
    home = tmp_path_factory.mktemp("asking")
    made = DataRoot(home / "root")
    tiny_task.tiny_pair(made, home / "hf")
    shop = Workshop(
        made, lambda line: None, settings=TestbedSettings(device="cpu", torch_threads=1)
    )
    options = tiny_task.tiny_options().model_copy(update={"require_gap": False})
    plain = options.model_copy(update={"adapter": None, "model": "tiny"})
    with pytest.MonkeyPatch.context() as patch:
        few = dict.fromkeys(("train", "train_hidden", "selection", "search"), 60)
        patch.setattr(tiny_task, "SIZES", tiny_task.SIZES | few)
        shop.build(tiny_task.tiny_data(HEADS), plain)
        shop.build(tiny_task.tiny_data(BLOCKS), options)
    return made


def test_a_re_run_has_more_time_where_its_students_are_large(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student of 4B parameters took up to two hours on an H200, and a re-run trains several."""
    place = held_for(root, BLOCKS, "selection", "secret")[0].place
    assert place is not None
    model = place.model
    assert most_s(None) == 1800 and most_s(model) == 4 * 3600
    record = read_record(model)
    weights = record.files[WEIGHTS].model_copy(update={"n_bytes": 8 * 10**9})
    large = record.model_copy(update={"files": {**record.files, WEIGHTS: weights}})
    monkeypatch.setattr(rerun, "read_record", lambda _model: large)
    assert most_s(model) == 32 * 3600


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of this machine is found, and the model computes as open runs do."""
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("AARLAB_TORCH_THREADS", "1")
    monkeypatch.setenv("AARLAB_DEVICE", "cpu")


@pytest.fixture
def verify(root: DataRoot, tmp_path: Path):
    def run(code: str, task: str = HEADS, basis: Basis = "secret") -> VerificationResult:
        wanted = verified_run.wanted(task, SEEDS)
        return verified_run.verified(root, tmp_path / "run", {"method.py": code}, wanted, basis)

    return run


# ---------------------------------------------------------------- by the whole verifier
@pytest.mark.gate
@pytest.mark.parametrize("task", [HEADS, BLOCKS])
def test_a_method_of_templates_and_texts_is_the_same_blind_and_open(verify, task: str) -> None:
    source = named_files("debate")["method.py"]
    blind, opened = verify(source, task, "plain"), verify("READS_TEXT = True\n" + source, task)
    assert (blind.error, opened.error) == ("", "")
    assert (blind.delivery, opened.delivery) == ("blind", "open")
    assert_same(blind, opened)
    assert blind.evidence.forwarded > 0 and len(blind.evidence.templates) == 3


def assert_same(blind: VerificationResult, opened: VerificationResult) -> None:
    """A batch of other rows, or other instructions of the processor, would change last bits."""
    assert blind.ids == opened.ids
    given, wanted = (np.array([run.probs for run in one.runs]) for one in (blind, opened))
    np.testing.assert_array_equal(given, wanted)


@pytest.mark.parametrize(("name", "value"), [("DTYPE", "float32"), ("BATCH_TOKENS", "64")])
def test_how_a_model_computes_is_set_for_both(
    verify, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"AARLAB_{name}", value)
    source = named_files("ccs")["method.py"]
    assert_same(verify(source, HEADS, "plain"), verify("READS_TEXT = True\n" + source))


MORE = ["critic", "em_posterior_templates", "vanilla"]


@pytest.mark.parametrize("name", ["ccs", *(pytest.param(n, marks=pytest.mark.gate) for n in MORE)])
def test_more_methods_are_the_same_blind_and_open(verify, name: str) -> None:
    source = named_files(name)["method.py"]
    task = BLOCKS if name == "vanilla" else HEADS
    blind, opened = verify(source, task, "plain"), verify("READS_TEXT = True\n" + source, task)
    assert blind.error == ""
    assert_same(blind, opened)


def test_a_verified_run_shows_its_templates_and_can_be_made_again(verify) -> None:
    code = f"""
import numpy as np
class P:
    def __init__(self, student): self.student = student
    def predict_proba(self, rows):
        logp = self.student.zero_shot(self.student.ask(rows, {QUESTION!r}, (" yes", " no")))
        margin = np.asarray(logp.given_prompt_NA, float)
        return 1 / (1 + np.exp(margin[:, 1] - margin[:, 0]))
def fit(task, student, seed):
    rows = student.ask(task.inputs, "{{prompt}} {{answer}}")
    trainer = student.trainer(rows)
    before = trainer.forward(rows)
    kept = trainer.save()
    trainer.perturb(3, 1.0)
    assert not np.array_equal(trainer.forward(rows), before)
    trainer.restore(kept)
    return P(student)
"""
    first = verify(code)
    assert first.error == "" and first.runs == verify(code).runs
    assert first.evidence.templates == ["{prompt} {answer}", f"{QUESTION} ->  yes |  no"]
    wanted = verified_run.wanted(HEADS, SEEDS)
    run = wanted.model_copy(update={"evidence": first.evidence, "delivery": "blind"})
    assert TEMPLATES_ASKED in stamps(run) and first.ships == ""


def test_a_student_server_that_has_the_model_is_used(verify, root, tmp_path, monkeypatch) -> None:
    model = LanguageModel.load(root.models / "tiny", 1)
    cache = FeatureCache([], ModelId("tiny", model.key), None, lambda: model)
    source = named_files("ccs")["method.py"]
    here = verify(source)

    def fails(*_: Any) -> None:
        raise AssertionError("it is loaded here")

    monkeypatch.setattr("aarlab.verify.strong._load", fails)
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(folder / "locks"))
    with served(folder, {"tiny": cache}) as server:
        there = verify(source)
        assert server.queue.used_s("verify/ver_1") > 0
        assert server._clients == {}, "the grant is given back"
    assert there.error == "" and there.runs == here.runs


def test_what_the_model_is_not_asked_blind_is_said(verify) -> None:
    code = """
import json
def said(call):
    try: call()
    except Exception as error: return str(error).partition("\\n")[0]
def fit(task, student, seed):
    import numpy as np
    rows = task.inputs
    asked = student.ask(rows, "{prompt} {answer}")
    text = student.generate(rows, "{prompt}", 1)[0]
    read = student.ask(rows, "{prompt}{text}", texts=[text])
    there = student.new().fit(asked, task.weak_labels_N)
    raise RuntimeError(json.dumps([
        said(lambda: student.language_model()),
        said(lambda: student.states(read)),
        said(lambda: student.zero_shot(read)),
        said(lambda: there.head),
        said(lambda: there.predict_proba(rows)),
        said(lambda: student.new().fit([*rows, *asked], np.ones(2 * len(rows)))),
        said(lambda: student.ask(asked, "{prompt}")),
        said(lambda: student.ask(rows[:3], "{text}", texts=[text])),
        said(lambda: student.ask(rows[1:] + rows[:1], "{text}", texts=[text])),
        said(lambda: student.ask(rows, "{prompt.__class__}")),
    ]))
"""
    said = json.loads(verify(code).error.partition("\n")[0].removeprefix("RuntimeError: "))
    for found, part in zip(
        said,
        (
            "student.generate",
            "train a student on them",
            "train a student on them",
            "stays on the trusted side",
            "a basis of their own",
            "a student learns one kind",
            "not about template rows",
            "meets the rows that it is about",
            "meets the rows that it is about",
            "no field",
        ),
        strict=True,
    ):
        assert part in found


def test_a_task_without_the_model_says_how_to_build_it(tmp_path: Path) -> None:
    from toy_campaign import build_toy

    toy = build_toy(tmp_path / "toy")
    wanted = verified_run.wanted("gauss", SEEDS)
    result = verified_run.verified(toy, tmp_path / "run", named_files("ccs"), wanted)
    assert result.delivery == "blind" and "--with-model" in result.error


def test_own_code_that_asks_by_templates_ranks_only_once_it_was_read(verify) -> None:
    """Examples with answers in a template are labels of its author's."""
    shots = "".join(f"Question {n}: the sum of {n} and 3 harbour. Right.\n" for n in range(40))
    code = f"""
import numpy as np
class P:
    def predict_proba(self, rows): return np.full(len(rows), .5)
def fit(task, student, seed):
    student.zero_shot(student.ask(task.inputs, {shots!r} + "{{prompt}} {{answer}}"))
    return P()
"""
    result = verify(code)
    assert (result.error, result.asked) == ("", "log-likelihoods, answers to templates")
    assert result.evidence.templates == [shots + "{prompt} {answer}"]


# ---------------------------------------------------------------- the judge and a scripted peer
class Peer:
    """A method's process that sends what it likes; every answer is kept."""

    def __init__(self, end: socket.socket) -> None:
        self.channel, self.heard = Channel(end, 2**31), list[Message]()
        self.task = self.receive()
        self.n = len(self.task.arrays["ids"])

    def receive(self) -> Message:
        self.heard.append(self.channel.receive())
        return self.heard[-1]

    def ask(self, kind: str, facts: dict[str, Any] | None = None, **arrays: Any) -> Message:
        self.channel.send(kind, facts, **arrays)
        return self.receive()

    def rows(self, places: Any = None, delivery: int = 0) -> dict[str, Any]:
        places = np.arange(self.n, dtype=np.int32) if places is None else np.int32(places)
        return {
            "deliveries": np.full(len(places), delivery, np.int32),
            "rows": places,
            "swapped": np.zeros(len(places), bool),
        }

    def template(self, text: str, words: list[str] | None = None) -> Message:
        facts = {"template": text, "words": words, "asked_swapped": False, "texts": []}
        return self.ask("ask", facts, **self.rows())


Talk = Callable[[Peer], None]


@pytest.fixture(scope="module")
def held(root: DataRoot) -> Holding:
    return held_for(root, HEADS, "selection", "secret")[0]


@pytest.fixture(scope="module")
def models() -> StrongModels:
    return StrongModels()


@pytest.fixture
def heard(held: Holding, models: StrongModels) -> Iterator[Callable[..., tuple[Hearing, Peer]]]:
    def hear(talk: Talk, seed: int = 0, basis: Basis = "secret") -> tuple[Hearing, Peer]:
        ours, theirs = socket.socketpair()
        for_model = held.for_model
        assert for_model is not None
        pair = Pair(held.labels.seeds[0], seed, "none")
        with models.of(for_model, for_model.grant("v", "s")) as strong:
            shown = replace(held, basis=basis)
            hearing = Hearing(Judge(shown, pair, Channel(ours, 2**23), strong))
            thread = threading.Thread(target=hearing.work)
            thread.start()
            peer = Peer(theirs)
            try:
                talk(peer)
            finally:
                theirs.close()
                thread.join(60)
        assert not thread.is_alive()
        return hearing, peer

    yield hear


def refused(heard: Any, talk: Talk) -> str:
    hearing, _ = heard(talk)
    return str(hearing.error)


def test_rows_of_another_delivery_or_of_none_are_refused(heard) -> None:
    def rows_of(delivery: int, places: Any) -> Talk:
        facts = {"template": "{prompt}", "words": None, "asked_swapped": False, "texts": []}

        def talk(peer: Peer) -> None:
            peer.channel.send("ask", facts, **peer.rows(places, delivery))

        return talk

    assert "no open delivery" in refused(heard, rows_of(1, [0]))
    assert "were not delivered" in refused(heard, rows_of(0, [4000]))
    assert "were not delivered" in refused(heard, rows_of(0, [-1]))


def test_handles_of_an_answered_delivery_end_with_it(heard) -> None:
    def talk(peer: Peer) -> None:
        peer.channel.send("fitted")
        predict = peer.receive()
        number, n = predict.facts["delivery"], len(predict.arrays["ids"])
        facts = {"template": "{prompt}", "words": None, "asked_swapped": False}
        rows = peer.rows(np.arange(n), number)
        made = peer.ask("ask", facts | {"texts": []}, **rows)
        text = peer.ask("generate", facts | {"n": 1, "options": {"max_new": 2}}, **rows)
        assert made.kind == "ok" and text.kind == "ok"
        again = peer.ask("states", {"delivery": made.facts["delivery"], "layer": 3})
        assert again.arrays["states"].shape[0] == 2 * n
        peer.channel.send("probs", probs=np.full(n, 0.5))
        after = peer.receive()
        other, m = after.facts["delivery"], len(after.arrays["ids"])
        assert not set(after.arrays["keys"].ravel()) & set(made.arrays["keys"].ravel())
        cross = facts | {"texts": text.facts["handles"], "template": "{text}"}
        said = peer.ask("ask", cross, **peer.rows(np.arange(m), other))
        assert said.kind == "error" and "meets the rows" in said.facts["message"]
        peer.channel.send("states", {"delivery": made.facts["delivery"], "layer": 3})

    assert "no open delivery" in refused(heard, talk)


FLOODS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "no rows": ("ask", {"template": "{prompt}"}, {}, "named no rows"),
    "rows of another form": (
        "fit", {}, {"deliveries": np.zeros(1), "rows": np.zeros(1, np.int32),
                    "swapped": np.zeros(1, bool)}, "in another form",
    ),
    "a template that is a list": (
        "ask", {"template": ["{prompt}"]}, {"rows": [0]}, "a template of another form",
    ),
    "a call of the operator": ("withdraw", {"name": "v"}, {}, "where 'fitted' was due"),
    "texts of its own": ("put", {"n_answers": 1}, {}, "where 'fitted' was due"),
    "weights": ("head", {"handle": 1}, {}, "where 'fitted' was due"),
    "names in free": ("new", {"free": "all"}, {}, "other than a list of handles"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
def test_a_message_that_no_honest_client_sends_ends_the_run(heard, name: str) -> None:
    kind, facts, arrays, said = FLOODS[name]

    def talk(peer: Peer) -> None:
        given = peer.rows(arrays["rows"]) if isinstance(arrays.get("rows"), list) else arrays
        peer.channel.send(kind, facts, **given)

    assert said in refused(heard, talk)


def test_what_is_too_much_is_said_and_the_run_goes_on(heard) -> None:
    def talk(peer: Peer) -> None:
        for n in range(ASKED):
            assert peer.template(f"{n} {{prompt}}").kind == "ok"
        assert peer.template("0 {prompt}").kind == "ok", "the same one counts once"
        said = peer.template("one more {prompt}")
        assert said.kind == "error" and f"{ASKED} different" in said.facts["message"]
        many = peer.rows(np.zeros(100_001))
        facts = {"template": "0 {prompt}", "words": None, "asked_swapped": False, "texts": []}
        assert "at once" in peer.ask("ask", facts, **many).facts["message"]
        for _ in range(600):
            said = peer.template("0 {prompt}")
        assert said.kind == "error" and "drop" in said.facts["message"]

    hearing, _ = heard(talk)
    assert hearing.error is None


def test_long_words_and_long_templates_count(heard) -> None:
    def talk(peer: Peer) -> None:
        assert peer.template("{prompt}" + "x" * 3900).kind == "ok"
        said = peer.template("{prompt}" + "y" * 3900)
        assert said.kind == "error" and f"{ASKED_CHARACTERS:,}" in said.facts["message"]

    heard(talk)


def test_no_answer_holds_a_text_a_label_or_a_name_of_a_row(heard, held: Holding) -> None:
    """Errors of every call, on rows of every kind; bodies, too."""

    def talk(peer: Peer) -> None:
        made = peer.template(QUESTION)
        facts = {"layer": 3, "adapter": None, "options": {}}
        student = peer.ask("new", facts).facts["handle"]
        asked = peer.rows(np.arange(peer.n), made.facts["delivery"])
        for targets in (np.full(peer.n, 2.0), np.full(3, 0.5), np.full(peer.n, np.nan)):
            said = peer.ask("fit", {"handle": student}, **asked, targets=targets)
            assert said.kind == "error"
        for kind in ("fit", "go_on", "predict", "forward", "backward", "step", "save", "restore"):
            for handle in (student, 10**6, "x", None):
                facts = {"handle": handle, "saved": handle, "lr": "x", "options": {"seed": -1}}
                assert peer.ask(kind, facts, **peer.rows()).kind == "error"
        for facts in ({"n": 0}, {"n": 10**9}, {"n": 1, "options": {"max_new": 10**6}}):
            more = {"template": "{prompt}", "words": None, "asked_swapped": False}
            assert peer.ask("generate", facts | more, **peer.rows()).kind == "error"
        for layer in (99, -1):
            said = peer.ask("states", {"delivery": made.facts["delivery"], "layer": layer})
            assert said.kind == "error"
        said = peer.ask("tune", {"options": {"span": [0, 99]}}, **peer.rows())
        assert said.kind == "error"

    _, peer = heard(talk)
    said = json.dumps([[m.kind, m.facts] for m in peer.heard[1:]])
    rows = (*held.rows, *held.train)
    for text in {t for row in rows for t in (row.prompt, *row.answers, row.id, row.group)}:
        assert text not in said
    assert "sum of" not in said and "harbour" not in said
    bodies = b"".join(a.tobytes() for m in peer.heard for a in m.arrays.values())
    assert b"harbour" not in bodies and b"What is" not in bodies


def test_words_guessed_after_a_text_give_two_levels_and_end(heard, held: Holding) -> None:
    """The answer's digits, guessed two at a time: what an echo is worth (see the threat model)."""
    levels = list[int]()

    def talk(peer: Peer) -> None:
        for n in range(0, 2 * ASKED, 2):
            made = peer.template("Say again: {answer}\nthe sum of", [f" {n}", f" {n + 1}"])
            logp = peer.ask("logp", {"delivery": made.facts["delivery"]}).arrays["logp"]
            margin = (logp[:, 0] - logp[:, 1]).reshape(-1, 2)
            half = margin[:, 0] - margin[:, 1]
            levels.append(len(set(np.round(half / half.std(), 1))))
        assert peer.template("Say again: {answer}", [" 98", " 99"]).kind == "error"

    heard(talk)
    assert levels == [2] * ASKED


def test_known_seeds_make_no_known_weights(heard) -> None:
    """The same seed moves the weights of two runs apart, and begins them apart."""
    found: list[Any] = []

    def talk(peer: Peer) -> None:
        facts = {"layer": 3, "adapter": None, "options": {"hidden": 8, "seed": 5, "batch": 4096}}
        block = peer.template("{prompt}{answer}").facts["delivery"]
        rows = peer.rows(np.arange(peer.n), block)
        student = peer.ask("new", facts).facts["handle"]
        assert peer.ask("fit", {"handle": student}, **rows, targets=np.ones(peer.n)).kind == "ok"
        begun = peer.ask("predict", {"handle": student}, **rows).arrays["probs"]
        trainer = peer.ask("trainer", facts, **rows).facts["handle"]
        peer.ask("perturb", {"handle": trainer, "seed": 1, "scale": 1.0})
        moved = peer.ask("forward", {"handle": trainer}, **rows).arrays["logits"]
        found.append((np.sort(begun), np.sort(moved)))

    for seed in (0, 0, 1):
        heard(talk, seed)
    one, again, other = found
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    for mine, others in zip(one, other, strict=True):
        assert not np.allclose(mine, others, atol=1e-3)


def test_a_message_without_a_seed_makes_no_known_weights_either(heard) -> None:
    """A seed of 0 that the server fills in would give each run the same hidden layer."""
    found: list[Any] = []

    def talk(peer: Peer) -> None:
        facts = {"layer": 3, "adapter": None, "options": {"hidden": 8, "batch": 4096}}
        trainer = peer.ask("trainer", facts, **peer.rows()).facts["handle"]
        peer.ask("forward", {"handle": trainer}, **peer.rows())
        peer.ask("backward", {"handle": trainer}, grad=np.ones(peer.n, np.float32))
        peer.ask("step", {"handle": trainer, "lr": 0.1})  # each unit counts with one sign
        moved = peer.ask("forward", {"handle": trainer}, **peer.rows()).arrays["logits"]
        found.append(np.sort(moved))

    for seed in (0, 1):
        heard(talk, seed)
    assert not np.allclose(*found, atol=1e-3)


def test_log_odds_by_a_student_of_label_tokens_are_recorded_as_log_likelihoods(verify) -> None:
    """A student that has learned nothing says what the model makes of each row, not rounded."""
    code = """
import numpy as np
from dataclasses import replace
from aarlab.testbed.students.options import AdapterOptions
class P:
    def __init__(self, trainer): self.trainer = trainer
    def predict_proba(self, rows):
        return 1 / (1 + np.exp(-np.asarray(self.trainer.forward(rows), float)))
def fit(task, student, seed):
    asked = replace(student, adapter=AdapterOptions(blocks=1, rank=1, readout=READOUT))
    trainer = asked.trainer(task.inputs)
    assert len(set(trainer.forward(task.inputs).tolist())) > 9 or READOUT == "mean"
    return P(trainer)
"""
    labels, mean = (verify(code.replace("READOUT", repr(kind))) for kind in ("labels", "mean"))
    assert (labels.error, labels.asked) == ("", "log-likelihoods")
    assert (mean.error, mean.asked) == ("", "")


def test_a_run_holds_no_more_of_templates_than_a_machine_has(heard) -> None:
    """Copies of rows in long templates were limited only by all that a client may hold, 16 GB."""
    said: list[str] = []

    def talk(peer: Peer) -> None:
        facts = {"template": "x" * 3000 + "{prompt}", "words": None, "asked_swapped": False}
        places = peer.rows(np.zeros(15_000))
        handles = list[int]()
        for _ in range(12):
            answer = peer.ask("ask", {**facts, "texts": []}, **places)
            if answer.kind == "error":
                said.append(answer.facts["message"])
                break
            handles.append(answer.facts["handle"])
        again = peer.ask("ask", {**facts, "texts": [], "free": handles}, **places)
        assert again.kind == "ok", "what was dropped counts no more"

    heard(talk)
    assert said and "drop those that are done with" in said[0]


def test_each_template_and_run_has_a_basis_of_its_own(heard) -> None:
    """Known states of one template's rows fit no other's, nor those of another seed.

    Without whitening, so that states of nearly the same texts would be nearly the same.
    """
    found = dict[tuple[int, str], np.ndarray]()

    def talk_of(seed: int) -> Talk:
        def talk(peer: Peer) -> None:
            for text in ("{prompt} {answer}", "{prompt} {answer} "):
                delivery = peer.template(text).facts["delivery"]
                for _ in range(2):
                    answer = peer.ask("states", {"delivery": delivery, "layer": 3})
                    states = answer.arrays["states"][::2]
                    before = found.setdefault((seed, text), states)
                    assert np.array_equal(before, states), "asked again, the same noise"

        return talk

    for seed in (0, 1):
        heard(talk_of(seed), seed)
    lengths = [np.linalg.norm(states, axis=1) for states in found.values()]
    assert all(np.allclose(one, one[0], rtol=1e-4) for one in lengths)
    for basis, least, most in (("plain", 0.6, 1.01), ("turned", -0.4, 0.4)):
        found.clear()
        heard(talk_of(0), 0, basis)
        one, other = found.values()
        cosines = (one * other).sum(1)
        cosines /= np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        assert least < cosines.mean() < most, basis


def test_a_server_that_ends_in_the_middle_is_not_the_methods_fault(
    held: Holding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: DataRoot
) -> None:
    model = LanguageModel.load(root.models / "tiny", 1)
    cache = FeatureCache([], ModelId("tiny", model.key), None, lambda: model)
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(tmp_path / "locks"))
    for_model = held.for_model
    assert for_model is not None
    pair = Pair(held.labels.seeds[0], 0, "none")
    ours, theirs = socket.socketpair()
    with (
        served(tmp_path, {"tiny": cache}) as server,
        StrongModels().of(for_model, for_model.grant("v", "s")) as strong,
    ):
        hearing = Hearing(Judge(held, pair, Channel(ours, 2**23), strong))
        thread = threading.Thread(target=hearing.work)
        thread.start()
        peer = Peer(theirs)
        assert peer.template("{prompt}").kind == "ok"
        server.stop()
        peer.channel.send("new", {"layer": 3, "adapter": None, "options": {}})
        thread.join(60)
        theirs.close()
    assert hearing.is_lost and "student server" in str(hearing.error)


# ---------------------------------------------------------------- the lock on a device
GPU = "cuda-test"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> DeviceLock:
    """The lock on a device that models are loaded on; it is the CPU under another name."""
    monkeypatch.setattr("aarlab.verify.strong._device", lambda: GPU)
    return DeviceLock(tmp_path / "locks", GPU)


def always() -> bool:
    return True


def test_a_model_that_is_loaded_here_has_the_device_until_the_last_re_run_ends(
    held: Holding, gpu: DeviceLock, tmp_path: Path
) -> None:
    models, for_model = StrongModels(), held.for_model
    assert for_model is not None
    with models.of(for_model, for_model.grant("one", "s")) as one:
        assert not gpu.is_held, "no method has asked for the model"
        one.find(always)
        assert len(one.features(None, [np.int32([2, 3]), np.int32([0, 1])]).states([], 3)) == 4
        with models.of(for_model, for_model.grant("other", "s")) as other:
            other.find(always)
            (loaded,) = map(weakref.ref, models._loaded.values())
            server = StudentServer(Serving(tmp_path / "s", tmp_path / "locks", GPU), {})
            with pytest.raises(Conflict, match=r"a verifier \(process \d+\) has this device"):
                server.start()
            assert running(tmp_path / "locks") == [], "a verifier serves nobody"
        assert gpu.is_held and loaded() is not None
    assert not gpu.is_held and loaded() is None


def test_a_re_run_waits_for_the_device_of_another(
    held: Holding, gpu: DeviceLock, caplog: pytest.LogCaptureFixture
) -> None:
    models, for_model = StrongModels(), held.for_model
    assert for_model is not None
    gpu.take({"pid": 1, "socket": "/nowhere"})
    with models.of(for_model, for_model.grant("one", "s")) as strong:
        thread = threading.Thread(target=strong.find, args=(always,))
        thread.start()
        until(lambda: "waits for the device" in caplog.text)
        assert thread.is_alive() and not models._loaded
        gpu.give()
        thread.join(60)
        assert gpu.is_held and models._loaded


def test_a_re_run_that_ends_waits_no_longer(
    held: Holding, gpu: DeviceLock, caplog: pytest.LogCaptureFixture
) -> None:
    models, for_model = StrongModels(), held.for_model
    assert for_model is not None
    gpu.take({"pid": 1, "socket": "/nowhere"})
    pair, (ours, theirs) = Pair(held.labels.seeds[0], 0, "none"), socket.socketpair()
    with models.of(for_model, for_model.grant("one", "s")) as strong:
        hearing = Hearing(Judge(held, pair, Channel(ours, 2**23), strong))
        thread = threading.Thread(target=hearing.work)
        thread.start()
        peer = Peer(theirs)
        peer.channel.send("states", {"delivery": 0, "layer": 3})
        until(lambda: "waits for the device" in caplog.text)
        hearing.end()
        thread.join(60)
    theirs.close()
    gpu.give()
    assert not thread.is_alive() and hearing.seen is None and not models._loaded


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_grant_needs_rows_of_one_kind(held: Holding) -> None:
    for_model = held.for_model
    assert for_model is not None
    pair = replace(held.rows[0], answers=("a", "b"))
    with pytest.raises(BadInput, match="rows of one kind"):
        replace(for_model, rows=[held.rows[0], pair]).grant("v", "s")
