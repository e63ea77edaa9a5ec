"""What the meters of copying and of leaking say over the collected adapters: where a default threshold could lie.

A copy is a face, or a picture, that lies nearer to a photo trained on than 99 % of real photos do to each other. The
pull asks more softly: how much nearer the images come to the photos trained on than to the photos held out, beyond
what the untuned model does, which knows neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmarks.rank_agreement import tau
from benchmarks.records import Record, Records, picture_distances
from evaluation.faces import distances

CLOSEST_SHARE = 0.01
"""Of pairs of real photos, nearer to each other than what counts as a copy."""


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
    """Share of images whose face is nearer to a photo trained on than real photos are to each other."""
    embedding = records.photos.embedding
    nearest = record.subject.trained_distance.min(axis=2)[record.subject.face_found]
    copies = int((nearest < _closest(distances(embedding, embedding))).sum())
    return copies / record.subject.face_found.size


def copied_pictures(records: Records, record: Record) -> float:
    """Share of images that, as pictures, are nearer to a photo trained on than real photos are to each other."""
    nearest = record.subject.trained_picture_distance.min(axis=2)
    return float((nearest < _closest(picture_distances(records.photos.pixels, records.photos.pixels))).mean())


def pull(records: Records, record: Record) -> float:
    """How much nearer faces come to photos trained on than to photos held out, beyond the untuned model; distance."""

    def nearer(each: Record) -> float:
        found = each.subject.face_found
        held_out, trained = (
            distance[found].mean() for distance in (each.subject.distance, each.subject.trained_distance)
        )
        return float(held_out - trained)

    return nearer(record) - nearer(records.base)


def leakage(records: Records, record: Record) -> float:
    """How much nearer to the held-out photos faces of OTHER people come than under the untuned model; distance."""
    before, after = records.base.others, record.others
    both = before.face_found & after.face_found
    return float((before.distance[both] - after.distance[both]).mean()) if both.any() else 0.0


METERS: Mapping[str, Callable[[Records, Record], float]] = MappingProxyType(
    {"copied faces": copied_faces, "copied pictures": copied_pictures, "pull": pull, "leakage": leakage}
)


def _closest(between: NDArray[np.float64]) -> float:
    """Distance below which a pair is a copy, from the distances between all real photos, [n, n]."""
    return float(np.quantile(between[np.triu_indices(len(between), k=1)], CLOSEST_SHARE))
