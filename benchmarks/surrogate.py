"""A surrogate: a model of recorded trials that stands in for training and scoring when searches are compared.

A Gaussian process over the settings and the share of the training that is done: a smooth function of these, what the
checkpoints of one training have in common beyond it (the luck of its seed), and what each has for itself. Without the
second part luck would be taken for the effect of settings. Search values span from about 0.5 to -60, where no image
shows a face, and the differences that decide lie near the top; so below 0 it models their logarithm.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from benchmarks.recording import RecordedTrial
from search.space import Value

FOLDS = 10

LEAST_TRIALS = 12
"""Fewer recorded trials say nothing about six settings."""

NEIGHBOURS = 0.25
"""Share of the recorded trials, those with the likeliest final values, of which a simulated trial draws its noise."""

SQUEEZE = 0.05
"""Search values far below minus this count as their logarithm."""

LEAST_LENGTH = 0.3
"""Over which the smooth function may change, in units of `_features`; a third of a doubling of the steps, say."""

APART = 0.01
"""Two trainings whose settings differ by more have no luck in common."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How well the surrogate foretells trials that it has not seen, by cross-validation over whole trials."""

    error: float
    """Median absolute error of the last checkpoint's value, in units of the search value."""
    top_error: float
    """The same over the better half of the trials."""
    rank_correlation: float
    """Spearman's, of the values of the last checkpoints."""


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
    """Fitted to at least `LEAST_TRIALS` recorded trials.

    Raises:
        ValueError: there are fewer.
    """

    def __init__(self, trials: Sequence[RecordedTrial]) -> None:
        if len(trials) < LEAST_TRIALS:
            raise ValueError(
                f"{len(trials)} recorded trials are too few for a surrogate; record {LEAST_TRIALS} or more"
            )
        self.costs = Costs.of(trials)
        self._trials = tuple(trials)
        features, values, owners = _table(self._trials)
        self._model = _fitted(features, values)
        held_out = self._held_out(features, values, owners)
        last = np.array([np.flatnonzero(owners == owner)[-1] for owner in range(len(self._trials))])
        true, foretold = unsqueezed(values[last]), unsqueezed(held_out[last])
        errors, better = np.abs(true - foretold), true >= np.median(true)
        self.fit = Fit(
            error=float(np.median(errors)),
            top_error=float(np.median(errors[better])),
            rank_correlation=float(spearmanr(true, foretold).statistic),
        )
        self._residuals = [
            (features[owners == owner, -1], (values - held_out)[owners == owner]) for owner in range(len(self._trials))
        ]
        self._foretold = held_out[last]

    def _held_out(self, features: Array, values: Array, owners: NDArray[np.int64]) -> Array:
        """Every row's value as foretold by a model that has seen no row of its trial, squeezed."""
        foretold = np.empty_like(values)
        for fold in range(min(FOLDS, len(self._trials))):
            held = owners % FOLDS == fold
            model = GaussianProcessRegressor(self._model.kernel_, optimizer=None, normalize_y=True)
            foretold[held] = model.fit(features[~held], values[~held]).predict(features[held])
        return foretold

    def mean(self, params: Mapping[str, Value], steps: Sequence[int]) -> Array:
        """Search values of checkpoints of a configuration at some of its steps, without noise: its true scores."""
        return unsqueezed(self._squeezed_mean(params, steps))

    def trial(self, params: Mapping[str, Value], steps: Sequence[int], random: Generator) -> Array:
        """The same as one training shows them: with the error of a recorded trial of a like final value."""
        mean = self._squeezed_mean(params, steps)
        count = max(2, round(NEIGHBOURS * len(self._trials)))
        nearest = np.argsort(np.abs(self._foretold - mean[-1]), kind="stable")[:count]
        shares, errors = self._residuals[int(random.choice(nearest))]
        planned = int(params["steps"])
        return unsqueezed(mean + np.interp([step / planned for step in steps], shares, errors))

    def _squeezed_mean(self, params: Mapping[str, Value], steps: Sequence[int]) -> Array:
        mean: Array = self._model.predict(np.array([_features(params, step) for step in steps]))
        return mean


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


def _table(trials: Sequence[RecordedTrial]) -> tuple[Array, Array, NDArray[np.int64]]:
    """Features, squeezed values and the trial's place of every checkpoint."""
    rows = [
        (_features(trial.params, checkpoint.step), checkpoint.search_value, place)
        for place, trial in enumerate(trials)
        for checkpoint in trial.checkpoints
    ]
    features, values, owners = zip(*rows, strict=True)
    return np.array(features), squeezed(np.array(values)), np.array(owners)


def _fitted(features: Array, values: Array) -> GaussianProcessRegressor:
    settings = features.shape[1] - 1
    smooth = ConstantKernel(1.0) * RBF(np.full(settings + 1, 2.0), (LEAST_LENGTH, 50.0))
    luck = ConstantKernel(0.1) * RBF(np.array([APART] * settings + [0.5]), "fixed")
    model = GaussianProcessRegressor(
        smooth + luck + WhiteKernel(0.01, (1e-6, 1.0)), normalize_y=True, random_state=0, n_restarts_optimizer=3
    )
    with warnings.catch_warnings():
        # A setting without effect drives its length scale to the bound, which is an answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, values)
