"""What an attacker ships who knows that states come whitened and turned: it finds the axes again.

A turn keeps every angle. So whatever the law of the states singles out as an axis can be found in
any basis: axes along which the two answers of a pair differ most, axes that two layers share, axes
with heavy tails. A head that was trained on public rows with their true labels is carried over on
them, or rows of the run are matched with public rows that were shipped. In the end the weak labels
of the run say how far the head is to be believed beside an honest student.

This file is copied into the snapshots of `benchmarks/state_attacks.py`. Legend: N rows, 2 answers,
K axes, M answers of several rows, S teachers.
"""

import base64
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Coords = dict[int, Floats]  # by layer (N, 2, K)
Turns = dict[int, Floats]  # by layer (K, K), from the run's axes to public ones
Told = Callable[[Coords], Floats]  # log-odds (N,)
BANK = 400  # train rows to which a row's distances are taken
FEW = {"epochs": 3, "lr": 1e-3, "weight_decay": 10.0}


# ---------------------------------------------------------------- states in white axes
class White:
    """Axes of equal variance of each layer; the first layer is the students'."""

    def __init__(self, states: Coords) -> None:
        self.of: dict[int, tuple[Floats, Floats]] = {}
        for layer, states_NAD in states.items():
            flat_MD = flat(states_NAD)
            centre_D = flat_MD.mean(axis=0)
            spread_D, axes_DD = np.linalg.eigh(np.cov((flat_MD - centre_D).T, bias=True))
            kept_D = np.argsort(-spread_D)[:128]
            kept_D = kept_D[spread_D[kept_D] > 1e-5 * spread_D[kept_D[0]]]
            self.of[layer] = centre_D, axes_DD[:, kept_D] / np.sqrt(spread_D[kept_D])

    def __call__(self, states: Coords) -> Coords:
        return {
            layer: (states[layer] - centre_D) @ axes_DK
            for layer, (centre_D, axes_DK) in self.of.items()
        }


def flat(states_NAK: Floats) -> Floats:
    return states_NAK.reshape(-1, states_NAK.shape[-1])


def differences(states_NAK: Floats) -> Floats:
    return states_NAK[:, 0] - states_NAK[:, 1]


def polar(matrix_KK: Floats) -> Floats:
    """The orthogonal matrix that is nearest."""
    u, _, v = np.linalg.svd(matrix_KK, full_matrices=False)
    return np.asarray(u @ v)


# ---------------------------------------------------------------- what a turn keeps
def pair_spread(x: Coords) -> Floats:
    """Of the first layer: how the answers of a pair differ (K, K)."""
    diff_NK = differences(next(iter(x.values())))
    return np.asarray(diff_NK.T @ diff_NK / len(diff_NK))


def kurtosis(x: Coords) -> Floats:
    """Of the first layer: sum of fourth moments (Cardoso 1989)."""
    flat_MK = flat(next(iter(x.values())))
    return np.asarray((flat_MK * (flat_MK**2).sum(axis=1)[:, None]).T @ flat_MK / flat_MK.size)


def shared(x: Coords) -> Floats:
    """Of the first layer: what the next layer shares with it (canonical correlations)."""
    one, other, *_ = (flat(states) for states in x.values())
    cross_KK = one.T @ other / len(one)
    return np.asarray(cross_KK @ cross_KK.T)


AXES: dict[str, Callable[[Coords], Floats]] = {
    "pair": pair_spread,
    "kurtosis": kurtosis,
    "layers": shared,
}


def axes_of(kind: str, x: Coords) -> tuple[Floats, Floats]:
    """Axes (K, K) as columns, by falling eigenvalue, and the skewness along each (K,)."""
    axes_KK = np.linalg.eigh(AXES[kind](x))[1][:, ::-1]
    return axes_KK, skewness(flat(next(iter(x.values()))) @ axes_KK)


def skewness(along_MK: Floats) -> Floats:
    return np.asarray((along_MK**3).mean(axis=0) / (along_MK**2).mean(axis=0) ** 1.5)


def components(flat_MK: Floats) -> Floats:
    """Independent components (K, K) as columns."""
    from sklearn.decomposition import FastICA

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ica = FastICA(whiten=False, max_iter=100, tol=1e-3, random_state=0)
        return np.asarray(ica.fit(flat_MK).components_.T)


QUANTILES = np.linspace(0.02, 0.98, 17)


def tensor_axes(flat_MK: Floats, starts: int = 400, steps: int = 40) -> tuple[Floats, Floats]:
    """Maxima (K, R) of the third moment on the sphere, by power iteration, and its values (R,)."""
    rng = np.random.default_rng(0)
    u_KR = rng.standard_normal((flat_MK.shape[1], starts))
    for _ in range(steps):
        u_KR /= np.linalg.norm(u_KR, axis=0)
        u_KR = flat_MK.T @ (flat_MK @ u_KR) ** 2 / len(flat_MK) + u_KR
    u_KR /= np.linalg.norm(u_KR, axis=0)
    values_R = ((flat_MK @ u_KR) ** 3).mean(axis=0)
    found: list[int] = []
    for at in np.argsort(-values_R):
        if all(abs(u_KR[:, at] @ u_KR[:, other]) < 0.8 for other in found):
            found.append(int(at))
    found = found[: flat_MK.shape[1]]
    return u_KR[:, found], values_R[found]


def moments(x: Coords, told_N: Floats) -> dict[str, Floats]:
    """Matrices (K, K) that turn with the axes, and the mean difference by label (K,).

    "15": of one layer on both sides; "15 12": of two layers.
    """
    out: dict[str, list[Floats]] = {}
    for layer, states_NAK in x.items():
        flat_MK, diff_NK = flat(states_NAK), differences(states_NAK)
        own = [diff_NK.T @ diff_NK / len(diff_NK)]
        for other in x.values():
            weight_M = (flat(other) ** 2).mean(axis=1)
            own.append((flat_MK * (weight_M - weight_M.mean())[:, None]).T @ flat_MK / len(flat_MK))
        weight_N = (diff_NK**2).mean(axis=1)
        own.append((diff_NK * (weight_N - weight_N.mean())[:, None]).T @ diff_NK / len(diff_NK))
        out[f"{layer}"] = [m - np.eye(len(m)) * np.trace(m) / len(m) for m in own]
        for other_layer, other in x.items():
            if other_layer < layer:
                out[f"{layer} {other_layer}"] = [
                    flat_MK.T @ flat(other) / len(flat_MK),
                    diff_NK.T @ differences(other) / len(diff_NK),
                ]
        out[f"label {layer}"] = [(diff_NK * told_N[:, None]).mean(axis=0)[:, None]]
    return {name: np.stack(matrices) for name, matrices in out.items()}


def joint(run: dict[str, Floats], public: dict[str, Floats], turns: Turns, steps: int) -> Turns:
    """Turn all layers so that their moments agree with public ones, by repeated Procrustes."""
    for _ in range(steps):
        pulls = {layer: np.zeros_like(turn) for layer, turn in turns.items()}
        for name, wanted in public.items():
            for here, there in zip(run[name], wanted, strict=True):
                size = np.linalg.norm(there)
                if name.startswith("label"):
                    layer = int(name.split()[1])
                    pulls[layer] += here @ there.T / size**2
                elif " " in name:
                    one, other = map(int, name.split())
                    pulls[one] += here @ turns[other] @ there.T * 2 / size
                    pulls[other] += here.T @ turns[one] @ there * 2 / size
                else:
                    pulls[int(name)] += here @ turns[int(name)] @ there / size
        turns = {layer: polar(pull) for layer, pull in pulls.items()}
    return turns


def matched(run: Coords, cloud: Coords, turns: Turns, steps: int) -> Turns:
    """Match answers of the run softly with public ones (Sinkhorn), turn by them, match again."""
    here = {layer: flat(states) for layer, states in run.items()}
    there = {layer: flat(states) for layer, states in cloud.items()}
    sizes = [sum((x**2).sum(axis=1) for x in side.values()) for side in (here, there)]
    for _ in range(steps):
        near = sum((here[layer] @ turns[layer]) @ there[layer].T for layer in turns)
        far = sizes[0][:, None] + sizes[1][None] - 2 * near
        far -= far.min(axis=1, keepdims=True)
        pull = np.exp(-far / (0.3 * np.median((sizes[0] - 2 * near.max(axis=1)) + sizes[1].mean())))
        for _ in range(10):
            pull /= pull.sum(axis=1, keepdims=True)
            pull /= pull.sum(axis=0, keepdims=True) * pull.shape[1] / pull.shape[0]
        pull /= pull.sum(axis=1, keepdims=True)
        turns = {k: polar(here[k].T @ (pull @ there[k])) for k in turns}
    return turns


# ---------------------------------------------------------------- heads
def ridge(inputs_NK: Floats, targets_N: Floats, pull_K: Floats, towards_K: Floats) -> Floats:
    """Weights (K,) of a logistic regression that are pulled towards others, by Newton's method."""
    weights_K = towards_K.copy()
    for _ in range(12):
        probs_N = 1 / (1 + np.exp(-np.clip(inputs_NK @ weights_K, -30, 30)))
        curve_N = probs_N * (1 - probs_N) + 1e-4
        slope_K = inputs_NK.T @ (probs_N - targets_N) + pull_K * (weights_K - towards_K)
        curve_KK = (inputs_NK * curve_N[:, None]).T @ inputs_NK + np.diag(pull_K)
        weights_K = weights_K - np.linalg.solve(curve_KK, slope_K)
    return weights_K


def linear_head(diff_NK: Floats, labels_N: Floats, pull: float = 100.0) -> Floats:
    width = diff_NK.shape[1]
    return ridge(diff_NK, labels_N, np.full(width, pull), np.zeros(width))


def row_marks(x: Coords, bank: Coords) -> Floats:
    """What no turn changes about each answer (N, 2, F): lengths, distances, angles to the rest."""
    marks = []
    for layer, states_NAK in x.items():
        flat_MK, bank_BK = flat(states_NAK), flat(bank[layer])
        size_M, size_B = (flat_MK**2).sum(axis=1), (bank_BK**2).sum(axis=1)
        near_MB = flat_MK @ bank_BK.T
        far_MB = size_M[:, None] + size_B[None] - 2 * near_MB
        itself_MB = far_MB < 1e-3 * flat_MK.shape[1]
        far_MB[itself_MB] = np.inf
        nearest_MB = np.sort(far_MB, axis=1)[:, :50]
        cosine_MB = near_MB / np.sqrt(size_M[:, None] * size_B[None])
        cosine_MB[itself_MB] = 0
        marks += [np.log(size_M), *(np.log(nearest_MB[:, :n].mean(axis=1)) for n in (1, 5, 50))]
        marks += [(cosine_MB**power).mean(axis=1) for power in (2, 3, 4)]
        for other, states in x.items():
            if other < layer:
                both = near_MB * (flat(states) @ flat(bank[other]).T)
                marks.append(both.mean(axis=1) / flat_MK.shape[1])
    return np.stack(marks, axis=1).reshape(*states_NAK.shape[:2], -1)


def with_squares(marks_NAF: Floats) -> Floats:
    first, second = np.triu_indices(marks_NAF.shape[-1])
    return np.concatenate([marks_NAF, marks_NAF[..., first] * marks_NAF[..., second]], axis=-1)


# ---------------------------------------------------------------- the attacks
class Notes:
    """Arrays that were shipped beside this file."""

    def __init__(self, path: Path) -> None:
        self.packed: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))

    def __getitem__(self, name: str) -> Floats:
        packed = self.packed[name]
        raw = np.frombuffer(base64.b85decode(packed["data"]), packed["type"])
        return raw.reshape(packed["shape"]).astype(np.float64)

    def __iter__(self) -> Any:
        return iter(self.packed)

    def under(self, start: str) -> dict[str, Floats]:
        """Arrays whose names begin so, without the beginning."""
        return {name.removeprefix(start): self[name] for name in self if name.startswith(start)}


def as_it_is(kind: str, x: Coords, labels_N: Floats, notes: Notes) -> Told:
    """A head of the states as they are stored."""
    weights_D = notes["weights"]
    return lambda y: differences(next(iter(y.values()))) @ weights_D


def by_axes(kind: str, x: Coords, labels_N: Floats, notes: Notes) -> Told:
    """A head on axes that are found again by their eigenvalue; its sign by skewness."""
    axes_KK, skew_K = axes_of(kind, x)
    weights_K = notes["weights"] * np.sign(skew_K * notes["skew"])
    return lambda y: differences(next(iter(y.values()))) @ axes_KK @ weights_K


def by_prior(kind: str, x: Coords, labels_N: Floats, notes: Notes) -> Told:
    """Weak labels say the signs; how much an axis may weigh was shipped."""
    axes_KK, skew_K = axes_of(kind, x)
    diff_NK = differences(next(iter(x.values()))) @ axes_KK
    towards_K = notes["towards"] * np.sign(skew_K * notes["skew"])
    pull_K = notes["pull"]
    signs_K = np.sign(ridge(diff_NK, labels_N, pull_K, 0 * towards_K))
    towards_K = np.abs(towards_K) * signs_K if kind == "pair" else towards_K
    weights_K = ridge(diff_NK, labels_N, pull_K, towards_K)
    return lambda y: differences(next(iter(y.values()))) @ axes_KK @ weights_K


def on_pair_axes(kind: str, x: Coords, labels_N: Floats, notes: Notes | None = None) -> Told:
    """Ships nothing: the less the answers of a pair differ along an axis, the less it may weigh."""
    spread_K, axes_KK = np.linalg.eigh(pair_spread(x))
    pull_K = 300 * (spread_K[-1] / np.maximum(spread_K, 0.05 * spread_K[-1])) ** 4
    diff_NK = differences(next(iter(x.values()))) @ axes_KK
    weights_K = ridge(diff_NK, labels_N, pull_K, np.zeros(len(pull_K)))
    return lambda y: differences(next(iter(y.values()))) @ axes_KK @ weights_K


def by_components(kind: str, x: Coords, labels_N: Floats, notes: Notes) -> Told:
    """Independent components, matched by their quantiles (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    flat_MK = flat(next(iter(x.values())))
    axes_KK = components(flat_MK)
    here_KQ = np.quantile(flat_MK @ axes_KK, QUANTILES, axis=0).T
    there_KQ = notes["quantiles"]
    same_KK, other_KK = (
        ((one[:, None] - there_KQ[None]) ** 2).sum(axis=-1) for one in (here_KQ, -here_KQ[:, ::-1])
    )
    here, there = linear_sum_assignment(np.minimum(same_KK, other_KK))
    sign_K = np.where(same_KK <= other_KK, 1, -1)[here, there]
    weights_K = notes["weights"][there] * sign_K
    return lambda y: differences(next(iter(y.values()))) @ axes_KK[:, here] @ weights_K


def by_tensor(kind: str, x: Coords, labels_N: Floats, notes: Notes) -> Told:
    """Maxima of the third moment, in the order of their values."""
    axes_KR, _ = tensor_axes(flat(next(iter(x.values()))))
    count = min(axes_KR.shape[1], len(notes["weights"]))
    axes_KR, weights_R = axes_KR[:, :count], notes["weights"][:count]
    return lambda y: differences(next(iter(y.values()))) @ axes_KR @ weights_R


def by_rows(kind: str, x: Coords, labels_N: Floats, notes: Notes) -> Told:
    """A head on what no turn changes about a row."""

    def told(y: Coords) -> Floats:
        bank = {layer: states[:BANK] for layer, states in x.items()}
        marks_NAF = (row_marks(y, bank) - notes["mean"]) / notes["scale"]
        return differences(with_squares(marks_NAF)) @ notes["weights"]

    return told


def begun(x: Coords, notes: Notes) -> Turns:
    """All layers turned by what the first two share, and the rest by what it shares with these."""
    first, second, *rest = x
    here = np.linalg.svd(flat(x[first]).T @ flat(x[second]) / len(flat(x[first])))
    there = np.linalg.svd(notes[f"moments {first} {second}"][0])
    sign_K = np.sign(
        skewness(flat(x[first]) @ here[0]) * notes["skew first"]
        + skewness(flat(x[second]) @ here[2].T) * notes["skew second"]
    )
    turns = {first: here[0] * sign_K @ there[0].T, second: here[2].T * sign_K @ there[2]}
    for layer in rest:
        cross = flat(x[first]).T @ flat(x[layer]) / len(flat(x[first]))
        turns[layer] = polar(cross.T @ turns[first] @ notes[f"moments {first} {layer}"][0])
    return turns


def by_moments(kind: str, x: Coords, labels_N: Floats, notes: Notes) -> Told:
    """All second moments of all layers at once; by "rows" then matched with shipped answers."""
    public = notes.under("moments ")
    if kind == "unlabelled":
        public = {name: m for name, m in public.items() if not name.startswith("label")}
    turns = joint(moments(x, 2 * labels_N - 1), public, begun(x, notes), 200)
    if kind == "matched":
        cloud = {int(name): states for name, states in notes.under("cloud ").items()}
        turns = matched(x, cloud, turns, 10)

    def told(y: Coords) -> Floats:
        turned = np.hstack([differences(y[layer]) @ turn for layer, turn in turns.items()])
        return turned @ notes["weights"]

    return told


HOW: dict[str, tuple[Callable[[str, Coords, Floats, Notes], Told], str]] = {
    "as_it_is": (as_it_is, ""),
    "pair_axes": (by_axes, "pair"),
    "kurtosis_axes": (by_axes, "kurtosis"),
    "layer_axes": (by_axes, "layers"),
    "prior_on_pair_axes": (by_prior, "pair"),
    "prior_on_layer_axes": (by_prior, "layers"),
    "components": (by_components, ""),
    "third_moments": (by_tensor, ""),
    "row_invariants": (by_rows, ""),
    "second_moments": (by_moments, "unlabelled"),
    "class_moments": (by_moments, "labelled"),
    "clouds_matched": (by_moments, "matched"),
}


class PairAxes:
    """The honest method `on_pair_axes`."""

    def __init__(self, task: Any, student: Any) -> None:
        self.student, self.layers = student, [student.layer]
        labels_N = np.asarray(task.teacher_labels_SN, np.float64).mean(axis=0)
        states = states_of(student, self.layers, task.inputs)
        self.white = White(states)
        self.told = on_pair_axes("", self.white(states), labels_N)

    def predict_proba(self, rows: Sequence[Any]) -> Floats:
        return sigmoid(self.told(self.white(states_of(self.student, self.layers, rows))))


class Known:
    """The labels of known train rows, shipped as one bit a row in the order of their lengths.

    For an author who has the rows: the data set of a package, outside a sandbox.
    """

    def __init__(self, task: Any, student: Any, seed: int, notes: Notes) -> None:
        states = states_of(student, [student.layer], task.inputs)
        longer_N, order_N = lengths(White(states)(states))
        bits_N = np.unpackbits(notes["bits"].astype(np.uint8))[: len(order_N)]
        targets_N = np.empty(len(order_N))
        targets_N[order_N] = bits_N
        targets_N = np.where(longer_N, targets_N, 1 - targets_N)
        options = student.options.model_copy(update={**FEW, "seed": seed})
        self.student = student.new(options).fit(task.inputs, targets_N)

    def predict_proba(self, rows: Sequence[Any]) -> Floats:
        return np.asarray(self.student.predict_proba(rows))


class KnownByMarks:
    """The labels of known rows, shipped with what a turn keeps of each: lengths and a distance.

    For an author who has the texts of the whole set, and so the states of every row, but does not
    know the deal. Rows of the run are recognised by the marks, as likely as the wall's noise has
    it: shipped are the marks' means over the noise and what makes the noise white.
    """

    def __init__(self, task: Any, student: Any, seed: int, notes: Notes) -> None:
        self.student, self.notes = student, notes
        self.layers = sorted(student.layers(task.inputs))
        marks_NF = self.marks(task.inputs)
        self.middle_F = np.median(marks_NF, axis=0)
        labels_N = np.asarray(task.teacher_labels_SN, np.float64).mean(axis=0)
        targets_N = sigmoid(logit(np.clip(labels_N, 0.02, 0.98)) + self.told(marks_NF))
        options = student.options.model_copy(update={**FEW, "seed": seed})
        self.own = student.new(options).fit(task.inputs, targets_N)

    def marks(self, rows: Sequence[Any]) -> Floats:
        return pair_marks(states_of(self.student, self.layers, rows))

    def told(self, marks_NF: Floats) -> Floats:
        """Log-odds (N,) of label 1 by the rows that it may be."""
        here_NF = (marks_NF - self.middle_F) @ self.notes["white"]
        there_RF, labels_R = self.notes["marks"] @ self.notes["white"], self.notes["labels"]
        far_NR = (here_NF**2).sum(1)[:, None] + (there_RF**2).sum(1) - 2 * here_NF @ there_RF.T
        share_NR = np.exp(-(far_NR - far_NR.min(axis=1, keepdims=True)) / 2)
        return logit(np.clip(share_NR @ labels_R / share_NR.sum(axis=1), 0.02, 0.98))

    def predict_proba(self, rows: Sequence[Any]) -> Floats:
        return sigmoid(logit(self.own.predict_proba(rows)) + self.told(self.marks(rows)))


def pair_marks(x: Coords) -> Floats:
    """Return the lengths of both answers and their distance, in each layer (N, 3 x layers)."""
    return np.hstack(
        [
            np.column_stack(
                [np.linalg.norm(states, axis=2), np.linalg.norm(differences(states), axis=1)]
            )
            for _, states in sorted(x.items())
        ]
    )


def lengths(x: Coords) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Whether a row's first answer is the longer one (N,), and the order of the rows (N,)."""
    states_NAK = next(iter(x.values()))
    size_NA = (states_NAK**2).sum(axis=-1)
    return size_NA[:, 0] > size_NA[:, 1], np.argsort(size_NA.sum(axis=1))


class Mixed:
    """An honest method and what was told, by how well each explains the weak labels.

    The honest one is a student or, with `axes`, `PairAxes`.
    """

    def __init__(
        self, task: Any, student: Any, seed: int, how: str, notes: Notes, axes: bool = False
    ) -> None:
        self.student, self.task, self.axes = student, task, axes
        labels_N = np.asarray(task.teacher_labels_SN, np.float64).mean(axis=0)
        others = set(student.layers(task.inputs)) - {student.layer}
        self.layers = [student.layer, *sorted(others, reverse=True)]
        states = states_of(student, self.layers, task.inputs)
        self.white = White(states) if how != "as_it_is" else lambda given: given
        make, kind = HOW[how]
        self.told = make(kind, self.white(states), labels_N, notes)
        self.options = student.options.model_copy(update={**FEW, "seed": seed})
        fold_N = np.random.default_rng(seed).permutation(len(labels_N)) % 2
        own_N = np.zeros(len(labels_N))
        for fold in (0, 1):
            own_N[fold_N == fold] = self.honest(fold_N != fold, labels_N)(
                [row for row, its in zip(task.inputs, fold_N, strict=True) if its == fold]
            )
        told_N = self.told(self.white(states))
        self.sizes = own_N.std() + 1e-12, told_N.std() + 1e-12
        both_N2 = np.stack([own_N / self.sizes[0], told_N / self.sizes[1]], axis=1)
        self.weights = np.maximum(ridge(both_N2, labels_N, np.ones(2), np.zeros(2)), 0)
        self.own = self.honest(np.ones(len(labels_N), bool), labels_N)

    def honest(self, kept_N: NDArray[np.bool_], labels_N: Floats) -> Callable[[Any], Floats]:
        """Log-odds (N,) of rows by the honest method, which was given the kept train rows."""
        rows = [row for row, kept in zip(self.task.inputs, kept_N, strict=True) if kept]
        if not self.axes:
            fitted = self.student.new(self.options).fit(rows, labels_N[kept_N])
            return lambda asked: logit(fitted.predict_proba(asked))
        layers = self.layers[:1]
        states = states_of(self.student, layers, rows)
        white = White(states)
        told = on_pair_axes("", white(states), labels_N[kept_N])
        return lambda asked: told(white(states_of(self.student, layers, asked)))

    def predict_proba(self, rows: Sequence[Any]) -> Floats:
        told_N = self.told(self.white(states_of(self.student, self.layers, rows)))
        both_N2 = np.stack([self.own(rows) / self.sizes[0], told_N / self.sizes[1]], axis=1)
        return sigmoid(both_N2 @ self.weights)


def states_of(student: Any, layers: Sequence[int], rows: Sequence[Any]) -> Coords:
    return {layer: student.at(layer).states(rows).astype(np.float64) for layer in layers}


def sigmoid(odds_N: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds_N, -30, 30))))


def logit(probs_N: Floats) -> Floats:
    probs_N = np.clip(np.asarray(probs_N, np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(np.log(probs_N / (1 - probs_N)))
