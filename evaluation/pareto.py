"""The Pareto front of likeness and fidelity: the candidates that no other beats in both, and the rule that takes one.

Pure.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evaluation.config import ObjectiveConfig
from evaluation.measures import EXCESS, FACELESS_RATE, FIDELITY, LIKENESS

TOLERANCE = 1e-9
"""Bulges, as shares of the front's range, that differ by less are equal: it is above rounding and below any measure."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """What decides about a candidate."""

    likeness: float
    fidelity: float
    faceless_rate: float
    unfitness: float = 0.0
    """0 for a candidate that may win; above 0, the more the further, for one beyond its limits."""

    @classmethod
    def of(cls, metrics: Mapping[str, float]) -> "Point":
        """The point of a candidate's metrics, which have the names of `evaluation.measures.METRICS`."""
        return cls(
            likeness=metrics[LIKENESS],
            fidelity=metrics[FIDELITY],
            faceless_rate=metrics[FACELESS_RATE],
            unfitness=metrics[EXCESS],
        )


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The point that the rule takes."""

    index: int
    """Its place among the points given."""
    reason: str
    """Why this one, in words; also where something asked for could not be had."""


def dominates(one: Point, other: Point, *, maximum_faceless_rate: float) -> bool:
    """Whether `one` beats `other` under Deb's constrained domination (Deb et al. 2002, NSGA-II, section VI).

    The constraint is kept by a point within the faceless rate that is fit to win. Keeping it beats breaking it, and
    breaking it by less beats breaking it by more. Of two that keep it, the one wins that is nowhere worse and somewhere
    better. The same holds here of two that break it by as much, which Deb leaves open: rates of a few dozen images are
    often equal.
    """
    excess, other_excess = (
        max(0.0, point.faceless_rate - maximum_faceless_rate) + point.unfitness for point in (one, other)
    )
    if excess != other_excess:
        return excess < other_excess
    nowhere_worse = one.likeness >= other.likeness and one.fidelity >= other.fidelity
    return nowhere_worse and (one.likeness > other.likeness or one.fidelity > other.fidelity)


def front(points: Sequence[Point], *, maximum_faceless_rate: float) -> list[int]:
    """Places of the points that no other dominates, from the most faithful to the likest; equal points stay in order.

    If no point keeps the constraint, these are of those that break it least.
    """
    places = [
        place
        for place, point in enumerate(points)
        if not any(dominates(other, point, maximum_faceless_rate=maximum_faceless_rate) for other in points)
    ]
    return sorted(places, key=lambda place: (points[place].likeness, -points[place].fidelity))


def knee(points: Sequence[Point], config: ObjectiveConfig) -> int | None:
    """The place of the point where a front bulges most; None where it does not bulge.

    As Das defines it (Structural Optimization 18, 1999): the point farthest beyond the line through the front's two
    ends, here with likeness and fidelity as shares of the front's own range. A front of one or two points, a straight
    one and one that only sags have none. Of points that bulge alike the highest weighted sum counts, then the earlier.

    Args:
        points: a front (`front`).
        config: weights, for ties.
    """
    likeness, fidelity = _ranges(points)
    if likeness.width == 0.0 or fidelity.width == 0.0:
        return None
    # On the line through the ends the two shares sum to 1; the distance from it grows with the sum.
    bulges = [
        (point.likeness - likeness.lower) / likeness.width + (point.fidelity - fidelity.lower) / fidelity.width - 1.0
        for point in points
    ]
    most = max(bulges)
    if most <= TOLERANCE:
        return None
    alike = [place for place, bulge in enumerate(bulges) if bulge >= most - TOLERANCE]
    return max(alike, key=lambda place: _weighted(points[place], config))


def choose(points: Sequence[Point], config: ObjectiveConfig) -> Choice:
    """Take one point of the front by the configured rule.

    With a `minimum_likeness`: the most faithful point that has it; if none has, the likest. Without: the knee; if there
    is none, the highest weighted sum. Of equals the earlier.

    Args:
        points: at least one; those that others dominate are skipped.
        config: the rule.

    Raises:
        ValueError: there are no points.
    """
    if not points:
        raise ValueError("there is no point to choose from; give at least one candidate")
    places = front(points, maximum_faceless_rate=config.maximum_faceless_rate)
    on_front = [points[place] for place in places]
    chosen, reason = _choose(on_front, config)
    if on_front[chosen].faceless_rate > config.maximum_faceless_rate:
        reason = (
            f"no candidate keeps faceless_rate at {config.maximum_faceless_rate:g} or below; of those nearest to it, "
            f"{reason}"
        )
    return Choice(index=places[chosen], reason=reason)


def ranking(points: Sequence[Point], config: ObjectiveConfig) -> Iterator[int]:
    """Places of all points in the order in which the rule would have them.

    The chosen one comes first, then the others of its front, the nearest to it first, then the front of what is left,
    and so on. Distances are in widths of the first front (in the measures' own units where it is a single point); of
    points at the same distance the highest weighted sum comes first, then the earlier.
    """
    if not points:
        return
    chosen = choose(points, config).index
    left = list(range(len(points)))
    layer = front(points, maximum_faceless_rate=config.maximum_faceless_rate)
    likeness, fidelity = _ranges([points[place] for place in layer])

    def order(place: int) -> tuple[bool, float, float]:
        distance = math.hypot(
            (points[place].likeness - points[chosen].likeness) / (likeness.width or 1.0),
            (points[place].fidelity - points[chosen].fidelity) / (fidelity.width or 1.0),
        )
        return place != chosen, distance, -_weighted(points[place], config)

    while layer:
        yield from sorted(layer, key=order)
        left = [place for place in left if place not in layer]
        rest = [points[place] for place in left]
        layer = [left[place] for place in front(rest, maximum_faceless_rate=config.maximum_faceless_rate)]


@dataclass(frozen=True, kw_only=True)
class _Range:
    """What one measure spans over a front."""

    lower: float
    width: float


def _ranges(points: Sequence[Point]) -> tuple[_Range, _Range]:
    """Of likeness and of fidelity."""
    likenesses, fidelities = [point.likeness for point in points], [point.fidelity for point in points]
    return (
        _Range(lower=min(likenesses), width=max(likenesses) - min(likenesses)),
        _Range(lower=min(fidelities), width=max(fidelities) - min(fidelities)),
    )


def _choose(points: Sequence[Point], config: ObjectiveConfig) -> tuple[int, str]:
    """The place of the rule's choice on a front, and its reason."""
    if config.minimum_likeness is not None:
        minimum = f"a likeness of {config.minimum_likeness:g}"
        reaching = [place for place, point in enumerate(points) if point.likeness >= config.minimum_likeness]
        if reaching:
            most_faithful = max(reaching, key=lambda place: points[place].fidelity)
            return most_faithful, f"the highest fidelity at {minimum} or more"
        nearest = max(range(len(points)), key=lambda place: points[place].likeness)
        return nearest, f"the highest likeness, for none on the front reaches {minimum}"
    bulging = knee(points, config)
    if bulging is not None:
        return bulging, "the knee of the front"
    heaviest = max(range(len(points)), key=lambda place: _weighted(points[place], config))
    if len(points) == 1:
        return heaviest, "the front's only point"
    return heaviest, "the highest weighted sum, for the front has no knee"


def _weighted(point: Point, config: ObjectiveConfig) -> float:
    return config.likeness * point.likeness + config.fidelity * point.fidelity - config.faceless * point.faceless_rate
