"""Whether a cheap score ranks configurations as the full one does: Kendall's tau-b (Kendall 1945)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import stats

from benchmarks.truth.records import Record, Records, Slice


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Of the cheap score of some prompts and seeds with the score on all images that it does not hold."""

    prompts: int
    seeds: int
    tau: float
    """Mean over the draws, [-1, 1]."""
    lower: float
    """5th percentile of the draws."""
    upper: float
    """95th percentile of the draws."""
    other_photos: float
    """Mean tau with the score on the same remaining images, but with the other half of the photos."""
    seconds: float
    """That one evaluation of this size took: images, faces and CLIP, one thread."""


def rank_agreement(
    records: Records, candidates: Sequence[Record], *, prompts: int, seeds: int, draws: int, random: Generator
) -> Agreement:
    """Agreement at one cost.

    Args:
        records: Everything collected.
        candidates: One a configuration.
        prompts: Of the cheap score, drawn at random.
        seeds: Of the cheap score, drawn at random.
        draws: Of prompts, seeds and photos.
        random: Source of the randomness.
    """
    taus, others = [], []
    for _ in range(draws):
        prompt_order, seed_order, photo_order = (random.permutation(size) for size in records.shape)
        half = len(photo_order) // 2
        cheap = Slice(prompts=prompt_order[:prompts], seeds=seed_order[:seeds], photos=photo_order[:half])
        anchors = records.anchors(cheap)
        scores = [float(records.objective(record, cheap, anchors).mean()) for record in candidates]
        taus.append(tau(scores, _remaining(records, candidates, cheap, cheap.photos)))
        others.append(tau(scores, _remaining(records, candidates, cheap, photo_order[half:])))
    seconds = [_seconds_an_image(record) for record in candidates]
    lower, upper = np.quantile(taus, [0.05, 0.95])
    return Agreement(
        prompts=prompts,
        seeds=seeds,
        tau=float(np.mean(taus)),
        lower=float(lower),
        upper=float(upper),
        other_photos=float(np.mean(others)),
        seconds=float(np.median(seconds)) * prompts * seeds,
    )


def tau(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b of two scores of the same configurations, [-1, 1]."""
    return float(stats.kendalltau(first, second, variant="b").statistic)


def _remaining(records: Records, candidates: Sequence[Record], cheap: Slice, photos: NDArray[np.int64]) -> list[float]:
    """Score of each candidate on all images that the cheap score does not hold."""
    everything = Slice(prompts=np.arange(records.shape[0]), seeds=np.arange(records.shape[1]), photos=photos)
    remaining = np.ones(records.shape[:2], dtype=bool)
    remaining[np.ix_(cheap.prompts, cheap.seeds)] = False
    anchors = records.anchors(everything)
    return [float(records.objective(record, everything, anchors)[remaining].mean()) for record in candidates]


def _seconds_an_image(record: Record) -> float:
    images = record.subject.face_found.size + record.others.face_found.size
    return (record.about.generating_seconds + record.about.judging_seconds) / images
