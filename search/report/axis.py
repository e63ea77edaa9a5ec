"""The values along an axis of a chart: numbers between two ends, or choices side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import altair as alt

from search.config.space import Value

AIR = 0.04
"""Beyond the least and the greatest value, of the range between them."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Either numbers or choices."""

    lower: float = 0.0
    upper: float = 1.0
    log: bool = False
    choices: tuple[str, ...] = ()
    """The first is the lowest."""

    @classmethod
    def around(cls, values: Iterable[float], *, log: bool = False) -> Axis:
        """A range that holds all values (at least one, positive with `log`) with a little air at both ends."""
        known = list(values)
        lower, upper = min(known), max(known)
        if log:
            air = (upper / lower) ** AIR if lower < upper else 2.0
            return cls(lower=lower / air, upper=upper * air, log=True)
        margin = AIR * (upper - lower) if lower < upper else 0.5
        return cls(lower=lower - margin, upper=upper + margin)

    @property
    def scale(self) -> alt.Scale:
        """For Vega; numbers beyond the ends are put on them."""
        if self.choices:
            return alt.Scale(type="point", domain=list(reversed(self.choices)), padding=0.5)
        kind: Literal["log", "linear"] = "log" if self.log else "linear"
        return alt.Scale(type=kind, domain=[self.lower, self.upper], nice=False, zero=False, clamp=True)

    def place(self, value: Value) -> float:
        """Where `scale` puts a value: 0 at the lower end to 1 at the upper; of a choice, the middle of its share.

        Raises:
            ValueError: that is none of the choices.
        """
        if self.choices:
            return (self.choices.index(str(value)) + 0.5) / len(self.choices)
        at, lower, upper = min(max(float(value), self.lower), self.upper), self.lower, self.upper
        if self.log:
            at, lower, upper = math.log(at), math.log(lower), math.log(upper)
        return (at - lower) / (upper - lower)
