"""The decision: which finalist wins, and from which the images cannot tell it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Interval, bootstrap_interval, paired_difference_interval, standard_error
from evaluation.config import ObjectiveConfig
from evaluation.pareto import Point, choose, ranking


@dataclass(frozen=True, kw_only=True, eq=False)
class Entrant:
    """One configuration in the final."""

    id: str
    cost: float
    """Trained parameters times optimizer steps."""
    objective: NDArray[np.float64]
    """Objective of every image on the final's prompts and seeds, [runs, prompts, seeds]; the first run is the search's
    own candidate, the others are trainings of the same configuration with other seeds."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How an entrant came out."""

    id: str
    objective: Interval
    """Over its training runs, prompts and seeds."""
    behind: Interval | None
    """The leader's objective less this one's, paired by prompt and seed; None for the leader."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The outcome of a final."""

    winner: str
    standings: tuple[Standing, ...]
    """Every entrant, the highest mean objective first; that one is the leader."""
    tied: tuple[str, ...]
    """Entrants that the images cannot tell from the leader, which is not among them. Empty: the leader wins alone."""
    reason: str
    """Why the winner is the winner, in words; also where something asked for could not be had."""


def decide(entrants: Sequence[Entrant], *, confidence: float, seed: int, indifference: float) -> Decision:
    """The winner is the entrant with the highest mean objective, or a cheaper one that is as good as that.

    As good is an entrant whose lag is within the indifference and within one standard error of the lag: what costs more
    has to show that it is better, but an interval that holds 0 alone gives nothing away. Of those the cheapest wins, of
    equally cheap ones the higher mean. Tied with the leader, which is shown and decides nothing, is an entrant when the
    interval of the leader's lead holds 0.

    Args:
        entrants: at least one, all on the same prompts and seeds.
        confidence: level of the intervals, a probability.
        seed: of the bootstrap.
        indifference: in units of the objective, at least 0.

    Raises:
        ValueError: no entrants.
    """
    if not entrants:
        raise ValueError("a final needs at least one entrant")
    order = sorted(entrants, key=lambda entrant: -float(entrant.objective.mean()))
    leader = order[0]
    standings = _standings(order, leader, confidence=confidence, seed=seed)
    behind = {entrant.id: standing.behind for entrant, standing in zip(order, standings, strict=True)}
    tied = [entrant for entrant in order if (lead := behind[entrant.id]) is not None and lead.lower <= 0.0]
    as_good = [
        entrant
        for entrant in order
        if (lead := behind[entrant.id]) is None
        or lead.mean <= min(indifference, standard_error(lead, level=confidence))
    ]
    winner = min(as_good, key=lambda entrant: entrant.cost)
    return Decision(
        winner=winner.id,
        standings=standings,
        tied=tuple(entrant.id for entrant in tied),
        reason=_reason(leader.id, winner.id, tied, indifference),
    )


def decide_by_front(
    entrants: Sequence[Entrant],
    points: Sequence[Point],
    rule: ObjectiveConfig,
    *,
    confidence: float,
    seed: int,
) -> Decision:
    """The winner is the point of the entrants' own front that the rule of mode `pareto` takes (`evaluation.pareto`).

    Args:
        entrants: as for `decide`.
        points: of each entrant, over its training runs, prompts and seeds.
        rule: of mode `pareto`.
        confidence: level of the intervals of the objective, which are reported and decide nothing.
        seed: of the bootstrap.

    Raises:
        ValueError: no entrants.
    """
    order = [entrants[place] for place in ranking(points, rule)]
    choice = choose(points, rule)
    leader = entrants[choice.index]
    return Decision(
        winner=leader.id,
        standings=_standings(order, leader, confidence=confidence, seed=seed),
        tied=(),
        reason=choice.reason,
    )


def _standings(order: Sequence[Entrant], leader: Entrant, *, confidence: float, seed: int) -> tuple[Standing, ...]:
    def lead(entrant: Entrant) -> Interval:
        return paired_difference_interval(leader.objective, entrant.objective, seed=seed, level=confidence)

    return tuple(
        Standing(
            id=entrant.id,
            objective=bootstrap_interval(entrant.objective, seed=seed, level=confidence),
            behind=None if entrant is leader else lead(entrant),
        )
        for entrant in order
    )


def _reason(leader: str, winner: str, tied: Sequence[Entrant], indifference: float) -> str:
    if not tied:
        return "the highest objective"
    names = ", ".join(sorted((leader, *(entrant.id for entrant in tied))))
    if winner == leader:
        place = f"the highest objective, and no cheaper one is within {indifference:g} and one standard error of it"
    else:
        place = f"the cheapest within {indifference:g} and one standard error of the highest objective, {leader}'s"
    return f"the images cannot tell {names} apart: {place}"
