"""A sampler that learns from every checkpoint: a Gaussian process over settings and how far a training has come.

Optuna's own samplers know of a trial one value, and of a stopped one not even that. Here each scored checkpoint counts
for what it is, a value at a share of its training, so that stopped trials teach what they have shown, and no value of a
tenth of a training is taken for one of a whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from scipy.spatial.distance import cdist
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from threadpoolctl import threadpool_limits

from search.config.space import Space, Value
from search.study.samplers.distributions import SAME_AS, distributions, parameter
from search.study.samplers.unit_cube import Array, UnitCube

MOST_ROWS = 200
"""Checkpoints that the model is fitted to; its time grows with their cube."""

CANDIDATES = 2000
"""Random points among which the next configuration is chosen."""

BEST, NEIGHBOURS = 5, 100
"""Trials around which as many more points are drawn."""

APART = 10
"""Random points of the fewest steps, of which a start-up trial is the one farthest from all trials before."""

PRICE = 0.25
"""Exponent of a training's steps, by which its expected improvement is divided. By 1 a search takes to short trainings
and ends with worse ones, by 0 it pays for long ones before it knows where (measured by `benchmarks.search_cost`)."""

FAR_BELOW = -20.0
"""Standard deviations below the best from which on improvement has to be reckoned with by its asymptote."""


class CurveSampler(BaseSampler):
    """Proposes the training that promises most for its price.

    A Gaussian process (squared-exponential with a length scale for each setting, and noise) is fitted to the values of
    all checkpoints so far over settings and share of the training that is done, in the spirit of Freeze-Thaw (Swersky
    et al. 2014, arXiv:1406.3896). What a whole training is expected to improve over the best that the model believes to
    be known is divided by a power of the training's steps, to which its time is proportional, scores included (after
    the expected improvement per second of Snoek et al. 2012, arXiv:1206.2944). Trainings under way count as if they
    would end as expected, which keeps proposals apart.

    Values are warped first: those below the median by their ranks, as Google's Vizier does (Song et al. 2024,
    arXiv:2408.11527), for how far a candidate lies beyond its limits says nothing of where the best one is.

    The same seed, the same results and the same trials under way propose the same configuration.

    Args:
        space: What varies.
        seed: Of the draws.
        startup_trials: Trials with a checkpoint before the model proposes; until then draws are random, but of the
            fewest steps and apart from each other.
        steps: Optimizer steps of a training where the space does not say.
    """

    def __init__(self, space: Space, *, seed: int, startup_trials: int, steps: int) -> None:
        self._space = space
        self._cube = UnitCube(space)
        self._names = {parameter(name, dimension): name for name, dimension in space.items()}
        self._distributions = distributions(space)
        self._seed = seed
        self._startup = startup_trials
        self._steps = steps
        self._random = RandomSampler(seed=seed)
        self._points: dict[int, Array] = {}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All of the space."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next configuration, by parameter."""
        random = np.random.default_rng((self._seed, trial.number))
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
        others = [other for other in study.get_trials(deepcopy=False, states=states) if self._counts(other, trial)]
        curves = [other for other in others if other.intermediate_values]
        points = self._candidates(curves, others, random)
        price = PRICE * np.log(self._planned(points))
        if len(curves) < self._startup:
            # Where nothing is known every point promises the same: the cheapest are left, and one apart from all.
            chosen = self._apart(points[np.argsort(price, kind="stable")[:APART]], others)
        else:
            # More threads make matrices of this size no faster, and are taken from the trainings beside it.
            with threadpool_limits(limits=1):
                chosen = points[int(np.argmax(self._promise(curves, others, points) - price))]
        return {parameter(name, self._space[name]): value for name, value in self._cube.draw(chosen).items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What a configuration given by a user has left open."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _counts(self, other: FrozenTrial, trial: FrozenTrial) -> bool:
        """Whether a trial is one to learn from or to keep away from: neither a duplicate nor half drawn."""
        if other.number == trial.number or SAME_AS in other.user_attrs:
            return False
        if other.number not in self._points:
            draw: Mapping[str, Value] = {self._names[name]: value for name, value in other.params.items()}
            point = self._cube.point(draw)
            if any(parameter(name, self._space[name]) not in other.params for name in self._cube.draw(point)):
                return False
            self._points[other.number] = point
        return True

    def _planned(self, points: Array) -> Array:
        """The optimizer steps of whole trainings."""
        if "steps" in self._space:
            return self._cube.numbers("steps", points)
        return np.full(len(points), float(self._steps))

    def _candidates(self, curves: Sequence[FrozenTrial], others: Sequence[FrozenTrial], random: Any) -> Array:
        """Points anywhere, then points near the best; none that was proposed before, where there are others."""
        best = sorted(curves, key=_best_value, reverse=True)[:BEST]
        points = self._cube.random(CANDIDATES, random)
        if best:
            centres = np.repeat([self._points[trial.number] for trial in best], NEIGHBOURS, axis=0)
            points = np.concatenate([points, self._cube.near(centres, random)])
        known = {self._cube.features(self._points[other.number][None]).tobytes() for other in others}
        fresh = [row.tobytes() not in known for row in self._cube.features(points)]
        return points[fresh] if any(fresh) else points

    def _apart(self, points: Array, others: Sequence[FrozenTrial]) -> Array:
        """The point farthest from what was proposed before (best-candidate sampling: Mitchell 1991)."""
        place = 0
        if others:
            known = self._cube.features(np.array([self._points[other.number] for other in others]))
            place = int(np.argmax(cdist(self._cube.features(points), known).min(axis=1)))
        chosen: Array = points[place]
        return chosen

    def _promise(self, curves: Sequence[FrozenTrial], others: Sequence[FrozenTrial], points: Array) -> Array:
        """Logarithm of the expected improvement by whole trainings, of shape (points,)."""
        rows, values = self._rows(curves)
        model = _fitted(rows, values)
        best = float(model.predict(rows).max())
        running = [other for other in others if not other.state.is_finished()]
        if running:
            ends = self._at_their_ends(np.array([self._points[trial.number] for trial in running]))
            rows, values = np.concatenate([rows, ends]), np.concatenate([values, model.predict(ends)])
            model = GaussianProcessRegressor(model.kernel_, optimizer=None).fit(rows, values)
        mean, deviation = model.predict(self._at_their_ends(points), return_std=True)
        noise = model.kernel_.k2.noise_level  # how far a score is off does not make a configuration any better
        deviation = np.sqrt(np.maximum(deviation**2 - noise, 1e-8))
        return log_expected_improvement(mean, deviation, best)

    def _rows(self, curves: Sequence[FrozenTrial]) -> tuple[Array, Array]:
        """What the model is fitted to: features, of shape (checkpoints, features), and values around 0."""
        points = np.array([self._points[trial.number] for trial in curves])
        planned, features = self._planned(points), self._cube.features(points)
        scored = [(place, step) for place, trial in enumerate(curves) for step in sorted(trial.intermediate_values)]
        rows = np.array([[*features[place], min(1.0, step / planned[place])] for place, step in scored])
        values = warped(np.array([curves[place].intermediate_values[step] for place, step in scored]))
        kept = _kept(values)
        values = values[kept]
        return rows[kept], (values - values.mean()) / (values.std() or 1.0)

    def _at_their_ends(self, points: Array) -> Array:
        return np.concatenate([self._cube.features(points), np.ones((len(points), 1))], axis=1)


def _best_value(trial: FrozenTrial) -> float:
    return max(trial.intermediate_values.values())


def _kept(values: Array) -> NDArray[np.int64]:
    """Places of at most `MOST_ROWS` values: the highest half, and of the others an even choice by rank."""
    order = np.argsort(-values, kind="stable")
    half = MOST_ROWS // 2
    if len(values) <= MOST_ROWS:
        return order
    spread = np.linspace(half, len(values) - 1, MOST_ROWS - half).round().astype(np.int64)
    kept: NDArray[np.int64] = order[np.concatenate([np.arange(half), spread])]
    return kept


def _fitted(rows: Array, values: Array) -> GaussianProcessRegressor:
    kernel = ConstantKernel(1.0, (0.1, 20.0)) * RBF(np.ones(rows.shape[1]), (0.15, 20.0)) + WhiteKernel(
        0.02, (1e-3, 0.3)
    )
    with warnings.catch_warnings():
        # A setting without effect drives its length scale to the bound, which is an answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianProcessRegressor(kernel).fit(rows, values)


def warped(values: Array) -> Array:
    """Values whose lower half is spread as the lower half of a normal distribution, by rank; the upper half stays.

    Its deviation is what the upper half has around the median (Song et al. 2024, arXiv:2408.11527, "half-rank
    warping").

    Args:
        values: Finite, at least one.
    """
    middle = float(np.median(values))
    upper = values[values >= middle]
    deviation = float(np.sqrt(np.mean((upper - middle) ** 2))) or 1.0
    distinct = np.unique(values)
    ranks = (np.searchsorted(distinct, values) + 0.5) / (np.searchsorted(distinct, middle) + 0.5)
    return np.where(values < middle, middle + deviation * norm.ppf(np.clip(ranks / 2, 1e-3, 0.5)), values)


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Logarithm of the expected improvement over `best`, which far below it is no longer a number of its own.

    Args:
        mean: What is expected, of shape (points,).
        deviation: Its standard deviation, positive, of the same shape.
        best: What is to be improved.
    """
    distance = (mean - best) / deviation
    near = np.maximum(distance, FAR_BELOW)
    far = np.minimum(distance, FAR_BELOW)
    reckoned = np.log(norm.pdf(near) + near * norm.cdf(near))
    asymptote = norm.logpdf(far) - 2 * np.log(-far)
    improvement: Array = np.log(deviation) + np.where(distance > FAR_BELOW, reckoned, asymptote)
    return improvement
