"""The one number that a search maximises. Pure."""

from evaluation.config import ObjectiveConfig
from evaluation.scores import (
    FIDELITY,
    LIKENESS,
    METRICS,
    Anchors,
    ImageRow,
    Scores,
    image_fidelity,
    image_likeness,
)


def objective(scores: Scores, config: ObjectiveConfig) -> float:
    """w_l likeness + w_f fidelity - w_n faceless_rate; finite for every candidate, higher is better.

    A candidate whose images are ALL faceless gets `objective_floor`, which is below every candidate with a face,
    whatever the weights: its likeness of 0 would otherwise beat a model that is worse than the base model but
    still draws people, and with a small penalty its CLIP score could win the search.
    """
    if scores.faceless == scores.images:
        return objective_floor(config)
    return weighted_sum(scores.likeness, scores.fidelity, scores.faceless_rate, config)


def objective_floor(config: ObjectiveConfig) -> float:
    """The objective of an all-faceless candidate: 1 below the least sum that the measures' bounds allow."""
    return weighted_sum(METRICS[LIKENESS].lower, METRICS[FIDELITY].lower, 1.0, config) - 1.0


def image_objective(row: ImageRow, anchors: Anchors, config: ObjectiveConfig) -> float:
    """One image's share: the mean over the images is the candidate's objective, unless all are faceless.

    This is what makes intervals simple: the objective is itself a mean over images.
    """
    return weighted_sum(
        image_likeness(row, anchors), image_fidelity(row, anchors), 0.0 if row.face_found else 1.0, config
    )


def weighted_sum(likeness: float, fidelity: float, faceless_rate: float, config: ObjectiveConfig) -> float:
    """What `objective` and `image_objective` share: the sum without the rule about all-faceless candidates."""
    return config.likeness * likeness + config.fidelity * fidelity - config.faceless * faceless_rate
