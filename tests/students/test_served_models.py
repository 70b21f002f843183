"""What needs the model: adaptations, templates, generated texts and trainers, over the socket."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from student_kit import admitted, client_of, served
from tiny_task import HEAD, word_rows

from aarlab.core.errors import BadInput, BudgetExhausted, MethodFailed, NotFound
from aarlab.students.client import Client
from aarlab.students.grants import Grant, Limits
from aarlab.students.queue import DeviceQueue
from aarlab.testbed.methods import METHODS
from aarlab.testbed.models.answers import QUESTIONS, verdict_row
from aarlab.testbed.models.cache import FeatureCache, ModelId
from aarlab.testbed.models.generate import generate
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.students.options import (
    AdapterOptions,
    GenerateOptions,
    HeadOptions,
    LmOptions,
)
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.templates import Template
from aarlab.testbed.students.train import expit
from aarlab.testbed.students.trainer import trainer_of
from aarlab.testbed.tasks.train_task import StudentSettings, TrainTask

LAYER = 3
ADAPTERS = {
    "probe": None,
    "top_blocks": AdapterOptions(kind="top_blocks", blocks=1, rank=4, alpha=8.0),
    "lora": AdapterOptions(kind="lora", rank=2),
    "full": AdapterOptions(kind="full"),
    "labels": AdapterOptions(kind="lora", rank=2, readout="labels"),
}
TRAIN, TRAIN_N = word_rows(32, "train")
TEST, _ = word_rows(16, "search")
TEMPLATE = "{prompt}\n{answer}\nIs this right? (Yes or No)"


def cache_of(tiny):
    model = LanguageModel.load(tiny, 1, torch.float32)
    return FeatureCache([], ModelId("tiny", model.key), None, lambda: model)


def grant(name="m", adapter=None, rows=(*TRAIN, *TEST), **more):
    return Grant.of(name, rows, StudentSettings(LAYER, HEAD, adapter), "tiny", **more)


@pytest.fixture
def here(tiny):
    """Students in this process."""
    return StudentFactory(cache_of(tiny), LAYER, HEAD)


@pytest.fixture(scope="module")
def server(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    with served(folder, {"tiny": cache_of(tiny)}):
        yield folder


def parts(client: Client):
    """The train and the test rows of `grant`, as the client names them."""
    return client.rows[: len(TRAIN)], client.rows[len(TRAIN) :]


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_student_of_every_adaptation_gives_the_same_bits(server, here, name):
    here.adapter = ADAPTERS[name]
    expected = here.new().fit(TRAIN, TRAIN_N)
    first = expected.predict_proba(TEST)
    more = HEAD.model_copy(update={"epochs": 2, "seed": 5})
    weights = np.linspace(0.1, 1, len(TRAIN))
    second = expected.go_on(TRAIN, 1 - TRAIN_N, weights, more).predict_proba(TEST)
    with client_of(server, grant(adapter=ADAPTERS[name])) as client:
        train, test = parts(client)
        student = client.students.new().fit(train, TRAIN_N)
        assert np.array_equal(student.predict_proba(test), first)
        student.go_on(train, 1 - TRAIN_N, weights, more)
        assert np.array_equal(student.predict_proba(test), second)
        assert client.students.compute.rows_trained == here.compute.rows_trained > 0
        assert client.students.compute.rows_forwarded == here.compute.rows_forwarded


def test_states_and_log_likelihoods_are_the_models(server, here):
    with client_of(server, grant()) as client:
        _, test = parts(client)
        for layer in (1, 3):
            found = client.students.at(layer).states(test)
            assert np.array_equal(found, here.at(layer).states(TEST))
        for found, expected in zip(
            client.students.zero_shot(test), here.zero_shot(TEST), strict=True
        ):
            assert np.array_equal(found, expected) and found.dtype == expected.dtype


@pytest.mark.parametrize("answers", [1, 2])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_template_asks_what_a_verdict_row_does(server, here, answers, swapped):
    rows, _ = word_rows(8, "certify", answers)
    if answers == 2:
        text = "{prompt}\nA: {first}\nB: {second}\nWhich one is better? " + QUESTIONS[0]
    else:
        order = "(No or Yes)" if swapped else "(Yes or No)"
        text = f"{{prompt}}\n{{answer}}\n{QUESTIONS[0]} {order}"
    plain = [verdict_row(row, QUESTIONS[0], swapped) for row in rows]
    with client_of(server, grant(rows=rows)) as client:
        asked = client.ask(client.rows, text, swapped=swapped and answers == 2)
        assert np.array_equal(client.students.states(asked), here.states(plain))
        expected = here.zero_shot(plain)
        found = client.zero_shot(client.rows, text, swapped and answers == 2)
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other)
        turned = client.students.zero_shot([row.swapped() for row in asked])
        assert np.array_equal(turned.given_prompt_NA, expected.given_prompt_NA[:, ::-1])


def test_students_learn_from_rows_of_a_template(server, here):
    plain = [verdict_row(row, QUESTIONS[0]) for row in TRAIN]
    expected = here.new().fit(plain, TRAIN_N).predict_proba(plain)
    with client_of(server, grant()) as client:
        asked = client.ask(parts(client)[0], TEMPLATE)
        found = client.students.new().fit(asked, TRAIN_N).predict_proba(asked)
        assert np.array_equal(found, expected)


def test_answers_may_follow_a_template(server, here):
    plain = [verdict_row(row, QUESTIONS[0]) for row in TEST]
    plain = [type(r)(r.id, r.group, f"Say: {t.prompt}", t.answers)
             for r, t in zip(plain, TEST, strict=True)]  # fmt: skip
    with client_of(server, grant()) as client:
        asked = client.ask(parts(client)[1], "Say: {prompt}", words=())
        assert np.array_equal(client.students.states(asked), here.states(plain))


def test_generated_texts_are_used_and_never_sent(server, here):
    options = GenerateOptions(max_new=6, temperature=1.0, seed=4)
    shown = [Template(TEMPLATE).fill(row).prompt for row in TEST]
    model = here.language_model()
    texts = generate(model, [p for p in shown for _ in range(2)], options)
    texts = [text if text.strip() else " nothing" for text in texts]
    with client_of(server, grant()) as client:
        _, test = parts(client)
        first, second = client.generate(test, TEMPLATE, 2, options)
        asked = client.ask(test, "{prompt}{text} or{text2}?", texts=[first, second])
        plain = [
            type(row)(row.id, row.group, f"{row.prompt}{a} or{b}?", (" Yes", " No"))
            for row, a, b in zip(TEST, texts[::2], texts[1::2], strict=True)
        ]
        assert np.array_equal(client.students.states(asked), here.states(plain))
        with pytest.raises(BadInput, match="one text for each row"):
            client.ask(test[:3], "{text}", texts=[first])
        with pytest.raises(BadInput, match="no field 'text2'"):
            client.ask(test, "{text2}", texts=[first])


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{prompt.__class__}", "no field"),
        ("{prompt!r}", "a name in braces and nothing else"),
        ("{prompt:>9999999}", "a name in braces and nothing else"),
        ("{0}", "no field"),
        ("{first}", "no field 'first'"),
        ("{text}", "no field 'text'"),
        ("{", "template: "),
        ("no field at all", "1 to 16 fields"),
        ("{answer}" * 17, "1 to 16 fields"),
        ("{prompt}" + "x" * 4000, "1 to 4,000 characters"),
        ("", "1 to 4,000 characters"),
    ],
)
def test_a_template_with_more_than_plain_fields_is_refused(server, template, said):
    with client_of(server, grant()) as client:
        with pytest.raises(BadInput, match=said):
            client.ask(client.rows[:2], template)
        with pytest.raises(BadInput, match="swapped: this row has one answer"):
            client.ask(client.rows[:2], TEMPLATE, swapped=True)
        with pytest.raises(BadInput, match="words: expected"):
            client.ask(client.rows[:2], TEMPLATE, words=(" a", " b", " c"))


def test_a_client_loop_is_fit(server, here):
    """Cross-entropy in the client's numpy, in the order of `fit_head`: the same head."""
    options = HEAD.model_copy(update={"hidden": 5, "epochs": 3, "seed": 2, "weight_decay": 0.1})
    expected = here.new(options).fit(TRAIN, TRAIN_N).predict_proba(TEST)
    rng = np.random.default_rng(options.seed)
    rng.normal(size=(here.states(TRAIN).shape[2], options.hidden))  # what the weights took
    n, steps = len(TRAIN), options.epochs * -(-len(TRAIN) // options.batch)
    with client_of(server, grant()) as client:
        train, test = parts(client)
        trainer, step = client.trainer(train, options), 0
        for _ in range(options.epochs):
            order = rng.permutation(n)
            for at in range(0, n, options.batch):
                rows = order[at : at + options.batch]
                logits = trainer.forward([train[i] for i in rows])
                probs = 0.5 * (1 + np.tanh(0.5 * logits))
                slope = (probs.astype(np.float32) - TRAIN_N[rows].astype(np.float32)) / np.float32(
                    len(rows)
                )
                trainer.backward(slope)
                trainer.step(options.lr * (1 - step / steps))
                step += 1
        assert trainer.predict_proba(test) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["probe", "top_blocks", "full"])
def test_a_trainer_learns_perturbs_and_goes_back(server, here, name):
    options = HEAD.model_copy(update={"weight_decay": 0.1})
    with client_of(server, grant(adapter=ADAPTERS[name])) as client:
        train, test = parts(client)
        trainer = client.trainer(train, options)
        targets = TRAIN_N.astype(np.float32)

        def learn(steps):
            for _ in range(steps):
                logits = trainer.forward(train)
                trainer.backward((expit(logits) - targets) / len(train))
                trainer.step(0.02 if name == "probe" else 0.003)
            return trainer.forward(train)

        start = trainer.forward(test)
        before = learn(5)
        saved = trainer.save()
        after = learn(15)
        assert ((after > 0) == TRAIN_N).mean() > max(0.8, ((before > 0) == TRAIN_N).mean() - 0.01)
        trainer.perturb(7, 0.1)
        moved = trainer.forward(train)
        assert not np.array_equal(moved, after)
        trainer.restore(saved)
        assert np.array_equal(trainer.forward(train), before)
        assert np.array_equal(learn(15), after), "the optimiser's state came back too"
        other = client.trainer(train, options)
        assert np.array_equal(other.forward(test), start)
        with pytest.raises(BadInput, match="not what this trainer saved"):
            other.restore(saved)
        with pytest.raises(BadInput, match="expected one number for each of the 16 rows"):
            other.backward(np.zeros(3))
        with pytest.raises(BadInput, match="NaN or infinity"):
            other.backward(np.full(16, np.nan))
        other.backward(np.zeros(16))
        with pytest.raises(BadInput, match="once for each backward"):
            other.backward(np.zeros(16))


def test_gradients_add_up_and_are_those_of_one_batch(server, here):
    with client_of(server, grant(adapter=ADAPTERS["lora"])) as client:
        train, test = parts(client)
        slopes = np.linspace(-1, 0.4, len(TRAIN)).astype(np.float32)
        found = []
        for halves in ([slice(None)], [slice(0, 16), slice(16, None)]):
            trainer = client.trainer(train)
            for half in halves:
                trainer.forward(train[half])
                trainer.backward(slopes[half])
            trainer.step(0.01)
            found.append(trainer.forward(test))
        assert found[0] == pytest.approx(found[1], abs=1e-4)
        assert np.abs(found[0]).max() > 0.01


def test_the_same_seed_moves_two_clients_apart(server, here):
    moved = []
    for name in "ab":
        with client_of(server, grant(name)) as client:
            trainer = client.trainer(parts(client)[0])
            trainer.perturb(3, 1.0)
            moved.append(trainer.forward(client.rows))
            trainer.perturb(3, -1.0)
            assert np.abs(trainer.forward(client.rows)).max() < 1e-3, "the same within a client"
    assert np.corrcoef(*moved)[0, 1] < 0.9
    same = [trainer_of(here, HEAD, TRAIN, b"a secret") for _ in range(2)]
    for one in same:
        one.perturb(3, 1.0)
    assert np.array_equal(*(one.forward(TEST) for one in same))


def test_the_model_itself_is_not_given(server):
    with client_of(server, grant()) as client, pytest.raises(MethodFailed, match=r"student\.ask"):
        client.students.language_model()


def test_info_says_what_there_is(server):
    with client_of(server, grant()) as client:
        info = client.info()
    assert {"n_blocks": 3, "width": 32, "context": 128, "device": "cpu"}.items() <= info.items()
    assert info["n_rows"] == len(TRAIN) + len(TEST) and info["price"] == 0


def test_texts_are_brought_only_where_the_grant_allows_it(server, here):
    plain = [verdict_row(row, QUESTIONS[1]) for row in TEST]
    with client_of(server, grant(reads_texts=True)) as client:
        assert np.array_equal(client.students.states(plain), here.states(plain))
        assert np.array_equal(client.students.states(TEST), here.states(TEST))
    with client_of(server, grant()) as client:
        for rows in (plain, TEST):
            with pytest.raises(NotFound, match="not among the rows that this client may use"):
                client.students.states(rows)


def test_texts_of_a_client_do_not_enter_the_shared_cache(tiny, tmp_path):
    shared = cache_of(tiny)
    with served(tmp_path, {"tiny": shared}), client_of(tmp_path, grant()) as client:
        client.students.states(client.rows[:4])
        known = shared.n_computed
        client.students.states(client.ask(client.rows[:4], TEMPLATE))
        assert shared.n_computed == known == 4


def test_trainers_of_all_weights_count_and_a_quota_ends_them(server):
    few = Limits(bytes=2**16)
    with client_of(server, grant(adapter=ADAPTERS["full"], limits=few)) as client:
        with pytest.raises(BudgetExhausted, match="train fewer weights"):
            client.trainer(client.rows)
        with pytest.raises(BudgetExhausted, match="train fewer weights"):
            client.students.new(HEAD.model_copy(update={"epochs": 1})).fit(client.rows, 
                np.zeros(len(client.rows)))  # fmt: skip
        assert client.usage()["bytes"] == 0
        assert client.students.states(client.rows[:2]).shape[0] == 2


def test_what_training_needs_counts_before_it_begins(server, here):
    """Trainings that give way to each other are all in memory at one time."""
    student = here.__class__(here.source, LAYER, HEAD, adapter=ADAPTERS["full"]).new()
    weights = student.weight_bytes()
    few = Limits(bytes=3 * weights)  # the trained weights alone would fit
    with client_of(server, grant("few", ADAPTERS["full"], limits=few)) as client:
        with pytest.raises(BudgetExhausted, match="train fewer weights"):
            client.students.new().fit(client.rows, np.zeros(len(client.rows)))
        assert client.usage()["rows_trained"] == 0
    tuned = student.fit([*TRAIN], TRAIN_N).tuned
    assert sum(w.numel() * w.element_size() for w in tuned.trained()) == pytest.approx(
        weights, rel=0.05
    )


def test_out_of_memory_halves_the_batch_once_then_says_what_to_lower(tiny, tmp_path, monkeypatch):
    cache = cache_of(tiny)
    model, sizes, limit = cache.language_model(), [], 128
    model.layout = model.layout._replace(batch=256)
    hidden = model.decoder.hidden

    def hungry(tokens, *rest):
        sizes.append(tokens.numel())
        if tokens.numel() > limit:
            torch.empty(1 << 46)  # the allocator really fails
        return hidden(tokens, *rest)

    with served(tmp_path, {"tiny": cache}), client_of(tmp_path, grant()) as client:
        monkeypatch.setattr(model.decoder, "hidden", hungry)
        assert client.students.states(client.rows).shape[0] == len(client.rows)
        assert max(sizes) > limit and model.layout.batch == 128
        limit = 8
        asked = client.ask(client.rows, TEMPLATE)
        with pytest.raises(BadInput, match="AARLAB_BATCH_TOKENS lower"):
            client.students.states(asked)
        limit = 10**6
        assert client.students.states(asked).shape[0] == len(client.rows), "the session goes on"


def test_generation_out_of_memory_says_what_to_lower(server, monkeypatch):
    from aarlab.testbed.models import generate as module

    sizes = []

    def hungry(model, prompts, options):
        sizes.append(options.batch)
        if options.batch > 8:
            torch.empty(1 << 46)
        return ["x"] * len(prompts)

    monkeypatch.setattr(module, "generate", hungry)
    with client_of(server, grant()) as client:
        assert len(client.generate(client.rows, TEMPLATE)) == 1
        assert sizes == [16, 8]
        with pytest.raises(BadInput, match="lower batch or max_new"):
            client.generate(client.rows, TEMPLATE, options=GenerateOptions(batch=64))


@pytest.mark.parametrize(
    "secret", ["the sum of 12 and 34 harbour, which nobody may see", "a sum\nof\nharbours\n" * 3]
)
def test_an_error_holds_no_part_of_a_text(server, monkeypatch, secret):
    (row,) = word_rows(1, "train")[0]
    rows = (type(row)("r", "g", secret, (" zebra",)),)

    def fails(self, items, *rest):
        raise BadInput(f"an answer to {items[0].prompt[:30]!r} is empty")

    monkeypatch.setattr(LanguageModel, "features", fails)
    with client_of(server, grant(rows=rows)) as client:
        with pytest.raises(BadInput, match="the server's log says why") as caught:
            client.students.states(client.rows)
        assert "harbour" not in str(caught.value) and "sum" not in str(caught.value)


def test_texts_that_are_too_long_together_are_refused(server, monkeypatch):
    monkeypatch.setattr("aarlab.testbed.students.templates.MAX_FILLED_ALL", 500)
    with client_of(server, grant()) as client:
        assert len(client.ask(client.rows[:4], TEMPLATE)) == 4
        for call in (client.ask, client.generate):
            with pytest.raises(BadInput, match="ask for fewer rows at once"):
                call(client.rows, TEMPLATE)
        monkeypatch.setattr("aarlab.testbed.students.templates.MAX_FILLED", 30)
        with pytest.raises(BadInput, match="filled in it has over 30"):
            client.ask(client.rows[:1], TEMPLATE)
        monkeypatch.setattr("aarlab.students.calls.MAX_ROWS", 10)
        with pytest.raises(BadInput, match="48 at once; ask for up to 10"):
            client.students.states(client.rows)


WORK = {
    "states": lambda client: client.students.states(client.rows),
    "generate": lambda client: client.generate(client.rows[:2], TEMPLATE),
    "top_blocks": lambda client: client.students.new().fit(client.rows, np.zeros(48)),
    "full": lambda client: client.students.new().fit(client.rows, np.zeros(48)),
    "probe": lambda client: client.students.new().fit(client.rows, np.zeros(48)),
}


@pytest.mark.parametrize("name", WORK)
def test_long_work_of_every_kind_lets_others_in(tiny, tmp_path, monkeypatch, name):
    breaths = []
    monkeypatch.setattr(DeviceQueue, "breathe", lambda queue: breaths.append(queue))
    granted = grant(adapter=ADAPTERS.get(name))
    with served(tmp_path, {"tiny": cache_of(tiny)}), client_of(tmp_path, granted) as client:
        if name != "states":
            client.students.states(client.rows)
        before = len(breaths)
        WORK[name](client)
        steps = 48 // HEAD.batch * HEAD.epochs
        least = {"states": 1, "generate": 5, "probe": HEAD.epochs}.get(name, steps)
        assert len(breaths) - before >= least


def test_two_sessions_of_one_client_share_a_quota(server):
    token = admitted(server, grant(limits=Limits(sessions=2, handles=3)))
    with Client.open(server / "s", token) as one, Client.open(server / "s", token) as other:
        kept = [one.students.new(HeadOptions()) for _ in range(2)]
        kept.append(other.students.new())
        with pytest.raises(BudgetExhausted, match="over 3 handles"):
            one.students.new()
        with pytest.raises(BudgetExhausted, match="2 connections open"):
            Client.open(server / "s", token)
        del kept
        assert one.students.new() is not None, "what is no longer used is freed"


def words_task(n=64):
    rows, targets = word_rows(n, "train")
    weak = np.clip(0.5 + 0.3 * (2 * targets - 1), 0, 1)
    labels = np.stack([weak, 0.9 * weak + 0.05])
    groups, sizes = tuple(row.group for row in rows), {"train": len(rows)}
    return TrainTask("words", "verification", rows, weak, groups, sizes, labels)


@pytest.mark.parametrize("name", ["ccs", "vinc", "em_posterior_templates", "zero_shot", "ccs_es"])
def test_a_method_that_asks_about_new_texts_gives_the_same_bits(server, here, name):
    task = words_task()
    here.states(task.inputs)  # `ccs_es` asks which layers there are
    expected = METHODS[name].fit(task, here, 3).predict_proba(TEST)
    with client_of(server, grant(rows=(*task.inputs, *TEST), reads_texts=True)) as client:
        client.students.states(task.inputs)
        found = METHODS[name].fit(task, client.students, 3).predict_proba(TEST)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["top_blocks", pytest.param("lora", marks=pytest.mark.gate)])
def test_a_recipe_on_trained_blocks_gives_the_same_bits(server, here, name):
    task, here.adapter = words_task(), ADAPTERS[name]
    expected = METHODS["self_training"].fit(task, here, 3).predict_proba(TEST)
    with client_of(server, grant(rows=(*task.inputs, *TEST), adapter=here.adapter)) as client:
        blind = replace(task, inputs=client.rows[: len(task.inputs)])
        fitted = METHODS["self_training"].fit(blind, client.students, 3)
        assert np.array_equal(fitted.predict_proba(client.rows[len(task.inputs) :]), expected)


@pytest.mark.parametrize("name", ["critic_grpo", "debate_grpo"])
def test_a_method_that_needs_the_model_itself_says_where_to_run_it(server, name):
    with (
        client_of(server, grant(reads_texts=True, rows=words_task().inputs)) as client,
        pytest.raises(MethodFailed, match="run it where the model is"),
    ):
        METHODS[name].fit(words_task(), client.students, 0)


@pytest.mark.parametrize(
    "name",
    ["debate", pytest.param("critic", marks=pytest.mark.gate), "generative_finetuning", "ccs"],
)
def test_a_method_of_templates_and_handles_holds_no_text(server, here, name):
    """A debate, critiques and a model trained on texts: the same bits without one of the rows'."""
    task = words_task(32)
    expected = METHODS[name].fit(task, here, 3).predict_proba(TEST)
    with client_of(server, grant(rows=(*task.inputs, *TEST))) as client:
        blind = replace(task, inputs=client.rows[: len(task.inputs)])
        found = METHODS[name].fit(blind, client.students, 3)
        assert np.array_equal(found.predict_proba(client.rows[len(task.inputs) :]), expected)


def test_a_model_trained_on_texts_is_counted_with_its_students_and_freed(server):
    with client_of(server, grant()) as client:
        train = client.rows[:8]
        tuned = client.students.tuned(train, LmOptions())
        size = client.usage()["bytes"]
        assert size > 3 * 32 * 64 * 4, "the blocks' matrices at least"
        student = tuned.new()
        assert client.usage()["bytes"] >= 2 * size, "it keeps the model alive"
        other = student.fit(train, TRAIN_N[:8]).predict_proba(client.rows)
        plain = client.students.new().fit(train, TRAIN_N[:8]).predict_proba(client.rows)
        assert not np.array_equal(other, plain)
        for wrong, said in (([0.5] * 3, "one number for each of 8 rows"), ([np.nan] * 8, "NaN")):
            with pytest.raises(BadInput, match=said):
                client.students.tuned(train, LmOptions(), weights_N=np.array(wrong))
        del student, tuned
        assert client.usage()["bytes"] < size
    with (
        client_of(server, grant(limits=Limits(bytes=2**16))) as client,
        pytest.raises(BudgetExhausted),
    ):
        client.students.tuned(client.rows[:8], LmOptions())
