"""A draw: the values that a sampler draws from a space, and the training settings that they mean.

They differ where dimensions depend on each other: a ratio is drawn as a factor and means a product, and a dimension
whose condition (`when`) does not hold is not drawn at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import TypeAlias

from search.config.space import Choice, Ratio, Space, Value, among, clip, extremes, nearest_value
from trainer.settings_file import nearest

Draw: TypeAlias = Mapping[str, Value]
"""Values by setting, of a ratio the factor."""

DIGITS = 12
"""Significant digits of a product of a ratio: a tenth of 300 is 30, not 30.000000000000004."""


def order(space: Space) -> tuple[str, ...]:
    """The settings of a space, each behind those that it depends on, else as the space has them.

    Raises:
        ValueError: one depends on a setting that cannot be depended on, or on itself in the end.
    """
    for name, dimension in space.items():
        for other, values in dimension.when.items():
            _check_condition(space, name, other, values)
    ordered: list[str] = []
    waiting = list(space)
    while waiting:
        ready = [name for name in waiting if not any(other in waiting for other in _needs(space, name))]
        if not ready:
            raise ValueError(f"{' and '.join(waiting)} depend on each other in a circle; take one condition away")
        ordered.append(ready[0])
        waiting.remove(ready[0])
    return tuple(ordered)


def holds(space: Space, name: str, draw: Draw) -> bool:
    """Whether a setting is drawn beside what was drawn before it (in the order of `order`)."""
    return all(other in draw and among(draw[other], values) for other, values in space[name].when.items())


def settings_of(space: Space, draw: Draw, fixed: Mapping[str, object]) -> dict[str, Value]:
    """The training settings that a draw means, in the order of the space.

    Args:
        space: What varies.
        draw: Any part of the space.
        fixed: The settings that hold where none is drawn.

    Raises:
        ValueError: a ratio of something that is no number.
    """
    settings: dict[str, Value] = {}
    for name in order(space):
        if name not in draw:
            continue
        dimension = space[name]
        if isinstance(dimension, Ratio):
            settings[name] = _product(float(draw[name]), _base(name, dimension, {**fixed, **settings}))
        else:
            settings[name] = draw[name]
    return {name: settings[name] for name in space if name in settings}


def draw_of(space: Space, settings: Mapping[str, Value], fixed: Mapping[str, object]) -> dict[str, Value]:
    """The nearest draw to some training settings, for the dimensions that they name; see `search.config.space.clip`.

    A dimension whose condition these settings break is left out; so is a ratio of something that they leave open.
    """
    draw: dict[str, Value] = {}
    for name in order(space):
        dimension = space[name]
        broken = any(
            (other in draw and not among(draw[other], values)) or (other in settings and other not in draw)
            for other, values in dimension.when.items()
        )
        if broken or name not in settings:
            continue
        if not isinstance(dimension, Ratio):
            draw |= clip({name: dimension}, settings)
        elif dimension.of not in space or dimension.of in draw:
            base = _base(name, dimension, {**fixed, **settings_of(space, draw, fixed)})
            draw[name] = nearest_value(dimension.ratio, float(settings[name]) / base)
    return draw


def corners(space: Space) -> Iterator[tuple[tuple[str, ...], dict[str, Value]]]:
    """Every end of every dimension, then of every two: the names that vary, and the draw beside the fewest steps.

    A dimension brings the conditions that it needs; ends that exclude each other are left out.
    """
    for count in (1, 2):
        for names in combinations(space, count):
            for values in product(*(extremes(space[name]) for name in names)):
                draw = _with_conditions(space, dict(zip(names, values, strict=True)))
                if draw is not None:
                    yield names, draw


def _with_conditions(space: Space, chosen: dict[str, Value]) -> dict[str, Value] | None:
    draw = dict(chosen)
    for name in reversed(order(space)):
        if name not in draw:
            continue
        for other, values in space[name].when.items():
            if not among(draw.setdefault(other, values[0]), values):
                return None
    if "steps" in space:
        draw.setdefault("steps", extremes(space["steps"])[0])
    return draw


def _check_condition(space: Space, name: str, other: str, values: tuple[Value, ...]) -> None:
    dimension = space.get(other)
    if dimension is None:
        raise ValueError(f"{name!r} has a condition on {other!r}, which space does not name{nearest(other, space)}")
    if not isinstance(dimension, Choice):
        raise ValueError(f"{name!r} has a condition on {other!r}, which is a range; a condition needs `values`")
    for value in values:
        if not among(value, dimension.values):
            raise ValueError(
                f"{name!r} is drawn when {other!r} is {value!r}, which is not among its values {list(dimension.values)}"
            )


def _needs(space: Space, name: str) -> tuple[str, ...]:
    dimension = space[name]
    return (*dimension.when, *((dimension.of,) if isinstance(dimension, Ratio) else ()))


def _base(name: str, dimension: Ratio, settings: Mapping[str, object]) -> float:
    if dimension.of not in settings:
        raise ValueError(f"{name!r} is a ratio of {dimension.of!r}, which is no training setting")
    base = settings[dimension.of]
    if isinstance(base, bool) or not isinstance(base, int | float) or base == 0:
        raise ValueError(f"{name!r} is a ratio of {dimension.of!r}, which is {base!r}; give `of` a number other than 0")
    return base


def _product(ratio: float, base: float) -> Value:
    value = float(f"{ratio * base:.{DIGITS}g}")
    return int(value) if value.is_integer() else value
