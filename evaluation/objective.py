"""The one number that a search maximises. Pure."""

from evaluation.config import ObjectiveConfig
from evaluation.scores import (
    FIDELITY,
    LEAKAGE,
    LIKENESS,
    METRICS,
    Anchors,
    ImageRow,
    Scores,
    image_fidelity,
    image_likeness,
)


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
        fit: whether the candidate may win (`evaluation.fitness`).
        excess: by how much it exceeds its limits, at least 0.
    """
    return value if fit else value - 1.0 - excess


def weighted_sum(likeness: float, fidelity: float, faceless_rate: float, config: ObjectiveConfig) -> float:
    """What `objective` and `image_objective` share: the sum without the rule about all-faceless candidates."""
    return config.likeness * likeness + config.fidelity * fidelity - config.faceless * faceless_rate
