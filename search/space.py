"""The search space: which training settings may vary, and over which values.

Our own small language; `search.sampler` translates it to Optuna's, and nothing else does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

Value: TypeAlias = bool | float | int | str
"""One value of one setting."""


class _Range(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FloatRange(_Range):
    """A real number between `low` and `high`, both included; `log` draws its logarithm uniformly."""

    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be smaller than high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"low ({self.low:g}) must be positive where log is true")
        return self


class IntRange(_Range):
    """A whole number between `low` and `high`, both included, in strides of `step` from `low`."""

    low: int
    high: int
    step: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be smaller than high ({self.high})")
        if (self.high - self.low) % self.step:
            raise ValueError(f"high ({self.high}) must be low ({self.low}) plus a multiple of step ({self.step})")
        return self


class Choice(_Range):
    """One of `values`, which have no order."""

    values: tuple[Value, ...] = Field(min_length=1)

    @field_validator("values")
    @classmethod
    def _distinct(cls, values: tuple[Value, ...]) -> tuple[Value, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"values {list(values)} must not repeat")
        return values


def _kind(value: Any) -> str:
    """`values` makes a choice, a whole `low` and `high` an integer range, anything else a range of real numbers."""
    fields = value if isinstance(value, Mapping) else vars(value)
    if "values" in fields:
        return "choice"
    whole = isinstance(fields.get("low"), int) and isinstance(fields.get("high"), int)
    return "int" if whole and "log" not in fields else "float"


Dimension = Annotated[
    Annotated[FloatRange, Tag("float")] | Annotated[IntRange, Tag("int")] | Annotated[Choice, Tag("choice")],
    Discriminator(_kind),
]
Space: TypeAlias = Mapping[str, FloatRange | IntRange | Choice]


def clip(space: Space, params: Mapping[str, Value]) -> dict[str, Value]:
    """The nearest values that the space holds, for its settings that `params` names.

    A recorded configuration (the homework's, an earlier winner's) may lie outside of today's space; it is
    still worth the first trial at the space's edge. A choice that is not offered is replaced by the nearest
    number (in the logarithm) or, for words, by the first value.
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
                clipped[name] = _nearest(dimension.values, value)
    return clipped


def _nearest(values: tuple[Value, ...], value: Value) -> Value:
    if any(value == offered and isinstance(value, bool) == isinstance(offered, bool) for offered in values):
        return value
    numbers = [number for number in values if _is_number(number) and float(number) > 0]
    if _is_number(value) and float(value) > 0 and numbers:
        return min(numbers, key=lambda number: abs(math.log(float(number) / float(value))))
    return values[0]


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def extremes(dimension: FloatRange | IntRange | Choice) -> tuple[Value, ...]:
    """The ends of a range, low first; all values of a choice, numbers in ascending order."""
    if not isinstance(dimension, Choice):
        return dimension.low, dimension.high
    return tuple(sorted(dimension.values, key=lambda value: (isinstance(value, str), value)))


def largest(dimension: FloatRange | IntRange | Choice) -> float:
    """The largest number that the dimension holds.

    Raises:
        ValueError: a choice among words.
    """
    if not isinstance(dimension, Choice):
        return dimension.high
    if not all(map(_is_number, dimension.values)):
        raise ValueError(f"{list(dimension.values)} are not all numbers")
    return max(float(value) for value in dimension.values)
