"""Whether a candidate may win at all: the meters that a likeness alone would not notice, against their limits. Pure."""

from collections.abc import Mapping

from evaluation.config import LimitsConfig
from evaluation.scores import FACELESS_RATE, LEAKAGE, MEMORISATION, WORST_PROMPTS_LIKENESS


def unfit_reasons(metrics: Mapping[str, float], limits: LimitsConfig) -> tuple[str, ...]:
    """Why a candidate is unfit, in words; empty for one that is fit.

    A candidate that draws no face at all is unfit whatever the limits. A meter that could not be measured (it is not in
    `metrics`) makes nobody unfit.
    """
    reasons = ["it draws no face"] if metrics[FACELESS_RATE] == 1.0 else []
    for name in (MEMORISATION, LEAKAGE):
        limit: float | None = getattr(limits, name)
        if limit is not None and metrics.get(name, limit) > limit:
            reasons.append(f"{name} {metrics[name]:.2f} is above {limit:g}")
    least = limits.worst_prompts_likeness
    if least is not None and metrics.get(WORST_PROMPTS_LIKENESS, least) < least:
        reasons.append(f"{WORST_PROMPTS_LIKENESS} {metrics[WORST_PROMPTS_LIKENESS]:.2f} is below {least:g}")
    return tuple(reasons)


def excess(metrics: Mapping[str, float], limits: LimitsConfig) -> float:
    """By how much a candidate exceeds its limits, all meters together; 0 for one within them."""
    total = 0.0
    for name in (MEMORISATION, LEAKAGE):
        limit: float | None = getattr(limits, name)
        if limit is not None and name in metrics:
            total += max(0.0, metrics[name] - limit)
    if limits.worst_prompts_likeness is not None and WORST_PROMPTS_LIKENESS in metrics:
        total += max(0.0, limits.worst_prompts_likeness - metrics[WORST_PROMPTS_LIKENESS])
    return total
