"""Bootstrap intervals of a mean over images, over training runs, prompts and seeds.

Images are no independent draws: those of one prompt share its difficulty, those of one seed their first noise, those of
one training run its luck. So each factor is resampled as a whole, all crossed (Owen 2007, "The pigeonhole bootstrap",
https://arxiv.org/abs/0712.1111): a resample draws runs, prompts and seeds with replacement and takes the mean over the
images where they meet. Its intervals are rather too wide than too narrow. Intervals are percentiles (Efron and
Tibshirani 1993).

Legend: values are Float64[prompts, seeds] or [runs, prompts, seeds], one a generated image; NaN where there is none.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from evaluation.config import ObjectiveConfig
from evaluation.image_row import ImageRow, measure_means
from evaluation.measures import OBJECTIVE
from evaluation.objective import image_objective, leakage_cost
from evaluation.scores import Anchors, mean_names
from evaluation.terms import weighted_terms

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A range that covers the mean at the stated level, as far as the images at hand can tell."""

    lower: float
    mean: float
    """The plain mean of the values, not of the resamples."""
    upper: float


def bootstrap_interval(values: Values, *, seed: int, level: float = 0.95, resamples: int = 2000) -> Interval:
    """Interval for the mean of one value an image.

    Args:
        values: [prompts, seeds] or [runs, prompts, seeds]; NaN where an image has no value, but not everywhere.
        seed: of the resampling; the same seed and values give the same interval.
        level: share of resampled means inside, in (0, 1).
        resamples: at least 1.

    Raises:
        ValueError: no values, an infinite one, a level outside (0, 1), or no resamples.
    """
    (array,) = _checked(values)
    means = _resampled_means([array], seed=seed, level=level, resamples=resamples)[0]
    return _interval(means, float(np.nanmean(array)), level)


def paired_difference_interval(
    first: Values, second: Values, *, seed: int, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Interval for mean(first) - mean(second) on the same prompts and seeds.

    Both meet every resample of prompts and seeds, which takes out what these do to both models, so smaller differences
    show. Training runs are each side's own. An interval that leaves out 0 is a difference at this level.

    Raises:
        ValueError: the two do not have the same prompts and seeds; otherwise as `bootstrap_interval`.
    """
    arrays = _checked(first, second)
    if arrays[0].shape[1:] != arrays[1].shape[1:]:
        raise ValueError(
            f"{arrays[0].shape[1:]} and {arrays[1].shape[1:]} prompts and seeds; pairs need the same on both sides"
        )
    means = _resampled_means(arrays, seed=seed, level=level, resamples=resamples)
    return _interval(means[0] - means[1], float(np.nanmean(arrays[0]) - np.nanmean(arrays[1])), level)


def standard_error(interval: Interval, *, level: float) -> float:
    """Of a mean, from its interval at a level in (0, 1), as if the resampled means were normal."""
    return (interval.upper - interval.lower) / (2.0 * NormalDist().inv_cdf((1.0 + level) / 2.0))


def image_values(
    rows: Sequence[ImageRow], anchors: Anchors, config: ObjectiveConfig, *, leakage: float | None
) -> Mapping[str, Values]:
    """Metric name to [prompts, seeds], whose mean is that metric of the candidate.

    These are the measures that have a mean, each NaN where an image does not have it, the terms of the objective, and
    the objective. What leakage costs is the same for every image of the person: it was measured on others.

    Args:
        rows: of images of the person.
        anchors: of the search.
        config: weights of the objective.
        leakage: of the candidate, None if it was not measured.

    Raises:
        ValueError: the rows are not every prompt with every seed, once.
    """
    prompts = sorted({row.prompt_index for row in rows})
    seeds = sorted({row.seed for row in rows})
    at = {(row.prompt_index, row.seed): row for row in rows}
    if len(rows) != len(prompts) * len(seeds) or len(at) != len(rows):
        raise ValueError(
            f"{len(rows)} images of {len(prompts)} prompts and {len(seeds)} seeds; give each prompt with each seed once"
        )

    def table(value: Callable[[ImageRow], float | None]) -> Values:
        cells = [[value(at[prompt, seed]) for seed in seeds] for prompt in prompts]
        return np.array([[np.nan if cell is None else cell for cell in line] for line in cells], dtype=np.float64)

    reported = mean_names(measure_means(rows))
    cost = leakage_cost(leakage, config)
    tables = {
        **{mean: table(partial(ImageRow.value, name=name)) for name, mean in reported.items()},
        **{each.term.name: table(partial(each.term.share, anchors=anchors)) for each in weighted_terms(config)},
        OBJECTIVE: table(lambda row: image_objective(row, anchors, config) - cost),
    }
    return {name: values for name, values in tables.items() if not np.isnan(values).all()}


def _checked(*values: Values) -> list[Values]:
    """The values as [runs, prompts, seeds]."""
    arrays = [np.asarray(value, dtype=np.float64) for value in values]
    for array in arrays:
        if array.ndim not in (2, 3) or array.size == 0 or np.isinf(array).any() or np.isnan(array).all():
            raise ValueError(
                f"the values have shape {array.shape}; give [prompts, seeds] or [runs, prompts, seeds], at least one "
                "finite number and no infinite one"
            )
    return [array if array.ndim == 3 else array[None] for array in arrays]


def _resampled_means(arrays: Sequence[Values], *, seed: int, level: float, resamples: int) -> list[Values]:
    """Means of every array, [resamples], under the same resamples of prompts and seeds."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level!r}; give a number between 0 and 1, such as 0.95")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples!r}; give at least 1, better 1000 or more")
    random = np.random.default_rng(seed)
    _, prompts, seeds = arrays[0].shape
    prompt_counts, seed_counts = (_counts(random, size, resamples) for size in (prompts, seeds))
    means = []
    for array in arrays:
        run_counts = _counts(random, len(array), resamples)
        known = ~np.isnan(array)
        sums, weights = (
            np.einsum("br,bp,bs,rps->b", run_counts, prompt_counts, seed_counts, cells, optimize=True)
            for cells in (np.where(known, array, 0.0), known.astype(np.float64))
        )
        # A resample may meet none of few known cells; the plain mean then stands for it.
        means.append(np.divide(sums, weights, out=np.full(resamples, np.nanmean(array)), where=weights > 0))
    return means


def _counts(random: np.random.Generator, size: int, resamples: int) -> Values:
    """How often each of `size` things is drawn in each resample, [resamples, size]."""
    return random.multinomial(size, np.full(size, 1.0 / size), size=resamples).astype(np.float64)


def _interval(means: Values, mean: float, level: float) -> Interval:
    lower, upper = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(lower=float(lower), mean=mean, upper=float(upper))
