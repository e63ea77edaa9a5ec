"""How often intervals hold what they claim to hold, for each way to compute them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from benchmarks.truth.interval_methods import METHODS
from benchmarks.truth.records import Record, Records, Slice
from evaluation.bootstrap import Values


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Of one way to compute intervals."""

    held: float
    """Share of intervals that hold the truth."""
    width: float
    """Mean width."""


def coverage(finals: Iterable[tuple[Values, float]], *, level: float, random: Generator) -> Mapping[str, Coverage]:
    """Coverage of every method.

    Args:
        finals: Values of each final, [runs, prompts, seeds], and the truth that its interval should hold.
        level: That the intervals claim.
        random: Source of the resamples.
    """
    held: dict[str, list[bool]] = {name: [] for name in METHODS}
    widths: dict[str, list[float]] = {name: [] for name in METHODS}
    for values, truth in finals:
        for name, method in METHODS.items():
            lower, upper = method(values, level, random)
            held[name].append(bool(lower <= truth <= upper))
            widths[name].append(upper - lower)
    return {name: Coverage(held=float(np.mean(held[name])), width=float(np.mean(widths[name]))) for name in METHODS}


def drawn_finals(
    records: Records,
    configurations: Sequence[Sequence[Record]],
    *,
    against: Sequence[Record] | None,
    runs: int,
    prompts: int,
    seeds: int,
    draws: int,
    random: Generator,
) -> Iterator[tuple[Values, float]]:
    """Finals in a world whose truth is known, with that truth.

    The collected images are taken for everything there is. Runs, prompts and seeds of a final are drawn from them with
    replacement, as real ones are from all that a user might ask for, and the score over everything is what its
    interval should hold. Anchors are measured as a final does: on its own prompts and seeds, with the same photos.

    Args:
        records: Everything collected.
        configurations: Trainings of each configuration; all of its runs are everything there is.
        against: If given, the values are differences from the same runs of this configuration.
        runs: Of a final.
        prompts: Of a final.
        seeds: Of a final.
        draws: Finals of each configuration.
        random: Source of the randomness.
    """
    everything = records.first(*records.shape[:2])
    for trainings in configurations:
        truth = _values(records, trainings, everything) - (_values(records, against, everything) if against else 0.0)
        for _ in range(draws):
            part = Slice(
                prompts=random.integers(records.shape[0], size=prompts),
                seeds=random.integers(records.shape[1], size=seeds),
                photos=everything.photos,
            )
            chosen = random.integers(len(trainings), size=runs)
            values = _values(records, [trainings[index] for index in chosen], part)
            if against:
                others = random.integers(len(against), size=runs)
                values = values - _values(records, [against[index] for index in others], part)
            yield values, float(truth.mean())


def _values(records: Records, trainings: Sequence[Record], part: Slice) -> Values:
    return np.stack([records.objective(record, part) for record in trainings])
