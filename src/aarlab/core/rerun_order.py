"""In which order queued re-runs are done, by the verifier and by verification pods alike."""

from collections import Counter
from collections.abc import Sequence

from aarlab.core.wire import Ablation, Verification

ABLATIONS: tuple[Ablation, ...] = ("permuted", "noise", "flipped")


def in_turn(queued: Sequence[Verification]) -> list[Verification]:
    """Order re-runs before ablations, cheap ablations first; among equals the AARs take turns.

    An AAR that asks for a hundred re-runs delays the second one of another by one, not by all.
    """
    order: dict[str, int] = {"none": 0} | {kind: at for at, kind in enumerate(ABLATIONS, 1)}
    before: Counter[tuple[str, str]] = Counter()
    places = []
    for wanted in queued:
        places.append((order[wanted.ablation], before[wanted.ablation, wanted.aar]))
        before[wanted.ablation, wanted.aar] += 1
    return [queued[at] for at in sorted(range(len(queued)), key=places.__getitem__)]
