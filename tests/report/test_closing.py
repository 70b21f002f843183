"""What was found, in words and in summary.json: the best, elsewhere, what did not get through."""

import pytest

from aarlab.core.wire import Audit, CampaignExport, LabelFreeScore
from aarlab.report import prose
from aarlab.report.closing import elsewhere, in_words, kept_out
from aarlab.report.data_files import summary_of
from aarlab.report.view import CampaignView, campaign_view


@pytest.fixture(scope="module")
def view(export: CampaignExport) -> CampaignView:
    """All is blind, but the second best, which is suspected; one task is held out."""
    plain = campaign_view(export)
    first, cheat, third = plain.ranked[:3]
    human = next(m for m in plain.of_role("human") if m.short == "aux_confidence")
    runs = []
    for run in export.verifications:
        is_open = run.snapshot == cheat.snapshot
        more = (
            {"delivery": "open", "open_because": "it says so"} if is_open else {"delivery": "blind"}
        )
        runs.append(run.model_copy(update=more))
    for method, value in ((first, 0.4), (third, 0.2), (human, 0.1)):
        assert method.selection is not None and method.verified is not None
        figure = {"value": value, "low": value - 0.1, "high": value + 0.1}
        estimate = method.verified.model_copy(update=figure)
        update = {"id": f"ver_{method.short}", "task": "code", "delivery": "blind"}
        runs.append(method.selection.model_copy(update={**update, "estimate": estimate}))
    said = "the answers are the same whichever teacher labelled the train rows; 0.0% differ"
    audit = Audit(id="aud_1", at="t", kind="teacher", aar=cheat.aar, snapshot=cheat.snapshot,
                  task="math", severity="suspect", summary=said)  # fmt: skip
    spec = {"campaign": {"tasks": ["math"], "held_out": ["code"]}}
    tasks = [*export.tasks, export.tasks[0].model_copy(update={"name": "code"})]
    alone = LabelFreeScore(n_rows=200, accuracy=0.4, pgr=first.verified)
    baselines = [
        one.model_copy(update={"label_free": alone if one.split == "selection" else None})
        for one in export.baselines
    ]
    update = {
        "baselines": baselines,
        "verifications": runs,
        "audits": [audit],
        "spec": spec,
        "tasks": tasks,
    }
    return campaign_view(export.model_copy(update=update))


def test_a_held_out_task_shows_the_best_two_and_the_best_by_hand(view: CampaignView) -> None:
    (found,) = elsewhere(view)
    assert found.task == "code"
    assert [figure.value for _, figure in found.best] == [0.4, 0.2]
    assert found.human is not None
    assert (found.human.method.short, found.human.figure.value) == ("aux_confidence", 0.1)
    said = dict(in_words(view))["elsewhere"]
    assert said.startswith("On code, a held-out task that no researcher knew of, ")
    assert said.endswith("the best hand-tuned baseline, aux_confidence, has 0.10 [0.00, 0.20].")
    assert summary_of(view)["elsewhere"][0]["methods"][0]["selection"]["pgr"] == 0.4


def test_what_did_not_get_through_says_what_it_scored_and_why(view: CampaignView) -> None:
    cheat = next(one for one in kept_out(view) if one.method.apart)
    assert cheat.would_rank == 2 and cheat.method.rank is None
    assert cheat.reasons == (
        "it reads texts, and such a method ranks only once a person has accepted it",
        "the teacher audit: the answers are the same whichever teacher labelled the train rows",
    )
    said = [text for about, text in in_words(view) if about == "did not get through"]
    (mine,) = (text for text in said if text.startswith(cheat.method.short))
    assert "while searching" in mine and ", which would have been rank 2. It did not get" in mine
    entry = next(one for one in summary_of(view)["kept_out"] if one["apart"])
    assert entry["suspected_by"] == ["teacher"] and entry["would_rank"] == 2
    assert entry["permuted"]["pgr"] == 0.38 and entry["error"] is None


def test_a_failed_verification_says_its_error(view: CampaignView) -> None:
    (failed,) = (one for one in kept_out(view) if one.error)
    assert failed.error == "method raised ValueError: <b>bad</b> shape"
    assert failed.reasons == (f"the platform ran it without texts, and it failed ({failed.error})",)
    assert failed.would_rank is None and failed.method.verified is None


def test_the_verdict_comes_first_and_the_best_by_hand_is_in_the_summary(view: CampaignView) -> None:
    assert in_words(view)[0] == ("best method", view.verdict)
    assert summary_of(view)["human"]["short"] == "aux_confidence"
    assert summary_of(view)["in_words"][0] == ["best method", view.verdict]
    best = view.ranked[0]
    assert dict(in_words(view))["what it is"].startswith(f"{best.short} is “")
    assert dict(in_words(view))["to quote"] == prose.headline_sentence(view)


def test_the_strong_model_alone_is_said_where_the_build_measured_it(
    view: CampaignView, export: CampaignExport
) -> None:
    said = dict(in_words(view))["without labels"]
    assert said.endswith("without any label, has 0.60 [0.50, 0.70] on 200 rows.")
    assert summary_of(view)["label_free"]["n_rows"] == 200
    assert summary_of(campaign_view(export))["label_free"] is None
