"""Who wins a final: the best, or a cheaper one that the images cannot tell from it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from evaluation.bootstrap import bootstrap_interval, paired_difference_interval, standard_error
from evaluation.config import ObjectiveConfig
from evaluation.pareto import Point
from search.final.decision import Entrant, decide, decide_by_front

RULE: Mapping[str, Any] = {"confidence": 0.95, "seed": 0, "indifference": 0.02}


def entrant(
    name: str, mean: float, *, rank: int = 8, steps: int = 200, noise: float = 0.02, runs: int = 3, seed: int = 0
) -> Entrant:
    """Twelve prompts with two seeds; noise of its own, apart from what prompts do to everybody."""
    common = np.random.default_rng(99).normal(0.0, 0.2, (12, 2))
    own = np.random.default_rng(seed).normal(0.0, noise, (runs, 12, 2))
    own -= own.mean()
    return Entrant(id=name, cost=1000 * rank * steps, objective=mean + (common - common.mean()) + own)


def test_a_clear_lead_wins_whatever_it_costs() -> None:
    decision = decide(
        [entrant("cheap", 0.4, rank=4, seed=1), entrant("dear", 0.6, rank=64, seed=2)],
        confidence=0.95,
        seed=0,
        indifference=0.02,
    )
    assert (decision.winner, decision.tied) == ("dear", ())
    assert [standing.id for standing in decision.standings] == ["dear", "cheap"]
    assert decision.reason == "the highest objective"


def test_of_those_as_good_as_the_leader_the_cheapest_wins_by_parameters_times_steps_then_mean() -> None:
    leader = entrant("leader", 0.602, rank=32, seed=1)
    dearer = entrant("dearer", 0.601, rank=8, steps=300, seed=2)
    cheapest = entrant("cheapest", 0.600, rank=8, steps=100, seed=3)
    far = entrant("far", 0.3, rank=2, steps=10, seed=4)
    decision = decide([far, cheapest, dearer, leader], **RULE)
    assert decision.winner == "cheapest"
    assert decision.tied == ("dearer", "cheapest"), "what is far behind is not tied, however cheap"
    assert [standing.id for standing in decision.standings] == ["leader", "dearer", "cheapest", "far"]
    assert decision.reason == (
        "the images cannot tell cheapest, dearer, leader apart: the cheapest within 0.02 and one standard error of the "
        "highest objective, leader's"
    )
    same_cost = decide([entrant("worse", 0.6, seed=5), entrant("better", 0.601, seed=6)], **RULE)
    assert same_cost.winner == "better"


def test_a_tie_alone_gives_nothing_away() -> None:
    """0.05 behind, with intervals so wide that they hold 0: tied, but not within the margin."""
    leader, cheap = (
        entrant("leader", 0.65, rank=32, noise=0.4, seed=1),
        entrant("cheap", 0.6, rank=4, noise=0.4, seed=2),
    )
    strict = decide([leader, cheap], **RULE)
    assert (strict.winner, strict.tied) == ("leader", ("cheap",))
    assert strict.reason == (
        "the images cannot tell cheap, leader apart: the highest objective, and no cheaper one is within 0.02 and one "
        "standard error of it"
    )
    lead = strict.standings[1].behind
    assert lead is not None
    assert decide([leader, cheap], confidence=0.95, seed=0, indifference=0.2).winner == (
        "cheap" if lead.mean <= standard_error(lead, level=0.95) else "leader"
    )
    assert decide([leader, cheap], confidence=0.95, seed=0, indifference=0.0).winner == "leader"


def test_a_lead_beyond_its_standard_error_counts_however_small_it_is() -> None:
    """0.01 ahead on every image: within the margin, but surely ahead."""
    decision = decide(
        [entrant("leader", 0.61, rank=32, noise=0.001, seed=1), entrant("cheap", 0.6, rank=4, noise=0.001, seed=2)],
        confidence=0.95,
        seed=0,
        indifference=0.02,
    )
    assert decision.winner == "leader"


def test_standings_hold_the_intervals_of_the_bootstrap() -> None:
    first, second = entrant("first", 0.6, seed=1), entrant("second", 0.5, seed=2)
    decision = decide([second, first], confidence=0.9, seed=7, indifference=0.02)
    leader, follower = decision.standings
    assert leader.behind is None
    assert leader.objective == bootstrap_interval(first.objective, seed=7, level=0.9)
    assert follower.behind == paired_difference_interval(first.objective, second.objective, seed=7, level=0.9)
    assert follower.behind.mean == pytest.approx(0.1)


def test_one_training_that_went_well_is_not_told_from_skill() -> None:
    """The search's own run is far ahead, its retrainings are not: by one seed alone there is no sure lead."""
    steady = entrant("steady", 0.55, rank=4, seed=1)
    lucky = entrant("lucky", 0.55, rank=32, seed=2)
    lucky.objective[0] += 0.1
    assert decide([steady, lucky], **RULE).tied == ("steady",)
    alone = [Entrant(id=one.id, cost=one.cost, objective=one.objective[:1]) for one in (steady, lucky)]
    assert decide(alone, **RULE).tied == ()


def test_entrants_may_have_been_trained_differently_often() -> None:
    decision = decide([entrant("a", 0.6, runs=1), entrant("b", 0.4, runs=3, seed=1)], **RULE)
    assert decision.winner == "a"


def test_a_final_needs_somebody() -> None:
    with pytest.raises(ValueError, match="at least one entrant"):
        decide([], **RULE)


POINTS = {"a": (0.5, 0.9), "b": (0.8, 0.85), "c": (1.0, 0.5), "d": (0.7, 0.8)}


@pytest.mark.parametrize(
    ("rule", "order", "reason"),
    [
        (ObjectiveConfig(mode="pareto"), "bacd", "the knee of the front"),
        (
            ObjectiveConfig(mode="pareto", minimum_likeness=0.9),
            "cbad",
            "the highest fidelity at a likeness of 0.9 or more",
        ),
    ],
)
def test_in_mode_pareto_the_rule_takes_the_winner_from_the_finals_front(
    rule: ObjectiveConfig, order: str, reason: str
) -> None:
    entrants = [entrant(name, 0.5 * like + 0.3 * fidelity) for name, (like, fidelity) in POINTS.items()]
    points = [Point(likeness=like, fidelity=fidelity, faceless_rate=0.0) for like, fidelity in POINTS.values()]
    decision = decide_by_front(entrants, points, rule, confidence=0.95, seed=0)
    assert "".join(standing.id for standing in decision.standings) == order
    assert (decision.winner, decision.tied, decision.reason) == (order[0], (), reason)
    winner = next(one for one in entrants if one.id == order[0])
    last = next(one for one in entrants if one.id == order[-1])
    assert decision.standings[-1].behind == paired_difference_interval(
        winner.objective, last.objective, seed=0, level=0.95
    )


def test_a_final_of_mode_pareto_that_misses_the_minimum_says_so() -> None:
    rule = ObjectiveConfig(mode="pareto", minimum_likeness=0.9)
    entrants = [entrant("a", 0.5), entrant("d", 0.6)]
    points = [Point(likeness=POINTS[one.id][0], fidelity=POINTS[one.id][1], faceless_rate=0.0) for one in entrants]
    decision = decide_by_front(entrants, points, rule, confidence=0.95, seed=0)
    assert decision.winner == "d"
    assert decision.reason == "the highest likeness, for none on the front reaches a likeness of 0.9"
