"""The front, its knee and the rule: by hand, against Optuna and against geometry written another way."""

import dataclasses
import itertools
import random
import subprocess
import sys

import numpy as np
import optuna
import pytest

from evaluation.config import ObjectiveConfig
from evaluation.pareto import Choice, Point, choose, dominates, front, knee, ranking

KNEE = ObjectiveConfig(mode="pareto")


def point(likeness: float, fidelity: float, faceless_rate: float = 0.0) -> Point:
    return Point(likeness=likeness, fidelity=fidelity, faceless_rate=faceless_rate)


FAITHFUL, BULGING, LIKE, LIKEST = point(0.0, 1.0), point(0.5, 0.95), point(0.8, 0.75), point(1.0, 0.5)
BEATEN = point(0.4, 0.9)
CURVE = [LIKEST, BEATEN, FAITHFUL, LIKE, BULGING]


def places(points: list[Point], maximum: float = 0.1) -> list[int]:
    return front(points, maximum_faceless_rate=maximum)


def random_points(generator: random.Random, count: int) -> list[Point]:
    """On a coarse grid, so that equal points, equal coordinates and equal rates are common."""
    return [
        point(generator.randrange(6) / 5, generator.randrange(6) / 5, generator.randrange(4) / 10) for _ in range(count)
    ]


def test_it_is_pure() -> None:
    program = (
        "import sys, evaluation.pareto\n"
        "print(sorted({'torch', 'ray', 'optuna', 'mlflow', 'diffusers', 'deepface'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("one", "other", "first", "second"),
    [
        (point(0.5, 0.9), point(0.4, 0.9), True, False),
        (point(0.5, 0.9), point(0.5, 0.8), True, False),
        (point(0.5, 0.9), point(0.4, 1.0), False, False),
        (point(0.5, 0.9), point(0.5, 0.9), False, False),
        # What keeps the constraint beats what does not, however good that looks.
        (point(-1.0, 0.1, 0.1), point(1.0, 1.0, 0.2), True, False),
        # Within the constraint the rate does not count.
        (point(0.5, 0.9, 0.1), point(0.5, 0.9, 0.0), False, False),
        (point(0.4, 0.9, 0.0), point(0.5, 0.9, 0.1), False, True),
        # Of two that break it the lesser breach wins; of equal breaches the better.
        (point(0.1, 0.1, 0.2), point(1.0, 1.0, 0.3), True, False),
        (point(0.5, 0.9, 0.3), point(0.4, 0.9, 0.3), True, False),
        (point(0.5, 0.9, 0.3), point(0.4, 1.0, 0.3), False, False),
    ],
)
def test_domination_under_the_constraint(one: Point, other: Point, first: bool, second: bool) -> None:
    assert dominates(one, other, maximum_faceless_rate=0.1) is first
    assert dominates(other, one, maximum_faceless_rate=0.1) is second


def test_a_point_is_read_from_the_metrics() -> None:
    metrics = {"likeness": 0.6, "fidelity": 0.9, "faceless_rate": 0.25, "excess": 0.125, "objective": 0.5}
    assert Point.of(metrics) == Point(likeness=0.6, fidelity=0.9, faceless_rate=0.25, unfitness=0.125)


def test_an_unfit_point_is_beaten_by_every_fit_one_and_the_less_unfit_beats_the_more() -> None:
    unfit, worse = (dataclasses.replace(point(1.0, 1.0), unfitness=excess) for excess in (0.1, 0.2))
    assert dominates(point(0.1, 0.1), unfit, maximum_faceless_rate=0.1)
    assert not dominates(unfit, point(0.1, 0.1), maximum_faceless_rate=0.1)
    assert dominates(unfit, worse, maximum_faceless_rate=0.1)
    # Both breaches together: 0.1 of excess and 0.2 of faces against 0.25 of excess.
    assert dominates(
        dataclasses.replace(worse, unfitness=0.25),
        dataclasses.replace(point(1.0, 1.0, 0.3), unfitness=0.1),
        maximum_faceless_rate=0.1,
    )
    assert places([unfit, FAITHFUL, worse, LIKEST]) == [1, 3]


def test_a_rate_that_equals_the_maximum_keeps_the_constraint() -> None:
    for images in (10, 20, 30, 70, 110):
        assert not dominates(point(0.0, 0.0), point(1.0, 1.0, images // 10 / images), maximum_faceless_rate=0.1)


def test_the_front_goes_from_the_most_faithful_to_the_likest() -> None:
    assert places(CURVE) == [2, 4, 3, 0]
    assert places([*CURVE, point(2.0, 2.0, 0.2)]) == [2, 4, 3, 0], "it breaks the constraint"
    assert places([]) == []


def test_equal_points_are_on_the_front_together_in_their_order() -> None:
    assert places([LIKE, BEATEN, BULGING, LIKE, BULGING]) == [2, 4, 0, 3]


def test_if_none_keeps_the_constraint_those_that_break_it_least_are_the_front() -> None:
    assert places([point(1.0, 1.0, 0.4), point(0.6, 0.2, 0.2), point(0.1, 0.8, 0.2), point(0.1, 0.7, 0.2)]) == [2, 1]


def test_the_front_of_random_points_is_optunas() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    generator = random.Random(5)
    for _ in range(30):
        points = random_points(generator, 14)
        study = optuna.create_study(directions=["maximize", "maximize"])
        for each in points:
            trial = study.ask()
            trial.set_constraint("faceless_rate", each.faceless_rate - 0.1)
            study.tell(trial, [each.likeness, each.fidelity])
        expected = [trial.number for trial in study.best_trials]
        if expected:  # Optuna gives none where every trial breaks the constraint
            assert sorted(places(points)) == expected


def test_layers_of_random_points_hold_by_definition() -> None:
    generator = random.Random(6)
    for _ in range(200):
        points = random_points(generator, generator.randrange(1, 12))
        on_front = places(points)
        assert len(set(on_front)) == len(on_front)
        for place, each in enumerate(points):
            beaten = any(dominates(other, each, maximum_faceless_rate=0.1) for other in points)
            assert beaten == (place not in on_front)
        order = list(ranking(points, KNEE))
        assert sorted(order) == list(range(len(points))), "every point once"
        assert order[0] == choose(points, KNEE).index
        for earlier, later in itertools.pairwise(order):
            assert not dominates(points[later], points[earlier], maximum_faceless_rate=0.1)


def test_the_knee_by_hand() -> None:
    # Shares of the range (likeness 1, fidelity 0.5): 0 + 1, 0.5 + 0.9, 0.8 + 0.5, 1 + 0.
    assert knee([FAITHFUL, BULGING, LIKE, LIKEST], KNEE) == 1
    assert choose(CURVE, KNEE) == Choice(index=4, reason="the knee of the front")


def test_the_knee_does_not_depend_on_a_measures_unit() -> None:
    stretched = [point(each.likeness * 7 - 3, each.fidelity / 11 + 2) for each in CURVE]
    assert choose(stretched, KNEE).index == 4


def test_the_knee_is_farthest_from_the_line_through_the_ends() -> None:
    generator = np.random.default_rng(3)
    for _ in range(100):
        likenesses = np.sort(generator.uniform(-1, 2, 9))
        fidelities = np.sort(generator.uniform(0.5, 1.5, 9))[::-1]
        points = [point(float(a), float(b)) for a, b in zip(likenesses, fidelities, strict=True)]
        corners = np.stack([likenesses, fidelities], axis=1)
        scaled = (corners - corners.min(axis=0)) / (corners.max(axis=0) - corners.min(axis=0))
        along, offset = scaled[-1] - scaled[0], scaled - scaled[0]
        distance = (offset[:, 1] * along[0] - offset[:, 0] * along[1]) / np.linalg.norm(along)
        expected = int(distance.argmax()) if distance.max() > 1e-6 else None
        assert knee(points, KNEE) == expected


@pytest.mark.parametrize(
    ("points", "chosen", "reason"),
    [
        ([LIKE], 0, "the front's only point"),
        ([BEATEN, BULGING, BEATEN], 1, "the front's only point"),
        # 0.5 x 0 + 0.4 x 1 = 0.4 against 0.5 x 1 + 0.4 x 0.5 = 0.7
        ([FAITHFUL, LIKEST], 1, "the highest weighted sum, for the front has no knee"),
        ([FAITHFUL, point(0.5, 0.75), LIKEST], 2, "the highest weighted sum, for the front has no knee"),
        ([FAITHFUL, point(0.3, 0.6), LIKEST], 2, "the highest weighted sum, for the front has no knee"),
        ([LIKE, LIKE], 0, "the highest weighted sum, for the front has no knee"),
    ],
    ids=["one", "one of three", "two", "straight", "sagging", "equal"],
)
def test_a_front_without_a_knee_is_decided_by_the_weights(points: list[Point], chosen: int, reason: str) -> None:
    assert choose(points, KNEE) == Choice(index=chosen, reason=reason)
    if len(points) == 3 and chosen == 2:
        faithful = ObjectiveConfig(mode="pareto", likeness=0.1, fidelity=1.0)
        assert choose(points, faithful).index == 0


def test_of_equal_bulges_the_weights_take_one() -> None:
    # Shares 0.3 + 0.8 and 0.8 + 0.3.
    points = [FAITHFUL, point(0.3, 0.9), point(0.8, 0.65), LIKEST]
    assert knee(points, KNEE) == 2
    assert knee(points, ObjectiveConfig(mode="pareto", likeness=0.0, fidelity=1.0)) == 1


@pytest.mark.parametrize(
    ("minimum", "chosen", "reason"),
    [
        (0.0, 2, "the highest fidelity at a likeness of 0 or more"),
        (0.5, 4, "the highest fidelity at a likeness of 0.5 or more"),
        (0.51, 3, "the highest fidelity at a likeness of 0.51 or more"),
        (1.0, 0, "the highest fidelity at a likeness of 1 or more"),
    ],
)
def test_a_minimum_likeness_takes_the_most_faithful_that_has_it(minimum: float, chosen: int, reason: str) -> None:
    assert choose(CURVE, ObjectiveConfig(mode="pareto", minimum_likeness=minimum)) == Choice(
        index=chosen, reason=reason
    )


def test_a_minimum_that_none_reaches_is_said() -> None:
    assert choose(CURVE[1:], ObjectiveConfig(mode="pareto", minimum_likeness=0.9)) == Choice(
        index=2, reason="the highest likeness, for none on the front reaches a likeness of 0.9"
    )


def test_a_constraint_that_none_keeps_is_said() -> None:
    breaking = [point(each.likeness, each.fidelity, 0.25) for each in CURVE]
    assert choose([*breaking, point(2.0, 2.0, 0.5)], KNEE) == Choice(
        index=4,
        reason="no candidate keeps faceless_rate at 0.1 or below; of those nearest to it, the knee of the front",
    )


def test_of_equal_points_the_earlier_is_chosen() -> None:
    points = [LIKE, BULGING, FAITHFUL, BULGING, LIKEST]
    assert choose(points, KNEE).index == 1
    assert choose(points, ObjectiveConfig(mode="pareto", minimum_likeness=0.5)).index == 1


def test_ranking_by_hand() -> None:
    # In widths of the front from the knee: LIKE 0.3 and 0.4 away, FAITHFUL 0.5 and 0.1, LIKEST 0.5 and 0.9.
    assert [CURVE[place] for place in ranking(CURVE, KNEE)] == [BULGING, LIKE, FAITHFUL, LIKEST, BEATEN]
    minimum = ObjectiveConfig(mode="pareto", minimum_likeness=0.9)
    assert [CURVE[place] for place in ranking(CURVE, minimum)] == [LIKEST, LIKE, BULGING, FAITHFUL, BEATEN]
    assert list(ranking([], KNEE)) == []


def test_ranking_of_equal_points_is_in_their_order() -> None:
    assert list(ranking([LIKE, BULGING, FAITHFUL, BULGING, LIKEST, LIKE], KNEE)) == [1, 3, 0, 5, 2, 4]


def test_there_must_be_something_to_choose_from() -> None:
    with pytest.raises(ValueError, match="give at least one candidate"):
        choose([], KNEE)
