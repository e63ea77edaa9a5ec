"""Ways to compute an interval for a mean over images that share prompts and seeds, to be compared by their coverage.

Legend: runs = trainings of one configuration; every array of values is [runs, prompts, seeds].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from evaluation.bootstrap import Values, bootstrap_interval

Bounds = tuple[float, float]
Method = Callable[[Values, float, Generator], Bounds]
"""Values, level and randomness to the lower and upper bound."""

RESAMPLES = 500


def images(values: Values, level: float, random: Generator) -> Bounds:
    """Percentile bootstrap of all images as if each were drawn for itself (Efron and Tibshirani 1993)."""
    flat = values.ravel()
    chosen = random.integers(flat.size, size=(RESAMPLES, flat.size))
    return _quantiles(flat[chosen].mean(axis=1), level)


def crossed(values: Values, level: float, random: Generator) -> Bounds:
    """The project's own: runs, prompts and seeds resampled each for itself ('pigeonhole bootstrap', Owen 2007)."""
    interval = bootstrap_interval(values, seed=int(random.integers(2**31)), level=level, resamples=RESAMPLES)
    return interval.lower, interval.upper


def prompts(values: Values, level: float, random: Generator) -> Bounds:
    """Percentile bootstrap of the prompts alone; a prompt's images stay together."""
    means = values.mean(axis=(0, 2))
    return _quantiles(_multiplicities(means.size, random) @ means / means.size, level)


def student(values: Values, level: float, random: Generator) -> Bounds:
    """Student's t interval of the prompts' means, which needs no resampling."""
    means = values.mean(axis=(0, 2))
    half = stats.t.ppf((1 + level) / 2, means.size - 1) * means.std(ddof=1) / np.sqrt(means.size)
    return float(means.mean() - half), float(means.mean() + half)


METHODS: Mapping[str, Method] = MappingProxyType(
    {"images": images, "prompts": prompts, "prompts, t": student, "runs x prompts x seeds": crossed}
)


def _multiplicities(size: int, random: Generator) -> NDArray[np.float64]:
    """How often each of `size` things is drawn, for every resample: [resamples, size]."""
    return random.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(np.float64)


def _quantiles(means: NDArray[np.float64], level: float) -> Bounds:
    lower, upper = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(lower), float(upper)
