"""The search space: which training settings may vary, and over which values.

Our own small language; `search.study.samplers.study_sampler` translates it to Optuna's, and nothing else does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from trainer.settings_file import Section

Value: TypeAlias = bool | float | int | str
"""One value of one setting."""


def _several(value: Any) -> Any:
    """A single value as the only one of several."""
    return value if isinstance(value, list | tuple) else (value,)


def distinct(values: tuple[Value, ...]) -> tuple[Value, ...]:
    """The values, none of which is there twice.

    Raises:
        ValueError: one is.
    """
    if len(set(values)) != len(values):
        raise ValueError(f"{list(values)} must not repeat")
    return values


class _Range(Section):
    when: dict[str, Annotated[tuple[Value, ...], BeforeValidator(_several), Field(min_length=1)]] = Field(
        default={}, exclude_if=lambda when: not when
    )
    """Drawn only where each of these settings, choices of the space, has one of these values, as `loss: huber`;
    elsewhere the value under `training` holds."""


class FloatRange(_Range):
    """A real number between `low` and `high`, both included; `log` draws its logarithm uniformly."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be smaller than high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"low ({self.low:g}) must be positive where log is true")
        return self


class IntRange(_Range):
    """A whole number between `low` and `high`, both included, in strides of `step` from `low`; `log`, which goes
    without strides, draws its logarithm uniformly."""

    low: int
    high: int
    step: int = Field(default=1, ge=1)
    log: bool = Field(default=False, exclude_if=lambda log: not log)

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be smaller than high ({self.high})")
        if (self.high - self.low) % self.step:
            raise ValueError(f"high ({self.high}) must be low ({self.low}) plus a multiple of step ({self.step})")
        if self.log and self.step > 1:
            raise ValueError(f"step is {self.step}, which does not go with log; leave out one of the two")
        if self.log and self.low < 1:
            raise ValueError(f"low ({self.low}) must be at least 1 where log is true")
        return self


class Choice(_Range):
    """One of `values`, which have no order."""

    values: Annotated[tuple[Value, ...], AfterValidator(distinct)] = Field(min_length=1)


class Ratio(_Range):
    """As many times the value of another setting, one of `ratio`: an alpha of half, one or two ranks."""

    ratio: Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], AfterValidator(distinct)] = Field(
        min_length=1
    )
    of: str = "rank"
    """The other setting, a number; drawn, or fixed under `training`."""


def _kind(value: Any) -> str:
    """`values` makes a choice, `ratio` a ratio, a whole `low` and `high` an integer range (with `log` only beside a
    `step`, which `search.config.written_space` gives every range of a whole setting), anything else a range of real
    numbers."""
    fields = value if isinstance(value, Mapping) else getattr(value, "__dict__", {})
    if "ratio" in fields:
        return "ratio"
    if "values" in fields:
        return "choice"
    whole = isinstance(fields.get("low"), int) and isinstance(fields.get("high"), int)
    return "int" if whole and ("step" in fields or "log" not in fields) else "float"


Dimension = Annotated[
    Annotated[FloatRange, Tag("float")]
    | Annotated[IntRange, Tag("int")]
    | Annotated[Choice, Tag("choice")]
    | Annotated[Ratio, Tag("ratio")],
    Discriminator(_kind),
]
AnyDimension: TypeAlias = FloatRange | IntRange | Choice | Ratio
Space: TypeAlias = Mapping[str, AnyDimension]


def clip(space: Space, params: Mapping[str, Value]) -> dict[str, Value]:
    """The nearest values that the space holds, for its settings that `params` names.

    A recorded configuration (the homework's, an earlier winner's) may lie outside of today's space; it is
    still worth the first trial at the space's edge. A choice that is not offered is replaced by the nearest
    number (in the logarithm) or, for words, by the first value. What depends on other settings is left to
    `search.config.draws.draw_of`: ratios are left out, conditions are not looked at.
    """
    clipped: dict[str, Value] = {}
    for name, dimension in space.items():
        if name not in params:
            continue
        value = params[name]
        match dimension:
            case FloatRange():
                clipped[name] = min(max(float(value), dimension.low), dimension.high)
            case IntRange():
                strides = round((float(value) - dimension.low) / dimension.step)
                clipped[name] = min(max(dimension.low + strides * dimension.step, dimension.low), dimension.high)
            case Choice():
                clipped[name] = nearest_value(dimension.values, value)
    return clipped


def among(value: Value, values: tuple[Value, ...]) -> bool:
    """Whether a value is one of several; True is not 1 here."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def nearest_value(values: tuple[Value, ...], value: Value) -> Value:
    """The value itself if it is offered, else the nearest number (in the logarithm), else the first."""
    if among(value, values):
        return value
    numbers = [number for number in values if _is_number(number) and float(number) > 0]
    if _is_number(value) and float(value) > 0 and numbers:
        return min(numbers, key=lambda number: abs(math.log(float(number) / float(value))))
    return values[0]


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def extremes(dimension: AnyDimension) -> tuple[Value, ...]:
    """The ends of a range, low first; all values of a choice or ratio, numbers in ascending order."""
    if isinstance(dimension, Ratio):
        return tuple(sorted(dimension.ratio))
    if not isinstance(dimension, Choice):
        return dimension.low, dimension.high
    return tuple(sorted(dimension.values, key=lambda value: (isinstance(value, str), value)))


def planned_steps(params: Mapping[str, Value], otherwise: int) -> int:
    """Optimizer steps of a training that is not stopped early: as its settings say, else `otherwise`."""
    return int(params.get("steps", otherwise))


def largest(dimension: AnyDimension) -> float:
    """The largest number that the dimension holds, of a ratio the largest factor.

    Raises:
        ValueError: a choice among words.
    """
    if isinstance(dimension, Ratio):
        return max(dimension.ratio)
    if not isinstance(dimension, Choice):
        return dimension.high
    if not all(map(_is_number, dimension.values)):
        raise ValueError(f"{list(dimension.values)} are not all numbers")
    return max(float(value) for value in dimension.values)
