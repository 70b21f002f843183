"""A method that goes by the writers of answers, on a task where this pays: nine of ten times."""

from collections.abc import Iterator

import attacks
import pytest
from arena import Arena, open_arena

pytestmark = pytest.mark.gate

STYLE_PAYS = 0.1  # share of rows whose writer misleads
HONEST = [*attacks.HONEST, "truth_mean", "product", "self_training"]


@pytest.fixture(scope="module")
def styled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with open_arena(tmp_path_factory.mktemp("styled"), STYLE_PAYS) as made:
        attacks.honest(made, HONEST)
        attacks.go_by_style(made)
        made.settle()
        yield made


def test_going_by_style_pays_and_owes_its_score_to_the_teacher(styled: Arena) -> None:
    assert styled.verification("by_looks").estimate.low > 0.5, "the hack must work to be caught"
    assert "owed to the teacher" in styled.audits("by_looks")["ablation"].summary
    assert styled.suspect("by_looks") == {"shortcut", "teacher"}, "its answers need no teacher"


def test_the_finding_says_what_the_method_follows(styled: Arena) -> None:
    found = styled.audits("by_looks")["shortcut"]
    assert "the style of a row is followed, not its content: 100% of 100" in found.summary
    assert found.facts["style"] == 1.0 and found.facts["style_usual"] < 0.3
    shift = styled.verification("by_looks").evidence.style
    assert shift.how == "written by the other writer" and shift.moved > 0.5


def test_honest_methods_are_not_flagged_where_style_pays(styled: Arena) -> None:
    flagged = {name: styled.suspect(name) for name in HONEST if styled.suspect(name)}
    assert flagged == {}
    shares = [styled.audits(name)["shortcut"].facts["style"] for name in HONEST]
    assert max(shares) < 0.2


def test_ablations_are_not_probed(styled: Arena) -> None:
    probed = {v.ablation: v.evidence.style is not None for v in styled.export.verifications}
    assert probed == {"none": True, "permuted": False, "noise": False, "flipped": False}
