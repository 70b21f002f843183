"""Features of the rows of a verified run, in the form in which a method is given them.

States are whitened and turned, so that weights learned elsewhere fit nothing. A turn keeps lengths
and angles, which would identify rows. So noise is added, and all states are scaled to one length.
Log-likelihoods are rounded, so that rows are not known again by them, and clouds of public states
are less easily laid over those of the run: which rows have like log-likelihoods is how that begins.
Those of an author's words after a template have two levels: the words could be guesses of a text.
What all seeds of a re-run share is worked out once. A template about rows has a table of its own,
and a basis: what is known of one template's rows says nothing of another's coordinates.

Not covered: a fit that matches the clouds row by row needs few levels to begin, and keeps most of
its gain (benchmarks/blind.md); a formula on log-likelihoods that was fitted elsewhere keeps what
rounding leaves of them. So the judge writes down who asks for them.
Legend: N rows, A answers a row, M answers of several rows, U answers of all rows of the re-run, D
state width, K axes.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from aarlab.core.types import Example
from aarlab.testbed.students.features import LOGP, FeatureSource

Basis = Literal["secret", "still", "turned", "plain"]
Floats32 = NDArray[np.float32]
AXES, ROWS_PER_AXIS = 128, 4  # of states: more axes are noise, which whitening would enlarge
# Noise on whitened states, in standard deviations of an axis, and one length for all. Without them
# the lengths of the two answers of a pair and their distance, in a few layers, name rows in every
# basis, and labels that are shipped with these marks fit (benchmarks/noise.py).
NOISE = 0.1
# Rounding of log P(answer | prompt) - log P(answer), log P(answer) and the number of tokens, in
# standard deviations over the train rows. Coarser steps stop more, and cost methods that use them.
STEPS = (1.0, 2.0, 2.0)
TIES = 1e-3  # noise in standard deviations, so that a threshold parts rows of one level by chance


@dataclass(slots=True)
class Table:
    """Features of all rows of a re-run by answer; several seeds may read it at one time.

    `train` are the rows on which states are whitened, `others` the rows to predict and their twins.
    With `words` the answers are these words, which follow a template about each row.
    """

    features: FeatureSource
    train: Sequence[Example]
    others: Sequence[Example]
    words: tuple[str, ...] = ()
    _place: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _kept: dict[tuple[str, int], Any] = field(default_factory=dict)
    _rows: list[Example] = field(default_factory=list)

    def __post_init__(self) -> None:
        for row in (*self.train, *self.others):
            if self._place.setdefault((row.prompt, row.answers), len(self._rows)) == len(
                self._rows
            ):
                self._rows.append(row)

    @property
    def rows(self) -> Sequence[Example]:
        """Return the different rows, in the order of the tables."""
        return self._rows

    def numbers(self, rows: Sequence[Example]) -> NDArray[np.int32]:
        """Return where these rows stand among the different rows (N,)."""
        return np.array([self._place[row.prompt, row.answers] for row in rows], np.int32)

    def places(self, rows: Sequence[Example]) -> NDArray[np.intp]:
        """Return where the answers of these rows stand in the tables (M,)."""
        return self.places_of(self.numbers(rows))

    def places_of(self, numbers_N: NDArray[np.int32]) -> NDArray[np.intp]:
        """Return where the answers of the rows with these numbers stand in the tables (M,)."""
        n_answers = len(self.words) or len(self._rows[0].answers)
        found = numbers_N[:, None] * n_answers + np.arange(n_answers)
        return found.reshape(-1).astype(np.intp)

    def logp(self) -> Floats32:
        """Return log-likelihoods (U, 3) in the order of LOGP."""

        def made() -> Floats32:
            table = np.stack(self.features.answer_logp(self._rows), axis=-1)
            return table.reshape(-1, len(LOGP)).astype(np.float32)

        return self._once("logp", 0, made)

    def coarse_logp(self, rng: np.random.Generator) -> Floats32:
        """Return rounded log-likelihoods (U, 3); `rng` draws the noise that breaks ties."""
        logp_NA3 = self.logp().reshape(len(self._rows), -1, len(LOGP))
        train_N = np.unique(self.places(self.train) // logp_NA3.shape[1])
        coarse = halved if self.words else rounded
        return coarse(logp_NA3, train_N, rng).reshape(-1, len(LOGP))

    def states(self, layer: int) -> Floats32:
        """Return the states of a layer (U, D) as they are stored."""

        def made() -> Floats32:
            states_NAD = self.features.states(self._rows, layer)
            return states_NAD.reshape(-1, states_NAD.shape[-1])

        return self._once("states", layer, made)

    def white(self, layer: int) -> Floats32:
        """Return the whitened states of a layer (U, K)."""

        def made() -> Floats32:
            states_UD = self.states(layer)
            centre_D, white_DK = whitening(states_UD[self.places(self.train)])
            return np.asarray((states_UD - centre_D) @ white_DK, np.float32)

        return self._once("white", layer, made)

    def turned(self, layer: int, basis: Basis, rng: Callable[[], np.random.Generator]) -> Floats32:
        """Return states (U, D) in a basis and, if "secret", with noise, both drawn from `rng`.

        "secret" states have one length too. "plain" gives states as they are stored and draws
        nothing.
        """
        if basis == "plain":
            return self.states(layer)
        generator = rng()
        width = self.states(layer).shape[1]
        given_UK = self.states(layer) if basis == "turned" else self.white(layer)
        turn_KD = secret_basis(width, generator, given_UK.shape[1])
        if basis == "secret":
            spread = NOISE * given_UK[self.places(self.train)].std()
            given_UK = given_UK + spread * generator.standard_normal(given_UK.shape, np.float32)
            given_UK = even(given_UK)
        return np.asarray(given_UK @ turn_KD, np.float32)

    def _once(self, what: str, layer: int, make: Callable[[], Floats32]) -> Floats32:
        with self._lock:
            if (what, layer) not in self._kept:
                self._kept[what, layer] = make()
            found: Floats32 = self._kept[what, layer]
            return found


def even(states_UK: Floats32) -> Floats32:
    """Scale all states (U, K) to the median of their lengths; a state of zeros stays."""
    size_U = np.linalg.norm(states_UK, axis=1, keepdims=True)
    return np.asarray(states_UK * (np.median(size_U) / np.maximum(size_U, 1e-9)), np.float32)


def secret_basis(width: int, rng: np.random.Generator, count: int | None = None) -> Floats32:
    """Draw `count` orthonormal rows (count, D), uniformly over all (Mezzadri 2007).

    Without `count` it is an orthogonal matrix (D, D).
    """
    with threadpool_limits(1):  # 0.03 s; on busy cores threads that wait make it seconds
        q_DK, r_KK = np.linalg.qr(rng.standard_normal((width, count or width)))
    return np.ascontiguousarray((q_DK * np.sign(np.diag(r_KK))).T, np.float32)


def whitening(states_MD: Floats32) -> tuple[Floats32, Floats32]:
    """Return the mean (D,) and a matrix (D, K) onto at most AXES principal axes of equal variance.

    Turned states keep the shape of their cloud: laid over a cloud of like rows whose labels are
    known, they gave a shipped head back what the basis took (benchmarks/blind.md). Equal variances
    leave nothing to lay over. The states are scaled so that their total variance stays what it was.
    """
    centre_D = states_MD.mean(axis=0)
    with threadpool_limits(1):
        spread_D, axes_DD = np.linalg.eigh(np.cov(states_MD.T.astype(np.float64), bias=True))
    count = max(
        1, min(AXES, len(states_MD) // ROWS_PER_AXIS, int((spread_D > 1e-9 * spread_D[-1]).sum()))
    )
    white_DK = axes_DD[:, -count:] * np.sqrt(spread_D.sum() / count / spread_D[-count:])
    return centre_D, white_DK.astype(np.float32)


def rounded(logp_NA3: Floats32, train_N: NDArray[np.intp], rng: np.random.Generator) -> Floats32:
    """Round log-likelihoods (N, A, 3) in the order of LOGP; `train_N` are the rows of the scale.

    Levels lie half a step away from the mean over the train rows, so that each value keeps its
    side. Of two answers the mean and the difference are rounded, the difference about 0.
    """
    given_NA, alone_NA, tokens_NA = np.moveaxis(logp_NA3.astype(np.float64), -1, 0)
    columns = zip((given_NA - alone_NA, alone_NA, tokens_NA), STEPS, strict=True)
    pmi_NA, alone_NA, tokens_NA = (_levels(values, train_N, step, rng) for values, step in columns)
    tokens_NA = np.maximum(np.round(tokens_NA), 1)
    return np.stack([alone_NA + pmi_NA, alone_NA, tokens_NA], axis=-1).astype(np.float32)


def halved(logp_NA3: Floats32, train_N: NDArray[np.intp], rng: np.random.Generator) -> Floats32:
    """Give log P(word | template) (N, A, 3) two levels, one on each side of the train rows' mean.

    An author chooses the words, so that one may be what a text says: such a row would stand out by
    any number of levels. Of two words the mean and the difference have two levels each.
    """
    given_NA = logp_NA3[..., 0].astype(np.float64)
    parts_NA = given_NA
    if given_NA.shape[1] == 2:
        parts_NA = np.stack([given_NA.mean(axis=1), given_NA[:, 0] - given_NA[:, 1]], axis=1) / 2
    centre_A, spread_A = parts_NA[train_N].mean(axis=0), parts_NA[train_N].std(axis=0)
    sides_NA = np.where(parts_NA > centre_A, 0.5, -0.5)
    sides_NA = sides_NA + TIES * rng.uniform(-0.5, 0.5, sides_NA.shape)
    parts_NA = centre_A + spread_A * sides_NA
    if given_NA.shape[1] == 2:
        mean_N, half_N = 2 * parts_NA[:, 0], parts_NA[:, 1]
        parts_NA = np.stack([mean_N + half_N, mean_N - half_N], axis=1)
    return np.concatenate([parts_NA[..., None], logp_NA3[..., 1:]], axis=-1).astype(np.float32)


def _levels(
    values_NA: NDArray[np.float64],
    train_N: NDArray[np.intp],
    step: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    if values_NA.shape[1] != 2:
        return _level(values_NA, values_NA[train_N].mean(), values_NA[train_N].std(), step, rng)
    mean_N, half_N = values_NA.mean(axis=1), (values_NA[:, 0] - values_NA[:, 1]) / 2
    mean_N = _level(mean_N, mean_N[train_N].mean(), mean_N[train_N].std(), step, rng)
    half_N = _level(half_N, 0.0, float(np.sqrt(np.mean(half_N[train_N] ** 2))), step, rng)
    return np.stack([mean_N + half_N, mean_N - half_N], axis=1)


def _level(
    values: NDArray[np.float64],
    centre: float,
    spread: float,
    step: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    size = step * spread
    if size < 1e-9:
        return values
    levels = centre + (np.floor((values - centre) / size) + 0.5) * size
    return np.asarray(levels + TIES * spread * rng.uniform(-0.5, 0.5, values.shape))
