"""The decision: which finalist wins, and from which the images cannot tell it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import Interval, bootstrap_interval, paired_difference_interval
from evaluation.config import ObjectiveConfig
from evaluation.pareto import Point, choose, ranking


@dataclass(frozen=True, kw_only=True, eq=False)
class Entrant:
    """One configuration in the final."""

    id: str
    rank: int
    """LoRA rank: the first measure of what the adapter costs."""
    steps: int
    """Optimizer steps of the candidate: the second."""
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


def decide(entrants: Sequence[Entrant], *, confidence: float, seed: int) -> Decision:
    """The winner is the entrant with the highest mean objective, or a cheaper one that is tied with it.

    An entrant is tied with the leader when the interval of the leader's lead holds 0. Among the tied and the leader the
    cheapest wins, by smaller rank, then fewer steps, then higher mean: what costs more has to show that it is better.

    Args:
        entrants: at least one, all on the same prompts and seeds.
        confidence: level of the intervals, a probability.
        seed: of the bootstrap.

    Raises:
        ValueError: no entrants.
    """
    if not entrants:
        raise ValueError("a final needs at least one entrant")
    order = sorted(entrants, key=lambda entrant: -float(entrant.objective.mean()))
    leader = order[0]
    standings = _standings(order, leader, confidence=confidence, seed=seed)
    behind = zip(order, (standing.behind for standing in standings), strict=True)
    tied = [entrant for entrant, lead in behind if lead is not None and lead.lower <= 0.0]
    winner = min([leader, *tied], key=lambda entrant: (entrant.rank, entrant.steps))
    return Decision(
        winner=winner.id,
        standings=standings,
        tied=tuple(entrant.id for entrant in tied),
        reason=_reason(leader.id, winner.id, tied),
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


def _reason(leader: str, winner: str, tied: Sequence[Entrant]) -> str:
    if not tied:
        return "the highest objective"
    names = ", ".join(sorted((leader, *(entrant.id for entrant in tied))))
    place = "and the highest objective" if winner == leader else f"the highest objective is {leader}'s"
    return f"a tie, the images cannot tell {names} apart: the cheapest of these, {place}"
