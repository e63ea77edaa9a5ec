"""What an evaluation is worth to the search: its objective, whether it may win, and the value that steers. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from evaluation.config import LimitsConfig, ObjectiveConfig
from evaluation.fitness import excess, unfit_reasons
from evaluation.objective import objective, search_value
from evaluation.scores import LEAKAGE, Scores


@dataclass(frozen=True, kw_only=True)
class Appraisal:
    """A candidate, appraised."""

    objective: float
    search_value: float
    """What the search maximises; at most the objective."""
    unfit: tuple[str, ...]
    """Why it may not win, in words; empty if it may."""


def appraise(scores: Scores, metrics: Mapping[str, float], weights: ObjectiveConfig, limits: LimitsConfig) -> Appraisal:
    """Weigh scores and meters.

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
