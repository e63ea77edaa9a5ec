"""What the meters of copying, leaking and unevenness say over the collected adapters: where a limit could lie."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from benchmarks.truth.rank_agreement import tau
from benchmarks.truth.records import Record, Records
from evaluation.faces import distances
from evaluation.scores import SPREAD_SHARE

CLOSEST_SHARE = 0.01
"""Share of the pairs of real photos whose faces are nearer to each other than what counts as a copied face."""
VALIDATION_PROMPTS, VALIDATION_SEEDS = 12, 2
"""The first of the collection, which are the demo's."""


@dataclass(frozen=True, kw_only=True)
class Meter:
    """One meter over the first trainings of all configurations."""

    least: float
    lower: float
    """First quartile."""
    median: float
    upper: float
    """Third quartile."""
    greatest: float
    base: float
    """Of the untuned model."""
    with_likeness: float | None
    """Kendall's tau with the likeness on all images; None for a meter that is the same everywhere."""


def meters(records: Records) -> Mapping[str, Meter]:
    """Every meter by name."""
    candidates = [trainings[0] for trainings in records.runs.values()]
    everything = records.first(*records.shape[:2])
    likeness = [float(records.likeness(record, everything).mean()) for record in candidates]
    outcome = {}
    for name, meter in METERS.items():
        values = [meter(records, record) for record in candidates]
        least, lower, median, upper, greatest = map(float, np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0]))
        outcome[name] = Meter(
            least=least,
            lower=lower,
            median=median,
            upper=upper,
            greatest=greatest,
            base=meter(records, records.base),
            with_likeness=tau(values, likeness) if least < greatest else None,
        )
    return outcome


def copied_faces(records: Records, record: Record) -> float:
    """Share of images whose face is nearer to a photo trained on than 99 % of real photos are to each other."""
    embedding = records.photos.embedding
    between = distances(embedding, embedding)[np.triu_indices(len(embedding), k=1)]
    nearest = record.subject.trained_distance.min(axis=2)[record.subject.face_found]
    return int((nearest < np.quantile(between, CLOSEST_SHARE)).sum()) / record.subject.face_found.size


def copied_pictures(records: Records, record: Record) -> float:
    """The search's `memorisation`: share of images that show a photo trained on again, re-framed or not."""
    return float((record.picture_distance < records.copy_distance).mean())


def nearest_picture(records: Records, record: Record) -> float:
    """Least picture distance of any image to a photo trained on: how far the most alike is from being a copy."""
    return float(record.picture_distance.min())


def leakage(records: Records, record: Record) -> float:
    """The search's `leakage`, with all held-out photos; 0 for a model that draws no face of others."""
    return records.leakage(record, records.first(*records.shape[:2])) or 0.0


def likeness_spread(records: Records, record: Record) -> float:
    """The search's `likeness_spread` on the demo's validation prompts and seeds."""
    part = records.first(VALIDATION_PROMPTS, VALIDATION_SEEDS)

    def spread(each: Record) -> float:
        means = np.sort(records.likeness(each, part).mean(axis=1))
        quarter = math.ceil(SPREAD_SHARE * len(means))
        return float(means[-quarter:].mean() - means[:quarter].mean())

    return spread(record) - spread(records.base)


METERS: Mapping[str, Callable[[Records, Record], float]] = MappingProxyType(
    {
        "copied faces": copied_faces,
        "copied pictures": copied_pictures,
        "nearest picture": nearest_picture,
        "leakage": leakage,
        "likeness spread": likeness_spread,
    }
)
