"""A search space as a cube: every dimension from 0 to 1, for models that reckon with distances."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from search.config.draws import holds, order
from search.config.space import AnyDimension, Choice, FloatRange, IntRange, Ratio, Space, Value, among

NEAR = 0.08
"""Standard deviation by which `UnitCube.near` moves a range of real numbers."""

MOVED = 0.3
"""Probability with which it draws any other dimension anew."""

Array = NDArray[np.float64]


class UnitCube:
    """The draws of a space (`search.config.draws`) as points of a cube.

    A point has a coordinate for every dimension in the order of the space, also for those that are not drawn because
    their condition does not hold; there it means nothing. A range of real numbers takes its coordinate from its
    bounds, on a logarithmic scale if it has one; everything else has as many equal parts as values, numbers among them
    in ascending order.

    Args:
        space: At least one dimension.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._order = order(space)
        self._places = {name: place for place, name in enumerate(space)}
        self._values = {name: values_of(dimension) for name, dimension in space.items()}

    def random(self, count: int, random: Generator) -> Array:
        """Points drawn evenly, of shape (count, dimensions)."""
        return self._snapped(random.random((count, len(self._space))))

    def near(self, points: Array, random: Generator) -> Array:
        """As many points, each near one of those given."""
        moved = points.copy()
        for place, dimension in enumerate(self._space.values()):
            if _ends(dimension) is not None:
                moved[:, place] = np.clip(moved[:, place] + random.normal(0, NEAR, len(points)), 0, 1)
            else:
                anew = random.random(len(points)) < MOVED
                moved[anew, place] = random.random(int(anew.sum()))
        return self._snapped(moved)

    def point(self, draw: Mapping[str, Value]) -> Array:
        """The point of a draw, of shape (dimensions,)."""
        return np.array([self._coordinate(name, draw[name]) if name in draw else 0.5 for name in self._space])

    def draw(self, point: Array) -> dict[str, Value]:
        """The draw that a point means: what has a condition only where that holds."""
        draw: dict[str, Value] = {}
        for name in self._order:
            if holds(self._space, name, draw):
                draw[name] = self._value(name, float(point[self._places[name]]))
        return draw

    def features(self, points: Array) -> Array:
        """What a model sees of points, of shape (points, features), each from 0 to 1.

        Numbers stand in their order. Each of several words has a feature of its own, for words have no order. What is
        not drawn is the same for all.
        """
        drawn = self._drawn(points)
        columns: list[Array] = []
        for place, (name, dimension) in enumerate(self._space.items()):
            values, coordinates = self._values[name], points[:, place]
            if _ends(dimension) is not None:
                columns.append(np.where(drawn[name], coordinates, 0.5))
                continue
            part = _part(coordinates, len(values))
            if all(isinstance(value, bool | int | float) for value in values):
                columns.append(np.where(drawn[name], part / max(1, len(values) - 1), 0.5))
            else:
                columns.extend(np.where(drawn[name], part == number, 0.0) for number in range(len(values)))
        return np.stack(columns, axis=1).astype(float)

    def numbers(self, name: str, points: Array) -> Array:
        """The values of a dimension that is always drawn and holds numbers, of shape (points,)."""
        coordinates = points[:, self._places[name]]
        return np.array([float(self._value(name, coordinate)) for coordinate in coordinates.tolist()])

    def _drawn(self, points: Array) -> dict[str, NDArray[np.bool_]]:
        """Whether each dimension is drawn at each point."""
        drawn: dict[str, NDArray[np.bool_]] = {}
        for name in self._order:
            known = np.ones(len(points), dtype=bool)
            for other, wanted in self._space[name].when.items():
                values = self._values[other]
                part = _part(points[:, self._places[other]], len(values))
                known &= drawn[other] & np.array([among(value, wanted) for value in values])[part]
            drawn[name] = known
        return drawn

    def _snapped(self, points: Array) -> Array:
        """Into the middles of the parts, so that equal draws are equal points."""
        for place, (name, dimension) in enumerate(self._space.items()):
            if isinstance(dimension, IntRange) and dimension.log:
                points[:, place] = [self._coordinate(name, self._value(name, at)) for at in points[:, place].tolist()]
            elif not isinstance(dimension, FloatRange):
                count = len(self._values[name])
                points[:, place] = (_part(points[:, place], count) + 0.5) / count
        return points

    def _coordinate(self, name: str, value: Value) -> float:
        dimension = self._space[name]
        if (ends := _ends(dimension)) is not None:
            at = math.log(float(value)) if ends.log else float(value)
            return (at - ends.low) / (ends.high - ends.low)
        values = self._values[name]
        return (next(place for place, other in enumerate(values) if among(value, (other,))) + 0.5) / len(values)

    def _value(self, name: str, coordinate: float) -> Value:
        dimension = self._space[name]
        ends = _ends(dimension)
        if ends is None:
            values = self._values[name]
            return values[min(int(coordinate * len(values)), len(values) - 1)]
        at = ends.low + coordinate * (ends.high - ends.low)
        value = min(max(math.exp(at) if ends.log else at, ends.least), ends.most)
        return round(value) if isinstance(dimension, IntRange) else value


def values_of(dimension: AnyDimension) -> tuple[Value, ...]:
    """What a dimension may be; of a range of real numbers nothing."""
    match dimension:
        case FloatRange():
            return ()
        case IntRange():
            return tuple(range(dimension.low, dimension.high + 1, dimension.step))
        case Choice():
            values = dimension.values
        case Ratio():
            values = dimension.ratio
    numbers = [value for value in values if isinstance(value, bool | int | float)]
    return tuple(sorted(numbers)) if len(numbers) == len(values) else tuple(values)


def _part(coordinates: Array, count: int) -> NDArray[np.int64]:
    return np.minimum((coordinates * count).astype(np.int64), count - 1)


@dataclass(frozen=True)
class _Ends:
    """Where the coordinates 0 and 1 of a range lie, on its scale, and the ends of the range."""

    low: float
    high: float
    log: bool
    least: float
    most: float


def _ends(dimension: AnyDimension) -> _Ends | None:
    """Of a range of real numbers, or of whole ones on a logarithmic scale: there each number has the coordinates that
    round to it, so that those at the ends are as likely as others. None of anything else."""
    if isinstance(dimension, FloatRange):
        margin = 0.0
    elif isinstance(dimension, IntRange) and dimension.log:
        margin = 0.5
    else:
        return None
    low, high = dimension.low - margin, dimension.high + margin
    if dimension.log:
        low, high = math.log(low), math.log(high)
    return _Ends(low=low, high=high, log=dimension.log, least=dimension.low, most=dimension.high)
