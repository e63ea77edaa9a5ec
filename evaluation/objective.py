"""The number that a search maximises: scores and meters weighed, and what makes a candidate unfit to win. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.config import LimitsConfig, ObjectiveConfig
from evaluation.scores import (
    FACELESS_RATE,
    FIDELITY,
    LEAKAGE,
    LIKENESS,
    LIKENESS_SPREAD,
    MEMORISATION,
    METRICS,
    Anchors,
    ImageRow,
    Scores,
    image_fidelity,
    image_likeness,
)

METERS = (MEMORISATION, LEAKAGE, LIKENESS_SPREAD)
"""What can be limited, each under its own name in `LimitsConfig`; less is better in all of them."""


def objective(scores: Scores, config: ObjectiveConfig, *, leakage: float | None) -> float:
    """w_l likeness + w_f fidelity - w_n faceless_rate - w_k max(leakage, 0); finite for every candidate.

    A candidate whose images are ALL faceless gets `objective_floor`, which is below every candidate with a face,
    whatever the weights: its likeness of 0 would otherwise beat a model that is worse than the base model but
    still draws people, and with a small penalty its CLIP score could win the search.

    Args:
        scores: of the candidate's images of the person.
        config: the weights.
        leakage: of its images of others; None where it was not measured, which costs nothing.
    """
    if scores.faceless == scores.images:
        return objective_floor(config)
    return weighted_sum(scores.likeness, scores.fidelity, scores.faceless_rate, config) - leakage_cost(leakage, config)


def objective_floor(config: ObjectiveConfig) -> float:
    """The objective of an all-faceless candidate: 1 below the least sum that the measures' bounds allow."""
    least = weighted_sum(METRICS[LIKENESS].lower, METRICS[FIDELITY].lower, 1.0, config)
    return least - leakage_cost(METRICS[LEAKAGE].upper, config) - 1.0


def leakage_cost(leakage: float | None, config: ObjectiveConfig) -> float:
    """What leakage takes from the objective, at least 0."""
    return config.leakage * max(leakage or 0.0, 0.0)


def image_objective(row: ImageRow, anchors: Anchors, config: ObjectiveConfig) -> float:
    """One image's share: the mean over the images, less `leakage_cost`, is the objective, unless all are faceless.

    This is what makes intervals simple: the objective is itself a mean over images.
    """
    return weighted_sum(
        image_likeness(row, anchors), image_fidelity(row, anchors), 0.0 if row.face_found else 1.0, config
    )


def search_value(value: float, *, fit: bool, excess: float) -> float:
    """What the search maximises: the objective; for an unfit candidate 1 less, and less again what it exceeds.

    So an unfit candidate stands behind every fit one of a like objective, and the search is led back to its limits.

    Args:
        value: the objective.
        fit: whether the candidate may win (`evaluation.objective`).
        excess: by how much it exceeds its limits, at least 0.
    """
    return value if fit else value - 1.0 - excess


def weighted_sum(likeness: float, fidelity: float, faceless_rate: float, config: ObjectiveConfig) -> float:
    """What `objective` and `image_objective` share: the sum without the rule about all-faceless candidates."""
    return config.likeness * likeness + config.fidelity * fidelity - config.faceless * faceless_rate


def unfit_reasons(metrics: Mapping[str, float], limits: LimitsConfig) -> tuple[str, ...]:
    """Why a candidate is unfit, in words; empty for one that is fit.

    A candidate that draws no face at all is unfit whatever the limits. A meter that could not be measured (it is not in
    `metrics`) makes nobody unfit.
    """
    reasons = ["it draws no face"] if metrics[FACELESS_RATE] == 1.0 else []
    beyond = _beyond(metrics, limits)
    reasons += [f"{name} {metrics[name]:.2f} is above {getattr(limits, name):g}" for name in beyond]
    return tuple(reasons)


def excess(metrics: Mapping[str, float], limits: LimitsConfig) -> float:
    """By how much a candidate exceeds its limits, all meters together; 0 for one within them."""
    return sum(_beyond(metrics, limits).values())


def _beyond(metrics: Mapping[str, float], limits: LimitsConfig) -> dict[str, float]:
    """By how much each limit that is exceeded is exceeded."""
    given = {name: getattr(limits, name) for name in METERS}
    return {
        name: metrics[name] - limit
        for name, limit in given.items()
        if limit is not None and metrics.get(name, limit) > limit
    }


@dataclass(frozen=True, kw_only=True)
class Appraisal:
    """What a candidate is worth."""

    objective: float
    search_value: float
    """What the search maximises; at most the objective."""
    unfit: tuple[str, ...]
    """Why it may not win, in words; empty if it may."""


def appraise(scores: Scores, metrics: Mapping[str, float], weights: ObjectiveConfig, limits: LimitsConfig) -> Appraisal:
    """Weighs scores and meters.

    Args:
        scores: of the images of the person.
        metrics: the same and the meters by name (`Evaluation.metrics`); what was not measured is missing.
        weights: of the objective.
        limits: of the meters.
    """
    value = objective(scores, weights, leakage=metrics.get(LEAKAGE))
    unfit = unfit_reasons(metrics, limits)
    steering = search_value(value, fit=not unfit, excess=excess(metrics, limits))
    return Appraisal(objective=value, search_value=steering, unfit=unfit)
