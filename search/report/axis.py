"""An axis of a figure: where a value lies between its ends, and which round values are written beside it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from search.config.space import Value

AIR = 0.04
"""Beyond the least and the greatest value, of the range between them."""

ROUND_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Steps between ticks, times a power of ten."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A value that is written beside an axis."""

    text: str
    place: float
    """0 at the axis' beginning, 1 at its end."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A range of numbers, linear or logarithmic."""

    title: str
    lower: float
    upper: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.lower < self.upper or (self.log and self.lower <= 0.0):
            raise ValueError(f"the axis {self.title!r} runs from {self.lower!r} to {self.upper!r}; give a rising range")

    @classmethod
    def around(cls, title: str, values: Iterable[float], *, log: bool = False) -> Axis:
        """A range that holds all values (at least one) with a little air at both ends."""
        known = list(values)
        lower, upper = min(known), max(known)
        if log:
            air = (upper / lower) ** AIR if lower < upper else 2.0
            return cls(title=title, lower=lower / air, upper=upper * air, log=True)
        margin = AIR * (upper - lower) if lower < upper else 0.5
        return cls(title=title, lower=lower - margin, upper=upper + margin)

    def place(self, value: Value) -> float:
        """0 at the lower end to 1 at the upper; values beyond the ends are put on them."""
        clipped = min(max(float(value), self.lower), self.upper)
        lower, upper, at = (math.log(each) if self.log else each for each in (self.lower, self.upper, clipped))
        return (at - lower) / (upper - lower)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        """Round values within the range: about five, or powers of ten with 2 and 5 between where these are few."""
        values = _powers(self.lower, self.upper) if self.log else _multiples(self.lower, self.upper)
        return tuple(Tick(text=f"{value:.4g}", place=self.place(value)) for value in values)


@dataclass(frozen=True, kw_only=True)
class ChoiceAxis:
    """Choices side by side, in a given order."""

    title: str
    choices: tuple[str, ...]

    def place(self, value: Value) -> float:
        """The middle of the choice's equal share of the axis.

        Raises:
            ValueError: that is none of the choices.
        """
        return (self.choices.index(str(value)) + 0.5) / len(self.choices)

    @property
    def ticks(self) -> tuple[Tick, ...]:
        return tuple(Tick(text=choice, place=self.place(choice)) for choice in self.choices)


def _multiples(lower: float, upper: float) -> Sequence[float]:
    rough = (upper - lower) / 5.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(round_step * power for round_step in ROUND_STEPS if round_step * power >= rough * (1.0 - 1e-9))
    first, last = math.ceil(lower / step - 1e-9), math.floor(upper / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _powers(lower: float, upper: float) -> Sequence[float]:
    exponents = range(math.floor(math.log10(lower)), math.ceil(math.log10(upper)) + 1)
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
        values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        within = [value for value in values if lower * (1.0 - 1e-9) <= value <= upper * (1.0 + 1e-9)]
        if len(within) >= 3:
            return within
    return within or [lower, upper]
