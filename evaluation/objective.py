"""The number that a search maximises: terms weighed, and what makes a candidate unfit to win. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.config import LimitsConfig, ObjectiveConfig
from evaluation.image_row import ImageRow
from evaluation.measures import (
    EXCESS,
    FACELESS_RATE,
    LEAKAGE,
    LIKENESS_SPREAD,
    MEMORISATION,
    METERS,
    OBJECTIVE,
    OTHERS_FACELESS,
    SEARCH_VALUE,
)
from evaluation.proportion import wilson_interval
from evaluation.scores import SPREAD_SHARE, Anchors, likeness_by_prompt, memorisation
from evaluation.terms import weighted_terms

CERTAINTY = 0.95
"""Level of the intervals whose lower end a limit is held against."""

Z = 1.959964
"""Standard deviations from the mean to the end of such an interval."""

NO_FACE = 1.0
"""The excess of a candidate that draws no face at all."""


def objective(metrics: Mapping[str, float], config: ObjectiveConfig) -> float:
    """The sum of weight x mean over all terms, less what leakage costs; finite for every candidate.

    A candidate whose images are ALL faceless gets `objective_floor`, which no candidate with a face is below, whatever
    the weights: its likeness of 0 would otherwise beat a model that is worse than the base model but still draws
    people, and with a small penalty its CLIP score could win the search.

    Args:
        metrics: of the candidate by name (`evaluation.scores.candidate_metrics`); leakage that was not measured costs
            nothing.
        config: the weights.
    """
    if metrics[FACELESS_RATE] == 1.0:
        return objective_floor(config)
    return weighted_sum(metrics, config) - leakage_cost(metrics.get(LEAKAGE), config)


def objective_floor(config: ObjectiveConfig) -> float:
    """The objective of an all-faceless candidate: the least that terms and leakage allow."""
    ends = [each.weight * end for each in weighted_terms(config) for end in (each.term.low, each.term.high)]
    return math.fsum(min(pair) for pair in zip(ends[::2], ends[1::2], strict=True)) - leakage_cost(1.0, config)


def leakage_cost(leakage: float | None, config: ObjectiveConfig) -> float:
    """What leakage takes from the objective, at least 0."""
    return config.leakage * max(leakage or 0.0, 0.0)


def image_objective(row: ImageRow, anchors: Anchors, config: ObjectiveConfig) -> float:
    """One image's share: the mean over the images, less `leakage_cost`, is the objective, unless all are faceless.

    This is what makes intervals simple: the objective is itself a mean over images.
    """
    return math.fsum(each.weight * each.term.share(row, anchors) for each in weighted_terms(config))


def search_value(value: float, *, excess: float) -> float:
    """What the search maximises: the objective; for an unfit candidate 1 less, and less again what it exceeds.

    So an unfit candidate stands behind every fit one of a like objective, and the search is led back to its limits.

    Args:
        value: the objective.
        excess: by how much it exceeds its limits, at least 0; 0 for a candidate that may win.
    """
    return value - 1.0 - excess if excess else value


def meter_lower_ends(
    metrics: Mapping[str, float], rows: Sequence[ImageRow], other_rows: Sequence[ImageRow], anchors: Anchors
) -> dict[str, float]:
    """The lower end of each meter's 95 % interval; of those that were measured.

    Wilson's interval for shares; for means the normal one, from the deviation between the images.
    """
    copied = memorisation(rows, anchors, level=CERTAINTY)
    distances = [row.face_distance for row in other_rows if row.face_distance is not None]
    by_prompt = sorted(likeness_by_prompt(rows, anchors).values(), key=lambda values: sum(values) / len(values))
    quarter = math.ceil(SPREAD_SHARE * len(by_prompt))
    ends = [[value for values in part for value in values] for part in (by_prompt[:quarter], by_prompt[-quarter:])]
    margins = {
        MEMORISATION: copied.value - copied.lower if copied else 0.0,
        LEAKAGE: Z * _standard_error(distances) / anchors.gap,
        LIKENESS_SPREAD: Z * math.hypot(*(_standard_error(part) for part in ends)),
        OTHERS_FACELESS: _wilson_margin(other_rows) if other_rows else 0.0,
    }
    return {name: metrics[name] - margin for name, margin in margins.items() if name in metrics}


def _standard_error(values: Sequence[float]) -> float:
    """Of a mean; infinite of fewer than two values, of which nothing is sure."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def _wilson_margin(rows: Sequence[ImageRow]) -> float:
    faceless = sum(not row.face_found for row in rows)
    return faceless / len(rows) - wilson_interval(faceless, len(rows), level=CERTAINTY).lower


def unfit_reasons(
    metrics: Mapping[str, float], lower_ends: Mapping[str, float], limits: LimitsConfig
) -> tuple[str, ...]:
    """Why a candidate is unfit, in words; empty for one that is fit.

    A candidate that draws no face at all is unfit whatever the limits. A meter that could not be measured makes nobody
    unfit.
    """
    reasons = ["it draws no face"] if metrics[FACELESS_RATE] == 1.0 else []
    reasons += [
        f"{name} {metrics[name]:.2f} (surely {lower_ends[name]:.2f} or more) is above {getattr(limits, name):g}"
        for name in _beyond(lower_ends, limits)
    ]
    return tuple(reasons)


def _beyond(lower_ends: Mapping[str, float], limits: LimitsConfig) -> dict[str, float]:
    """By how much each limit that is surely exceeded is exceeded."""
    given = {name: limit for name in METERS if (limit := getattr(limits, name)) is not None}
    return {
        name: lower_ends[name] - limit
        for name, limit in given.items()
        if name in lower_ends and lower_ends[name] > limit
    }


@dataclass(frozen=True, kw_only=True)
class Appraisal:
    """What a candidate is worth."""

    objective: float
    search_value: float
    """What the search maximises; at most the objective."""
    excess: float
    """By how much it surely exceeds its limits, all together; 0 exactly for a candidate that may win."""
    unfit: tuple[str, ...]
    """Why it may not win, in words; empty if it may."""

    def as_metrics(self) -> dict[str, float]:
        """The numbers by name, for tracking."""
        return {OBJECTIVE: self.objective, SEARCH_VALUE: self.search_value, EXCESS: self.excess}


def appraise(
    metrics: Mapping[str, float], lower_ends: Mapping[str, float], weights: ObjectiveConfig, limits: LimitsConfig
) -> Appraisal:
    """Weighs terms and meters.

    Args:
        metrics: of the candidate by name; what was not measured is missing.
        lower_ends: of its meters (`meter_lower_ends`).
        weights: of the objective.
        limits: of the meters.
    """
    value = objective(metrics, weights)
    excess = math.fsum(_beyond(lower_ends, limits).values()) + (NO_FACE if metrics[FACELESS_RATE] == 1.0 else 0.0)
    return Appraisal(
        objective=value,
        search_value=search_value(value, excess=excess),
        excess=excess,
        unfit=unfit_reasons(metrics, lower_ends, limits),
    )


def weighted_sum(metrics: Mapping[str, float], config: ObjectiveConfig) -> float:
    """The sum of weight x mean over the terms, without the rule about all-faceless candidates and without leakage."""
    return math.fsum(each.weight * metrics[each.term.name] for each in weighted_terms(config))
