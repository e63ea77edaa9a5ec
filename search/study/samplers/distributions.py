"""A search space in Optuna's words: its parameters and their distributions."""

from __future__ import annotations

from typing import cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.config.space import AnyDimension, Choice, FloatRange, IntRange, Ratio, Space, Value


def parameter(name: str, dimension: AnyDimension) -> str:
    """The name of a dimension's parameter in the study; a ratio's says that it is one, as `alpha/rank`."""
    return f"{name}/{dimension.of}" if isinstance(dimension, Ratio) else name


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space in Optuna's words, by parameter. Settings keep the order of the configuration file."""
    return {parameter(name, dimension): _distribution(dimension) for name, dimension in space.items()}


def _distribution(dimension: AnyDimension) -> BaseDistribution:
    match dimension:
        case FloatRange():
            return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
        case IntRange():
            return IntDistribution(dimension.low, dimension.high, step=dimension.step, log=dimension.log)
        case Choice():
            return CategoricalDistribution(dimension.values)
        case Ratio():
            return CategoricalDistribution(dimension.ratio)


def suggest(trial: optuna.Trial, name: str, dimension: AnyDimension) -> Value:
    """Let the study's sampler draw a dimension of a trial."""
    asked = parameter(name, dimension)
    match dimension:
        case FloatRange():
            return trial.suggest_float(asked, dimension.low, dimension.high, log=dimension.log)
        case IntRange():
            return trial.suggest_int(asked, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
        case Choice():
            return cast(Value, trial.suggest_categorical(asked, dimension.values))  # no None among them
        case Ratio():
            return trial.suggest_categorical(asked, dimension.ratio)


SETTINGS = "settings"
"""Its training settings, where they are not its parameters because of a ratio."""

SAME_AS = "same_as"
"""Of a duplicate: the number of the trial whose result was reported for it."""

FOREIGN = "foreign"
"""Of a result that an earlier search has found: a trial of the study, but none of this search."""
