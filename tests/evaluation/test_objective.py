"""The objective and the floor of candidates without a face, worked by hand."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest

from evaluation.config import LimitsConfig, MeasureConfig, ObjectiveConfig
from evaluation.image_row import ImageRow
from evaluation.measures import METRICS
from evaluation.objective import (
    Appraisal,
    appraise,
    image_objective,
    leakage_cost,
    objective,
    objective_floor,
    search_value,
    weighted_sum,
)
from evaluation.scores import Anchors, candidate_metrics

ANCHORS = Anchors.between(untuned_distance=0.8, real_distance=0.4, clip_score=25.0, mismatched_clip_score=5.0)
NARROW = Anchors.between(untuned_distance=0.02, real_distance=0.0, clip_score=0.5)
"""As close together as ends may be."""
WEIGHTS = [
    ObjectiveConfig(likeness=likeness, fidelity=fidelity, faceless=faceless, leakage=leakage)
    for likeness, fidelity, faceless in itertools.product((0.0, 0.5, 1.0), (0.0, 0.3, 1.0), (0.0, 0.2, 1.0))
    for leakage in (0.0, 1.0)
    if likeness or fidelity
]


def row(index: int, distance: float | None, clip_score: float = 25.0, **further: Any) -> ImageRow:
    return ImageRow.of(index, 1, face_distance=distance, clip_score=clip_score, **further)


def value_of(
    rows: Sequence[ImageRow], config: ObjectiveConfig, anchors: Anchors = ANCHORS, *, leakage: float | None = None
) -> float:
    metrics = candidate_metrics(rows, anchors, config)
    return objective(metrics if leakage is None else {**metrics, "leakage": leakage}, config)


def test_objective_worked_by_hand() -> None:
    rows = [row(0, 0.6, 30.0), row(1, 0.5, 20.0), row(2, None, 10.0), row(3, 1.0, 28.0)]
    # likeness 0.1875, fidelity 0.85 (see test_scores.py): 0.5 x 0.1875 + 0.4 x 0.85 - 0.5 x 0.25
    assert value_of(rows, ObjectiveConfig()) == pytest.approx(0.30875)
    # less 0.05 x 0.4; less than 0 is no reward
    assert value_of(rows, ObjectiveConfig(), leakage=0.4) == pytest.approx(0.28875)
    assert value_of(rows, ObjectiveConfig(), leakage=-0.4) == pytest.approx(0.30875)
    # likeness no lower than -0.4: (0.5 + 0.75 + 0 - 0.4) / 4 = 0.2125; 1 x 0.2125 + 0.1 x 0.85 - 0.4 x 0.25
    assert value_of(rows, ObjectiveConfig(likeness=1.0, fidelity=0.1, faceless=0.4)) == pytest.approx(0.1975)


def test_the_objective_of_the_untuned_model_is_the_weight_of_fidelity() -> None:
    assert value_of([row(0, 0.8)], ObjectiveConfig()) == pytest.approx(0.4)
    assert value_of([row(0, 0.4)], ObjectiveConfig()) == pytest.approx(0.9), "a perfect candidate"


@pytest.mark.parametrize("config", WEIGHTS, ids=str)
def test_all_faceless_ranks_below_the_worst_candidate_with_a_face(config: ObjectiveConfig) -> None:
    """The homework gave all-faceless a distance of 0, its best value; here not even a perfect CLIP score saves it."""
    worst_with_face = value_of([row(0, 2.0, -100.0)], config, NARROW, leakage=1.0)
    one_face_in_many = value_of(
        [row(0, 2.0, -100.0)] + [row(index, None, -100.0) for index in range(1, 50)], config, NARROW, leakage=1.0
    )
    last = value_of([row(0, None, 100.0), row(1, None, 100.0)], config, NARROW, leakage=0.0)
    assert last == objective_floor(config)
    for other in (worst_with_face, one_face_in_many):
        assert last < other or (config.faceless == 0.0 and last == pytest.approx(other)), "a face that costs nothing"
    # What the search maximises sets it behind in any case.
    none = LimitsConfig(memorisation=None, leakage=None, likeness_spread=None, others_faceless=None)
    faceless = appraise(candidate_metrics([row(0, None, 100.0)], NARROW, config), {}, config, none)
    assert faceless.search_value < min(worst_with_face, one_face_in_many) - 1.0


def test_the_floor_of_the_defaults() -> None:
    # Likeness -1, fidelity -1, all faceless and a leakage of 1.
    assert objective_floor(ObjectiveConfig()) == pytest.approx(-0.5 - 0.4 - 0.5 - 0.05)


def test_the_floor_is_the_least_of_further_measures_too() -> None:
    measures = {
        "glasses": MeasureConfig(weight=0.2, zero=0.0, one=1.0, low=-1.0, high=3.0),
        "blur": MeasureConfig(weight=-0.3, zero=0.0, one=1.0, low=0.0, high=2.0),
    }
    config = ObjectiveConfig(measures=measures)
    assert objective_floor(config) == pytest.approx(-1.45 - 0.2 - 0.6)
    worst = [row(0, 2.0, -100.0, glasses=-9.0, blur=9.0)]
    assert value_of(worst, config, leakage=1.0) > objective_floor(config)
    assert value_of([row(0, None, 100.0, glasses=9.0, blur=0.0)], config) == objective_floor(config)


def test_further_measures_add_their_weights() -> None:
    measures = {
        "glasses": MeasureConfig(weight=0.2, zero=0.0, one=1.0),
        "blur": MeasureConfig(weight=-0.3, zero=0.0, one=1.0, low=0.0),
    }
    rows = [row(0, 0.8, glasses=0.5, blur=1.0), row(1, 0.8, glasses=5.0), row(2, 0.8)]
    # 0.4 as the untuned model, 0.2 x (0.5 + 1 + 0) / 3, less 0.3 x (1 + 0 + 0) / 3
    assert value_of(rows, ObjectiveConfig(measures=measures)) == pytest.approx(0.4 + 0.1 - 0.1)


@pytest.mark.parametrize("config", WEIGHTS, ids=str)
def test_every_objective_is_finite_and_above_the_floor(config: ObjectiveConfig) -> None:
    extremes = [row(0, distance, clip) for distance in (0.0, 2.0, None) for clip in (-100.0, 100.0)]
    most = config.likeness + 2.0 * config.fidelity
    for anchors in (ANCHORS, NARROW, Anchors.between(untuned_distance=2.0, real_distance=1.98, clip_score=5.0)):
        for chosen in itertools.combinations_with_replacement(extremes, 2):
            for leakage in (None, METRICS["leakage"].lower, METRICS["leakage"].upper):
                value = value_of(chosen, config, anchors, leakage=leakage)
                assert math.isfinite(value)
                METRICS["objective"].check(value)
                assert objective_floor(config) - 1e-9 <= value <= most + 1e-9


@pytest.mark.parametrize("config", WEIGHTS, ids=str)
def test_no_face_never_pays_more_than_an_unlike_face(config: ObjectiveConfig) -> None:
    """However unlike: an adapter must not learn to hide faces that it cannot draw."""
    for anchors, distance, clip_score in itertools.product((ANCHORS, NARROW), (0.79, 0.9, 1.3, 2.0), (-5.0, 25.0)):
        unlike = image_objective(row(0, distance, clip_score), anchors, config)
        faceless = image_objective(row(0, None, clip_score), anchors, config)
        assert faceless <= unlike + 1e-12
        rest = [row(index, 0.5) for index in range(1, 4)]
        assert value_of([*rest, row(0, None, clip_score)], config, anchors) <= 1e-12 + value_of(
            [*rest, row(0, distance, clip_score)], config, anchors
        )


def test_the_best_candidate_minds_clip_and_faceless() -> None:
    """The homework kept the smallest distance alone, whatever had become of the prompts and of the faces."""
    balanced = [row(index, 0.60) for index in range(4)]
    forgets_prompts = [row(index, 0.58, 5.0) for index in range(4)]
    loses_faces = [row(0, 0.58), row(1, None), row(2, None), row(3, None)]
    config = ObjectiveConfig()
    for other in (forgets_prompts, loses_faces):
        distance, honest_distance = (
            candidate_metrics(rows, ANCHORS, config)["face_distance"] for rows in (other, balanced)
        )
        assert distance < honest_distance
        assert value_of(balanced, config, leakage=0.0) > value_of(other, config, leakage=0.0)


def test_a_passport_photo_for_every_prompt_does_not_pay() -> None:
    """The person as in a real photo whatever was asked: perfect likeness, and CLIP scores of the other prompts."""
    passport = [row(index, 0.4, 5.0) for index in range(4)]
    half_way = [row(index, 0.6, 22.0) for index in range(4)]
    assert value_of(passport, ObjectiveConfig()) == pytest.approx(0.5)
    assert value_of(half_way, ObjectiveConfig()) == pytest.approx(0.25 + 0.34)


@pytest.mark.parametrize("config", WEIGHTS, ids=str)
def test_the_objective_is_the_mean_over_images(config: ObjectiveConfig) -> None:
    rows = [row(0, 0.6, 30.0), row(1, 0.5, 20.0), row(2, None, 10.0), row(3, 2.0, 90.0)]
    mean = sum(image_objective(each, ANCHORS, config) for each in rows) / 4
    assert value_of(rows, config) == pytest.approx(mean)
    assert weighted_sum(candidate_metrics(rows, ANCHORS, config), config) == pytest.approx(mean)
    assert value_of(rows, config, leakage=0.5) == pytest.approx(mean - leakage_cost(0.5, config))


def test_an_unfit_candidate_stands_behind_a_fit_one_and_the_further_out_the_further_behind() -> None:
    assert search_value(0.6, excess=0.0) == 0.6
    assert search_value(0.6, excess=0.25) == pytest.approx(-0.65)
    assert search_value(0.6, excess=0.5) < search_value(0.6, excess=0.1)


def test_an_appraisal_puts_objective_limits_and_search_value_together() -> None:
    config, limits = ObjectiveConfig(), LimitsConfig(memorisation=0.1)
    metrics = {**candidate_metrics([row(0, 0.6)], ANCHORS, config), "memorisation": 0.75}
    fit = appraise(metrics, {"memorisation": 0.1}, config, limits)
    assert fit.objective == pytest.approx(0.65)
    assert fit == Appraisal(objective=fit.objective, search_value=fit.objective, excess=0.0, unfit=())
    unfit = appraise(metrics, {"memorisation": 0.4}, config, limits)
    assert unfit.objective == fit.objective
    assert unfit.excess == pytest.approx(0.3)
    assert unfit.search_value == pytest.approx(0.65 - 1.3)
    assert unfit.unfit == ("memorisation 0.75 (surely 0.40 or more) is above 0.1",)
    assert unfit.as_metrics() == {
        "objective": unfit.objective,
        "search_value": unfit.search_value,
        "excess": unfit.excess,
    }


def test_a_candidate_without_a_face_exceeds_by_1_whatever_the_limits() -> None:
    config = ObjectiveConfig()
    metrics = candidate_metrics([row(0, None), row(1, None)], ANCHORS, config)
    none = LimitsConfig(memorisation=None, leakage=None, likeness_spread=None, others_faceless=None)
    found = appraise(metrics, {}, config, none)
    assert found.unfit == ("it draws no face",)
    assert (found.excess, found.objective) == (1.0, objective_floor(config))
    assert found.search_value == pytest.approx(objective_floor(config) - 2.0)
