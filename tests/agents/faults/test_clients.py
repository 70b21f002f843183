"""The vendors' own clients, through Inspect and our loop, against endpoints that fail."""

import dataclasses
from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet
from fake_models import FakeModels, Fault
from fault_kit import VENDORS, booked_tokens, books, config_of, heard_tokens, spec_of
from language_kit import Bench, aar, transcript

from aarlab.agents.language.models import ModelUnavailable, Patience

# The default suite has one vendor and a few kinds of fault. The interface that Inspect no longer
# takes by itself is slow.
MARKS = {"openai chat": [pytest.mark.slow], "openai responses": [pytest.mark.gate]}
EACH_VENDOR = [pytest.param(vendor, marks=MARKS.get(vendor, [])) for vendor in VENDORS]
QUICK_KINDS = ("rate_limit", "cut", "bad_arguments")
QUICK = Patience(first_wait_s=0.05, longest_wait_s=1.0, give_up_s=30.0)
# Tried again by us; the vendor's client must not do so unseen.
RETRIED = {
    "rate_limit": Fault("rate_limit", at=(2, 3), wait_s=0.5),
    "overloaded": Fault("overloaded", at=(2, 3, 4)),
    "server_error": Fault("server_error", at=(2,)),
    "cut": Fault("cut", at=(2, 4)),
    "bad_json": Fault("bad_json", at=(2,)),
}
# Answers that the loop has to live with.
HEARD = {
    "bad_arguments": Fault("bad_arguments", at=(2, 3)),
    "unknown_tool": Fault("unknown_tool", at=(2,)),
    "refusal": Fault("refusal", at=(2, 3)),
    "slow": Fault("slow", at=(2,), wait_s=2.0),
}


def _each(kinds: Iterable[str]) -> list[ParameterSet]:
    """Return the kinds as parameters; all but the quick ones are in the gate."""
    gate = [pytest.mark.gate]
    return [pytest.param(kind, marks=[] if kind in QUICK_KINDS else gate) for kind in kinds]


def _lived(desk: Bench, fake: FakeModels, vendor: str, name: str, patience: Patience = QUICK):
    config = config_of(desk, spec_of(fake, vendor), name)
    with aar(config) as made:
        made.caller.asker.patience = patience
        made.run()
    entries = transcript(config)
    assert entries[-1].text == "finished: it finished by itself: all steps done"
    return config, entries


def _on_the_books(desk: Bench, fake: FakeModels, name: str) -> None:
    export, record = books(desk, name)
    assert booked_tokens(record) == heard_tokens(fake.counts())
    posts = [f.title for f in export.findings if f.author == name]
    assert posts and len(posts) == len(set(posts))


def _name(vendor: str, kind: str) -> str:
    return f"{vendor}-{kind}".replace(" ", "-").replace("_", "-")


@pytest.mark.parametrize("kind", _each(RETRIED))
@pytest.mark.parametrize("vendor", EACH_VENDOR)
def test_failures_are_tried_again_and_told(desk: Bench, fake, vendor: str, kind: str) -> None:
    fake.replan([RETRIED[kind]])
    _, entries = _lived(desk, fake, vendor, _name(vendor, kind))
    counts = fake.counts()
    failed = [e.text for e in entries if e.kind == "error" and "model call failed" in e.text]
    assert len(failed) == counts.faults[kind] == len(RETRIED[kind].at)
    assert counts.requests == len([e for e in entries if e.kind == "assistant"]) + len(failed)
    assert fake.key not in "".join(e.text for e in entries)
    _on_the_books(desk, fake, _name(vendor, kind))


@pytest.mark.parametrize("kind", _each(HEARD))
@pytest.mark.parametrize("vendor", EACH_VENDOR)
def test_odd_answers_are_lived_with(desk: Bench, fake, vendor: str, kind: str) -> None:
    fake.replan([HEARD[kind]])
    _, entries = _lived(desk, fake, vendor, _name(vendor, kind))
    counts = fake.counts()
    assert counts.faults[kind] == len(HEARD[kind].at) and counts.repeated == {}
    told = " ".join(e.text for e in entries if e.kind in ("tool_result", "error", "user"))
    expected = {
        "bad_arguments": "error: ",
        "unknown_tool": "there is no tool 'no_such_tool'",
        "refusal": "the model refused",
    }
    assert expected.get(kind, "") in told
    _on_the_books(desk, fake, _name(vendor, kind))


def test_streaming_is_the_same(desk: Bench, fake: FakeModels) -> None:
    """Anthropic's client streams; a stream that is cut is tried again."""
    fake.replan([Fault("cut", at=(2,))])
    spec = spec_of(fake)
    spec = spec.model_copy(update={"model_args": {"streaming": True}})
    config = config_of(desk, spec, "streams")
    with aar(config) as made:
        made.caller.asker.patience = QUICK
        made.run()
    assert fake.counts().faults == {"cut": 1}
    _on_the_books(desk, fake, "streams")


def test_an_endpoint_that_never_answers_ends_the_process_and_loses_nothing(
    desk: Bench, fake: FakeModels
) -> None:
    fake.replan([Fault("overloaded", every=1)])
    config = config_of(desk, spec_of(fake), "overloaded-for-ever")
    short = dataclasses.replace(QUICK, give_up_s=2.0)
    with aar(config) as made:
        made.caller.asker.patience = short
        with pytest.raises(ModelUnavailable, match="did not answer"):
            made.run()
    fake.replan([])
    with aar(config) as made:
        assert made.run().finished
    _on_the_books(desk, fake, "overloaded-for-ever")
    assert fake.counts().repeated == {}


def test_a_wrong_key_is_told_and_not_shown(desk: Bench, fake: FakeModels, monkeypatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-wrong-0123456789abcdef")
    config = config_of(desk, spec_of(fake), "wrong-key")
    with aar(config) as made, pytest.raises(ModelUnavailable, match="resume") as raised:
        made.run()
    seen = str(raised.value) + (config.home / "loop.json").read_text()
    assert "sk-ant-wrong" not in seen
    assert fake.counts().n_paid == 0
