"""A surrogate: a model of recorded trials that stands in for training and scoring when searches are compared.

A Gaussian process over the settings and the share of the training that is done: a smooth function of these, what the
checkpoints of one training have in common beyond it (the luck of its seed), and what each has for itself. Without the
second part luck would be taken for the effect of settings. Search values span from about 0.5 to -60, where no image
shows a face, and the differences that decide lie near the top; so below 0 it models their logarithm.

How far trainings of the same settings differ is not modelled but was measured: some were recorded several times.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from benchmarks.search_cost.recording import RecordedTrial
from search.config.space import Value

FOLDS = 10

LEAST_TRIALS = 12
"""Fewer recorded trials say nothing about six settings."""

SQUEEZE = 0.05
"""Search values far below minus this count as their logarithm."""

LEAST_LENGTH = 0.3
"""Over which the smooth function may change, in units of `_features`; a third of a doubling of the steps, say."""

TOGETHER = 0.5
"""Share of the training over which luck stays the same."""

APART = 3
"""Digits behind the point in which the features of repeated trainings agree."""

OWNER = 1e-9
"""Unit in which a feature counts the trials: none to the smooth function, but the luck's kernel sees it."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How well the surrogate predicts trials that it has not seen, by cross-validation over whole trials."""

    error: float
    """Median absolute error of the last checkpoint's value, in units of the search value."""
    top_error: float
    """The same over the better half of the trials."""
    rank_correlation: float
    """Spearman's, of the values of the last checkpoints."""
    noise: float
    """Standard deviation of a checkpoint's value between trainings of the same settings."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The processor's seconds that training and scoring take: medians of the recording, by what is adapted."""

    step: Mapping[str, float]
    """Of an optimizer step, by `targets`."""
    scoring: Mapping[str, float]
    """Of a scored checkpoint, by `targets`."""

    @classmethod
    def of(cls, trials: Sequence[RecordedTrial]) -> Costs:
        """Medians, since other work on the recording machine, which shares its caches, lengthens single figures."""
        step: dict[str, list[float]] = {}
        scoring: dict[str, list[float]] = {}
        for trial in trials:
            targets, before = str(trial.params["targets"]), 0
            for checkpoint in trial.checkpoints:
                step.setdefault(targets, []).append(checkpoint.training_seconds / (checkpoint.step - before))
                scoring.setdefault(targets, []).append(checkpoint.scoring_seconds)
                before = checkpoint.step
        return cls(
            step={targets: median(values) for targets, values in step.items()},
            scoring={targets: median(values) for targets, values in scoring.items()},
        )


class Surrogate:
    """Fitted to at least `LEAST_TRIALS` recorded trials, some of them repetitions.

    Raises:
        ValueError: there are fewer, or no repetitions.
    """

    def __init__(self, trials: Sequence[RecordedTrial]) -> None:
        if len(trials) < LEAST_TRIALS:
            raise ValueError(
                f"{len(trials)} recorded trials are too few for a surrogate; record {LEAST_TRIALS} or more"
            )
        self.costs = Costs.of(trials)
        rows, values = _table(trials)
        self._model = _fitted(rows, values)
        owners = np.rint(rows[:, -1] / OWNER).astype(np.int64)
        last = np.array([np.flatnonzero(owners == owner)[-1] for owner in range(len(trials))])
        true, predicted = unsqueezed(values[last]), unsqueezed(self._held_out(rows, values, owners)[last])
        errors, better = np.abs(true - predicted), true >= np.median(true)
        self._deviations = _deviations(trials)
        self.fit = Fit(
            error=float(np.median(errors)),
            top_error=float(np.median(errors[better])),
            rank_correlation=float(spearmanr(true, predicted).statistic),
            noise=math.sqrt(mean(float(value) ** 2 for _, curve in self._deviations for value in curve)),
        )

    def _held_out(self, rows: Array, values: Array, owners: NDArray[np.int64]) -> Array:
        """Every row's value as predicted by a model that has seen no trial of the same settings, squeezed."""
        predicted = np.empty_like(values)
        settings = np.unique(rows[:, :-2].round(APART), axis=0, return_inverse=True)[1].ravel()
        for fold in range(min(FOLDS, len(np.unique(settings)))):
            held = settings % FOLDS == fold
            model = GaussianProcessRegressor(self._model.kernel_, optimizer=None, normalize_y=True)
            predicted[held] = model.fit(rows[~held], values[~held]).predict(_strange(rows[held]))
        return predicted

    def mean(self, params: Mapping[str, Value], steps: Sequence[int]) -> Array:
        """Search values of checkpoints of a configuration at some of its steps, without noise: its true scores."""
        return unsqueezed(self._model.predict(_rows(params, steps)))

    def trial(self, params: Mapping[str, Value], steps: Sequence[int], random: Generator) -> Array:
        """The same as one training shows them: off by as much as one of the repeated trainings was off their mean."""
        predicted = self._model.predict(_rows(params, steps))
        shares, deviations = self._deviations[int(random.integers(len(self._deviations)))]
        planned = int(params["steps"])
        return unsqueezed(predicted + np.interp([step / planned for step in steps], shares, deviations))


def _deviations(trials: Sequence[RecordedTrial]) -> list[tuple[Array, Array]]:
    """How far each repeated training is off the mean of its like: shares of the training, and squeezed differences.

    They are widened by what a mean over so few trainings has taken of them.

    Raises:
        ValueError: no training was repeated.
    """
    alike: dict[tuple[float, ...], list[RecordedTrial]] = {}
    for trial in trials:
        settings = [round(feature, APART) for feature in _features(trial.params, trial.steps)[:-1]]
        scored = [checkpoint.step for checkpoint in trial.checkpoints]
        alike.setdefault((*settings, *scored), []).append(trial)
    deviations = []
    for group in (group for group in alike.values() if len(group) > 1):
        curves = squeezed(np.array([[checkpoint.search_value for checkpoint in trial.checkpoints] for trial in group]))
        shares = np.array([checkpoint.step / group[0].steps for checkpoint in group[0].checkpoints])
        wider = math.sqrt(len(group) / (len(group) - 1))
        deviations += [(shares, deviation) for deviation in wider * (curves - curves.mean(axis=0))]
    if not deviations:
        raise ValueError("none of the recorded trainings was repeated, which says how far they differ by their seeds")
    return deviations


def squeezed(values: Array) -> Array:
    """Search values on the scale of the model."""
    return np.where(values < 0, -SQUEEZE * np.log1p(-np.minimum(values, 0) / SQUEEZE), values)


def unsqueezed(values: Array) -> Array:
    """Back from the scale of the model."""
    return np.where(values < 0, -SQUEEZE * np.expm1(-np.minimum(values, 0) / SQUEEZE), values)


def _features(params: Mapping[str, Value], step: int) -> list[float]:
    planned = int(params["steps"])
    rate, rank, alpha = (float(params[name]) for name in ("learning_rate", "rank", "alpha"))
    return [
        2 * math.log10(rate * alpha / rank),  # by which a step changes the model
        2 * math.log10(rate),
        math.log2(rank) / 2,
        math.log2(alpha) / 2,
        0.0 if params["targets"] == "attention" else 1.0,
        2 * math.log10(planned),
        step / planned,
    ]


def _rows(params: Mapping[str, Value], steps: Sequence[int]) -> Array:
    """Features and owner of a training that was not recorded, of shape (steps, features + 1)."""
    return _strange(np.array([[*_features(params, step), 0.0] for step in steps]))


def _strange(rows: Array) -> Array:
    """The same rows as of one training that was not recorded: nothing is known of its luck."""
    return np.concatenate([rows[:, :-1], np.full((len(rows), 1), -OWNER)], axis=1)


def _table(trials: Sequence[RecordedTrial]) -> tuple[Array, Array]:
    """Features with the trial's place in units of `OWNER`, and the squeezed value, of every checkpoint."""
    rows = [
        ([*_features(trial.params, checkpoint.step), place * OWNER], checkpoint.search_value)
        for place, trial in enumerate(trials)
        for checkpoint in trial.checkpoints
    ]
    features, values = zip(*rows, strict=True)
    return np.array(features), squeezed(np.array(values))


def _fitted(rows: Array, values: Array) -> GaussianProcessRegressor:
    settings = rows.shape[1] - 2
    smooth = ConstantKernel(1.0) * RBF(np.full(settings + 2, 2.0), (LEAST_LENGTH, 50.0))
    alike = [1e9] * settings  # luck asks for the trial and nothing else
    luck = ConstantKernel(0.1, (1e-6, 10.0)) * RBF(np.array([*alike, TOGETHER, OWNER / 10]), "fixed")
    model = GaussianProcessRegressor(
        smooth + luck + WhiteKernel(0.01, (1e-6, 1.0)), normalize_y=True, random_state=0, n_restarts_optimizer=3
    )
    with warnings.catch_warnings():
        # A setting without effect drives its length scale to the bound, which is an answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows, values)
