"""Which re-runs a campaign asks for."""

from toy_campaign import toy_spec

from aarlab.campaign.policy import (
    held_out_verifications,
    requested_verifications,
    wanted_verifications,
)
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.headline import standings_of
from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport
from aarlab.core.wire_service import MethodRequest


def request(snapshot: str, state: str = "queued", task: str | None = None) -> MethodRequest:
    return MethodRequest(
        id=f"mth_{snapshot}",
        aar="rowan",
        snapshot=snapshot,
        task=task,
        note="",
        at="2026-01-01T00:00:00+00:00",
        state=state,
    )


def test_what_aars_asked_for_is_run_once_on_each_development_task() -> None:
    spec = CampaignSpec.model_validate({**toy_spec().model_dump(), "tasks": ["gauss", "other"]})
    asked = [request("a"), request("b", task="other"), request("c", "verified")]
    wanted = requested_verifications([*asked, request("d", "refused")], spec)
    assert [(w.snapshot, w.task) for w in wanted] == [
        ("a", "gauss"),
        ("a", "other"),
        ("b", "other"),
    ]
    assert {(w.split, w.ablation, w.n_seeds) for w in wanted} == {("selection", "none", 4)}


def test_the_best_of_a_task_are_run_on_every_task_the_held_out_last(
    toy_run: tuple[RunDir, CampaignExport],
) -> None:
    changes = {"tasks": ["gauss", "other"], "held_out": ["secret"]}
    spec = CampaignSpec.model_validate({**toy_spec().model_dump(), **changes})
    wanted = wanted_verifications(toy_run[1], spec)
    best = [w.snapshot for w in wanted if w.task == "gauss"]
    assert len(best) == len(set(best)) == spec.verify.top + 2
    assert [w.task for w in wanted] == ["gauss"] * 4 + ["other"] * 4 + ["secret"] * 4
    assert [w.snapshot for w in wanted] == best * 3


def test_held_out_tasks_may_get_the_best_ranked_methods_alone(
    toy_run: tuple[RunDir, CampaignExport],
) -> None:
    """Which are the best is known after they were verified, so they are asked for later."""
    export, toy = toy_run[1], toy_spec().model_dump()
    verify = {**toy["verify"], "held_out_top": 1}
    spec = CampaignSpec.model_validate({**toy, "held_out": ["secret"], "verify": verify})
    assert {w.task for w in wanted_verifications(export, spec)} == {"gauss"}
    board = standings_of(export, "gauss").board
    best = [line.run.snapshot for line in board if line.rank == 1]
    human = [line.run.snapshot for line in board if line.role == "human"]
    later = held_out_verifications(export, spec)
    assert [(w.snapshot, w.task, w.split) for w in later] == [
        (snapshot, "secret", "selection") for snapshot in (*best, *human)
    ]
    assert len(human) == 1
    everything = CampaignSpec.model_validate({**toy, "held_out": ["secret"]})
    assert held_out_verifications(export, everything) == []
