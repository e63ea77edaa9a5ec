"""Whether a candidate may win at all: the meters that a likeness alone would not notice, against their limits. Pure."""

from collections.abc import Mapping

from evaluation.config import LimitsConfig
from evaluation.scores import FACELESS_RATE, LEAKAGE, LIKENESS_SPREAD, MEMORISATION

METERS = (MEMORISATION, LEAKAGE, LIKENESS_SPREAD)
"""What can be limited, each under its own name in `LimitsConfig`; less is better in all of them."""


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
