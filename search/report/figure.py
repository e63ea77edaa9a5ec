"""A figure of the report: marks on axes, as numbers that a template writes as SVG.

Drawn here and not by a plotting library: every mark is an element of the page that the keyboard reaches and that says
its values to a screen reader, which neither plotly nor vega-lite offers, and 200 trials take kilobytes instead of a
script of megabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from search.config.space import Value
from search.report.axis import Axis, ChoiceAxis

WIDTH, HEIGHT = 720, 360
"""Size of a figure in its own units; the page scales it."""
LEFT, RIGHT, TOP, BOTTOM = 70, 24, 24, 52
"""Space around the plot."""

TICK_LENGTH = 14
"""Characters beside a tick of parallel coordinates; longer texts are cut."""

Point: TypeAlias = tuple[float, float]
"""From the figure's top left corner, in its own units."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One thing that was measured: a dot, a line, or both."""

    label: str
    """What it is and its values, in words."""
    line: tuple[Point, ...] = ()
    dots: tuple[Point, ...] = ()
    crosses: tuple[Point, ...] = ()
    tone: Literal["plain", "good", "middling", "poor", "champion", "second"] = "plain"
    trial: str = ""
    """The trial whose row in the table it leads to."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A line of an axis with the words at its end."""

    start: Point
    end: Point
    text: str
    place: Point
    anchor: Literal["start", "middle", "end"] = "middle"
    strong: bool = False
    """Whether this is an axis; otherwise it is a line of the grid."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Marks on axes."""

    title: str
    marks: tuple[Mark, ...]
    rules: tuple[Rule, ...]
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True, kw_only=True)
class Plot:
    """The area between a horizontal and a vertical axis."""

    horizontal: Axis | ChoiceAxis
    vertical: Axis | ChoiceAxis
    left: int = LEFT
    height: int = HEIGHT

    def x(self, place: float) -> float:
        return round(self.left + place * (WIDTH - self.left - RIGHT), 1)

    def y(self, place: float) -> float:
        return round(self.height - BOTTOM - place * (self.height - TOP - BOTTOM), 1)

    def at(self, horizontal: Value, vertical: Value) -> Point:
        """Where a pair of values lies."""
        return self.x(self.horizontal.place(horizontal)), self.y(self.vertical.place(vertical))

    def rules(self) -> tuple[Rule, ...]:
        """The grid and both titles."""
        bottom, top, right = self.y(0), self.y(1), self.x(1)
        across = [
            Rule(start=(x, bottom), end=(x, top), text=tick.text, place=(x, bottom + 18))
            for tick in self.horizontal.ticks
            for x in (self.x(tick.place),)
        ]
        up = [
            Rule(start=(self.left, y), end=(right, y), text=tick.text, place=(self.left - 8, y + 4), anchor="end")
            for tick in self.vertical.ticks
            for y in (self.y(tick.place),)
        ]
        titles = (
            Rule(
                start=(self.left, bottom),
                end=(right, bottom),
                text=self.horizontal.title,
                place=((self.left + right) / 2, bottom + 40),
                strong=True,
            ),
            Rule(
                start=(self.left, bottom),
                end=(self.left, top),
                text=self.vertical.title,
                place=(4, top - 8),
                anchor="start",
                strong=True,
            ),
        )
        return (*across, *up, *titles)


@dataclass(frozen=True, kw_only=True)
class ParallelPlot:
    """Upright axes side by side; a line goes through all of them."""

    axes: tuple[Axis | ChoiceAxis, ...]
    """At least one."""

    def x(self, number: int) -> float:
        return round(LEFT + number * (WIDTH - 2 * LEFT) / max(1, len(self.axes) - 1), 1)

    def y(self, place: float) -> float:
        return round(HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM), 1)

    def line(self, values: Sequence[Value]) -> tuple[Point, ...]:
        """Through one value an axis."""
        places = [axis.place(value) for axis, value in zip(self.axes, values, strict=True)]
        return tuple((self.x(number), self.y(place)) for number, place in enumerate(places))

    def rules(self) -> tuple[Rule, ...]:
        """The axes, their ticks, and their titles at two heights, so that long ones do not meet."""
        rules = []
        for number, axis in enumerate(self.axes):
            x = self.x(number)
            title = HEIGHT - (12 if number % 2 else 30)
            rules.append(Rule(start=(x, self.y(0)), end=(x, self.y(1)), text=axis.title, place=(x, title), strong=True))
            for tick in axis.ticks:
                y = self.y(tick.place)
                text = tick.text if len(tick.text) <= TICK_LENGTH else tick.text[: TICK_LENGTH - 1] + "…"
                rules.append(Rule(start=(x - 4, y), end=(x + 4, y), text=text, place=(x + 7, y + 4), anchor="start"))
        return tuple(rules)
