"""Bootstrap intervals over images (Efron and Tibshirani 1993, percentile method)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.config import ObjectiveConfig
from evaluation.objective import image_objective
from evaluation.scores import (
    CLIP_SCORE,
    FACE_DISTANCE,
    FACELESS_RATE,
    FIDELITY,
    LIKENESS,
    OBJECTIVE,
    Anchors,
    ImageRow,
    image_fidelity,
    image_likeness,
)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A range that covers the mean at the stated level, as far as the images at hand can tell."""

    lower: float
    mean: float
    """The plain mean of the values, not of the resamples."""
    upper: float


def bootstrap_interval(
    values: Sequence[float] | NDArray[np.float64], *, seed: int, level: float = 0.95, resamples: int = 2000
) -> Interval:
    """Interval for the mean of one value per image.

    Args:
        values: at least one, finite.
        seed: of the resampling; the same seed and values give the same interval.
        level: share of resampled means inside, in (0, 1).

    Raises:
        ValueError: no values, one that is not finite, or a level outside (0, 1).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"the values have shape {array.shape}; give one finite number for each image, at least one")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level!r}; give a number between 0 and 1, such as 0.95")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples!r}; give at least 1, better 1000 or more")
    chosen = np.random.default_rng(seed).integers(0, array.size, size=(resamples, array.size))
    lower, upper = np.quantile(array[chosen].mean(axis=1), [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(lower=float(lower), mean=float(array.mean()), upper=float(upper))


def paired_difference_interval(
    first: Sequence[float] | NDArray[np.float64],
    second: Sequence[float] | NDArray[np.float64],
    *,
    seed: int,
    level: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Interval for mean(first - second), image by image on the same prompts and seeds.

    Pairing takes out what the prompt and seed do to both models, so smaller differences show. An interval that
    leaves out 0 is a difference at this level.

    Raises:
        ValueError: the two do not have the same length; otherwise as `bootstrap_interval`.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values; pairs need the same prompts and seeds on both sides")
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    return bootstrap_interval(differences, seed=seed, level=level, resamples=resamples)


def image_values(
    rows: Sequence[ImageRow], anchors: Anchors, config: ObjectiveConfig
) -> Mapping[str, NDArray[np.float64]]:
    """Metric name to one value per image, whose mean is that metric of the candidate.

    `face_distance` has a value only for images with a face, and is left out when there is none.
    """
    values = {
        FACE_DISTANCE: [row.face_distance for row in rows if row.face_distance is not None],
        LIKENESS: [image_likeness(row, anchors) for row in rows],
        CLIP_SCORE: [row.clip_score for row in rows],
        FIDELITY: [image_fidelity(row, anchors) for row in rows],
        FACELESS_RATE: [0.0 if row.face_found else 1.0 for row in rows],
        OBJECTIVE: [image_objective(row, anchors, config) for row in rows],
    }
    return {name: np.asarray(value, dtype=np.float64) for name, value in values.items() if value}
