"""`aarlab campaign check` is true: what it passes can run, what cannot run has its line."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from toy_campaign import toy_spec

from aarlab.agents.providers import PROVIDERS, lacks
from aarlab.campaign.checking import estimate, estimate_rows, faults, remarks
from aarlab.campaign.reading import SpecText, read_yaml
from aarlab.campaign.runner import create
from aarlab.campaign.settings import restart_settings
from aarlab.campaign.spec import CampaignSpec, load_spec, read_spec
from aarlab.cli.campaign import spec_of
from aarlab.core.errors import BadInput, Faulty
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import Limits, TaskInfo
from aarlab.core.wire_ledger import DEFAULT_METHODS, CampaignLimits, NewControl

ROOT = Path(__file__).parents[2]
HEAD = "name: x\ntasks: [math]\n"
AAR = "aars: [{name: a, researcher: random, direction: elicitation}]\n"
GOOD = HEAD + AAR
SECRET = "sk-" + "a1b2c3d4" * 4


def said(text: str | bytes) -> str:
    with pytest.raises(Faulty) as refused:
        read_spec(text, "spec.yaml")
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (GOOD + "limits: {hours: -1}", 4, "limits.hours: must be at least 0, and is -1"),
        (GOOD + "limits:\n  hours: 0", 5, "limits.hours: must be above 0"),
        (GOOD + "limits: {dollars: .nan}", 4, "must be a finite number"),
        (GOOD + "campaign_limits: {dollars: .inf}", 4, "must be a finite number"),
        (GOOD + "limits: {hours: true}", 4, "limits.hours: must be a number"),
        (GOOD + "limits: {hours: 1:30}", 4, "must be a number, and is '1:30'"),
        (GOOD + "limits: {submissions: 012}", 4, "write 12"),
        (GOOD + "limits: {submissions: 1.5}", 4, "must be a whole number"),
        (GOOD + "trial_timeout_s: .inf", 4, "must be a finite number"),
        (GOOD + "verify: {seconds: -3}", 4, "must be above 0"),
        (GOOD + "limit: {hours: 1}", 4, "limit: is not a field; did you mean `limits`?"),
        (GOOD + "alerts: {crashs: 2}", 4, "did you mean `crashes`?"),
        (GOOD + "isolation: docker", 4, "there are bubblewrap, process"),
        (GOOD + "isolation: none", 4, "there are bubblewrap, process"),
        (GOOD + "name: y", 4, "`name` is given twice"),
        (GOOD + "1: 2", 4, "keys are text"),
        (HEAD + "aars: !!set {a, b}", 3, "the YAML type 'set'"),
        (HEAD + "aars: [{name: a, researcher: langauge}]", 3, "did you mean `language`?"),
        (HEAD + "arms: [{arm: directed}]", 3, "arm directed needs `language`"),
        (HEAD + "unequal_budgets: true\narms: [{arm: directed}]", 4, "needs `language`"),
        (HEAD + AAR.replace("[{", "\n- {").replace("}]", "}") * 1 + "- {name: a, researcher: "
         "random}", 5, "names of AARs must differ"),
        ("a: &x [*x]", 1, "expands to too much"),
        ("a:\n\t- 1", 2, "not YAML"),
        (b"name: x\n# \xff", 2, "not UTF-8"),
    ],
)  # fmt: skip
def test_a_fault_has_its_line_and_the_specs_own_words(text, line: int, words: str) -> None:
    shown = said(text)
    assert f"line {line}: " in shown and words in shown
    assert not any(word in shown.lower() for word in ("pydantic", "value error", "input should"))


@pytest.mark.parametrize(
    "fault",
    [
        f"language: {{model: openai/x, model_args: {{api_key: {SECRET}}}}}",
        "language: {model: openai/x, model_args: {api_key: hunter2hunter2}}",
        f"language: {{model: openai/x, model_args: {{extra: [{SECRET}]}}}}",
        "language: {model: openai/x, model_args: {default_headers: {x-api: hunter2hunter2}}}",
        "language: {model: openai/x, model_args: {authToken: hunter2hunter2}}",
        "language: {model: openai/x, base_url: 'https://me:hunter2hunter2@host/v1'}",
        "language: {model: openai/x, base_url: 'https://host/v1?api_key=hunter2hunter2'}",
        f"# {SECRET}",
        f"directions: ['use {SECRET}']",
        f"{SECRET}: 1",
        f"name: [{SECRET}",
    ],
)
def test_a_secret_is_refused_before_anything_is_written_and_not_quoted(
    fault: str, tmp_path: Path
) -> None:
    with pytest.raises(Faulty) as refused:
        read_spec(GOOD + fault, "spec.yaml")
    assert SECRET not in str(refused.value) and "hunter2" not in str(refused.value)
    assert not any(each.quotable for each in refused.value.faults)
    (tmp_path / "spec.yaml").write_text(GOOD + fault)
    with pytest.raises(Faulty):
        load_spec(tmp_path / "spec.yaml")


def test_a_spec_made_in_python_with_a_secret_is_not_frozen(tmp_path: Path) -> None:
    raw = yaml.safe_load(GOOD)
    raw["language"] = {"model": "scripted/elicitor", "model_args": {"api_key": SECRET}}
    with pytest.raises(Faulty, match="holds a secret"):
        create(RunDir(tmp_path / "run"), CampaignSpec.model_validate(raw), {})
    assert not (tmp_path / "run").exists()


def test_what_yaml_reads_oddly_is_read_as_it_was_meant() -> None:
    price = "prices: {openai/x: {dated: 2026-01-31, input: 3.0, output: 1_5, cache_read: 1e-1}}"
    spec = read_spec(GOOD + price + "\nexact_feedback: on\nlimits: {submissions: 0o14}", "s")
    made = spec.prices["openai/x"]
    assert (made.dated, made.output, made.cache_read) == ("2026-01-31", 15.0, 0.1)
    assert spec.exact_feedback and spec.limits.submissions == 12
    base = "- &a {name: a, researcher: random, direction: elicitation}\n"
    merged = read_spec(HEAD + "aars:\n" + base + "- {<<: *a, name: b, seed: 3}\n", "s")
    assert [(aar.name, aar.direction, aar.seed) for aar in merged.aars] == [
        ("a", "elicitation", 0),
        ("b", "elicitation", 3),
    ]


def test_a_guest_with_limits_of_its_own_is_compared_with_no_arm() -> None:
    guest = "aars: [{name: g, researcher: external, team: g, limits: {hours: 2}}]\n"
    spec = read_spec(HEAD + "arms: [{arm: random, aars: 2}]\n" + guest, "s")
    assert spec.limits_of(spec.aars[0]) == Limits(hours=2, methods=DEFAULT_METHODS)
    unequal = "arms: [{arm: random, aars: 2}, {arm: evolutionary, aars: 1}]\n"
    assert "unequal budgets" in said(HEAD + unequal)


def here(text: str, root: DataRoot) -> list[str]:
    spec, read = read_spec(text, "s"), read_yaml(text)
    assert isinstance(read, SpecText)
    return [str(fault) for fault in faults(spec, read, root, {"math"}.__contains__)]


def test_what_this_machine_lacks_is_said_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for provider in PROVIDERS.values():
        for name in provider.keys:
            monkeypatch.delenv(name, raising=False)
    models = ("gpt-5", "scripted/nobody", "openai/gpt-5", "antropic/claude-opus-4-5", "groq/x")
    aars = "".join(
        f"- {{name: a{n}, researcher: language, language: {{model: {model}}}}}\n"
        for n, model in enumerate(models)
    )
    others = "- {name: h, researcher: fixed, role: human, methods: [vanila]}\n"
    text = HEAD.replace("[math]", "[math, maht]") + "limits: {hours: 1, dollars: 1}\naars:\n"
    found = "\n".join(here(text + aars + others, DataRoot(tmp_path)))
    for words in (
        "line 5: error: model 'gpt-5' has no provider; write openai/gpt-5",
        "line 6: error: no script 'nobody'; there are combiner",
        "line 7: to do: OPENAI_API_KEY",
        "line 8: error: model 'antropic/claude-opus-4-5': no provider 'antropic'; did you mean "
        "anthropic/claude-opus-4-5?",
        "line 9: to do: groq needs the package groq: pip install groq",
        "line 9: to do: GROQ_API_KEY is not set",
        "line 10: error: h: no method 'vanila'; did you mean `vanilla`?",
        "line 2: to do: task math is not in",
        "aarlab task build math",
    ):
        assert words in found, found
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    assert lacks("openai/gpt-5") == []
    assert "rounds" in lacks("scripted/elicitor", args={"rounds": -1})[0].text
    assert lacks("openai-api/my-own/x")[0].text.startswith("MY_OWN_API_KEY")


def test_a_key_that_the_executors_file_sets_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in PROVIDERS["openai"].keys:
        monkeypatch.delenv(name, raising=False)
    keys = tmp_path / "keys.env"
    text = HEAD + "limits: {hours: 1, dollars: 1}\naars: [{name: a, researcher: language}]\n"
    text += "language: {model: openai/gpt-5}\n"
    text += f"executor: {{name: slurm, options: {{env_file: {keys}}}}}\n"
    lacking = "OPENAI_API_KEY or"
    assert lacking in "\n".join(here(text, DataRoot(tmp_path))), "there is no such file"
    for line, is_set in {
        "OPENAI_API_KEY=x": True,
        "A=b\n export OPENAI_API_KEY='x'": True,
        "#OPENAI_API_KEY=x": False,
        "OPENAI_API_KEY=": False,
        "OPENAI_API_KEY=''": False,
        "OPENAI_API_KEY= # none": False,
        "NO_OPENAI_API_KEY=x": False,
    }.items():
        keys.write_text(f"{line}\nOTHER=1\n", encoding="utf-8")
        assert (lacking not in "\n".join(here(text, DataRoot(tmp_path)))) is is_set, line


def test_an_address_of_another_machine_hides_no_other_fault(tmp_path: Path) -> None:
    text = HEAD + "aars: [{name: a, researcher: random, direction: combining}]\n"
    options = f"{{host: 192.0.2.7, env_file: {tmp_path / 'keys'}}}"
    said = here(text + f"executor: {{name: slurm, options: {options}}}\n", DataRoot(tmp_path))
    wrong = [line for line in said if "executor slurm" in line]
    assert "`host: 192.0.2.7` is not an address of this machine" in wrong[0]
    assert [line for line in wrong[1:] if "keys` is not there" in line or "is not found" in line]


def test_the_table_of_providers_is_inspects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each provider of Inspect is known, and refuses to open without a key that the table names."""
    import inspect
    import re

    from inspect_ai.model import get_model
    from inspect_ai.model._providers import providers

    names = re.findall(r'@modelapi\(name="([^"]+)"', inspect.getsource(providers))
    assert set(names) <= set(PROVIDERS) and set(PROVIDERS) - set(names) == {"scripted"}
    variables = {name for each in PROVIDERS.values() for name in (*each.keys, *each.also)}
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    for name, provider in PROVIDERS.items():
        wanted = (*provider.also, *provider.keys)
        if provider.module != "openai" or not wanted:
            continue
        with pytest.raises(Exception, match=r"No .*defined in the environment") as missing:
            get_model(f"{name}/x", memoize=False)
        assert any(each in str(missing.value) for each in wanted), name


def info_of(task: str) -> str:
    info = TaskInfo(
        name=task, kind="verification", title=task, description="", pair="embedded", n_train=1,
        n_search=1, teacher_seeds=[0], settings={}, content_hash="0" * 64,
    )  # fmt: skip
    return info.model_dump_json()


# Those of extensions need their package: tests/extensions.
EXAMPLES = [p for p in sorted(ROOT.glob("examples/**/*.yaml")) if "extensions" not in p.parts]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_each_example_passes(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its tasks built and its key set."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    spec, root = load_spec(path), DataRoot(tmp_path)
    for task in (*spec.tasks, *spec.held_out):
        root.public_task(task).mkdir(parents=True)
        (root.public_task(task) / "task.json").write_text(info_of(task))
        (root.vault_task(task) / "truth").mkdir(parents=True)
    found = list(remarks(spec, root, lambda _task: False))
    assert [remark for remark in found if remark.gravity != "note"] == []
    assert estimate(spec).aars > 0


def test_the_store_of_blobs_is_tried(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = read_spec(GOOD, "spec.yaml")

    def said_of_blobs() -> list[str]:
        found = remarks(spec, DataRoot(tmp_path), lambda _task: True)
        return [r.text for r in found if r.gravity == "to do" and r.text.startswith("blobs:")]

    assert said_of_blobs() == []
    monkeypatch.setenv("AARLAB_SERVER_BLOBS_DIRECT", "true")
    assert "needs a bucket" in said_of_blobs()[0]
    for direct in ("true", "false"):
        monkeypatch.setenv("AARLAB_SERVER_BLOBS_DIRECT", direct)
        monkeypatch.setenv("AARLAB_SERVER_BLOBS", f"{s3}/{tmp_path.name}")
        assert said_of_blobs() == []
        monkeypatch.setenv("AARLAB_SERVER_BLOBS", "s3://no-such-bucket/x")
        assert "bucket" in said_of_blobs()[0]
    monkeypatch.setenv("AARLAB_SERVER_BLOBS_DIRECT", "maybe")
    assert "AARLAB_SERVER_BLOBS_DIRECT: Input should be" in said_of_blobs()[0]
    monkeypatch.setenv("AARLAB_SERVER_BLOBS_DIRECT", "false")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wr0ng-secret")
    assert "refuses its credentials" in said_of_blobs()[0] and "wr0ng" not in said_of_blobs()[0]


def test_a_claude_code_aar_has_a_price_in_the_estimate() -> None:
    claude = "external: {agent: claude-code, model: anthropic/claude-opus-4-5}"
    text = HEAD + f"aars: [{{name: a, researcher: external, {claude}}}]\nlimits: {{hours: 2}}\n"
    found = estimate(read_spec(text, "s"))
    assert found.most_dollars is None and found.expected_dollars > 1


def test_the_estimate_counts_what_aars_may_ask_to_have_verified() -> None:
    spec = spec_of("published_setting", None)
    found = estimate(spec)
    assert (found.reruns, found.asked_reruns, found.ablations) == (20, 36, 3)
    rows = dict(estimate_rows(spec, found))
    said = "20 of 5 seeds at most at the end and 36 that AARs ask for, then 3 ablations"
    assert rows["re-runs"] == said + " and 1 on certify"
    control = HEAD + "aars: [{name: a, researcher: random, direction: combining}]\n"
    assert estimate(read_spec(control, "s")).asked_reruns == 0


def test_a_missing_price_table_is_to_do_and_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of("published_setting", None)

    def of_price() -> list[str]:
        found = remarks(spec, DataRoot(Path("/nowhere")), lambda _task: True)
        return [remark.gravity for remark in found if "no price of model" in remark.text]

    assert of_price() == []
    monkeypatch.setattr("aarlab.agents.prices._snapshot", lambda: None)
    assert of_price() == ["to do"]


# ---------------------------------------------------------------- values that are none
AMOUNTS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(),
    st.booleans(),
    st.text(max_size=3),
)


@given(name=st.sampled_from(sorted(Limits.model_fields)), amount=AMOUNTS)
def test_a_limit_is_a_finite_amount_from_zero(name: str, amount: object) -> None:
    for model in (Limits, CampaignLimits):
        if name not in model.model_fields:
            continue
        try:
            kept = getattr(model.model_validate({name: amount}), name)
        except ValidationError:
            continue
        assert not isinstance(amount, bool) and math.isfinite(kept) and 0 <= kept <= 10**12
        assert kept == float(amount)


@given(amount=st.floats(allow_nan=True, allow_infinity=True))
def test_a_limit_of_a_spec_is_above_zero(amount: float) -> None:
    raw = {**yaml.safe_load(GOOD), "limits": {"hours": amount}}
    try:
        kept = CampaignSpec.model_validate(raw).limits.hours
    except ValidationError:
        return
    assert kept is not None and 0 < kept <= 10**12


@pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf"), True])
def test_what_extends_a_limit_is_above_zero(amount: float) -> None:
    with pytest.raises(ValidationError):
        NewControl(action="extend", by="Ada", add={"hours": amount})


@pytest.mark.parametrize("name", ["FIRST_S", "LONGEST_S", "HEALTHY_S", "MOST_CRASHES", "FACTOR"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "many"])
def test_a_setting_that_is_none_is_refused_by_name(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AARLAB_RESTART_{name}", value)
    with pytest.raises(BadInput, match=f"AARLAB_RESTART_{name}"):
        restart_settings()


def test_an_unknown_sandbox_is_refused_and_never_taken_for_none() -> None:
    from aarlab.agents.trial import sandbox_kind

    with pytest.raises(BadInput, match="bubblewrap, process"):
        spec_of("demo", "nope")
    for wrong in ("none", "docker"):
        with pytest.raises(BadInput, match="is not a sandbox"):
            sandbox_kind(wrong)  # type: ignore[arg-type]
    assert toy_spec().isolation == "bubblewrap"
