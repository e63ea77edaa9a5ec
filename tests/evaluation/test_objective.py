"""The objective and the limits of a candidate, worked by hand."""

import itertools
import math

import pytest

from evaluation.config import ObjectiveConfig
from evaluation.objective import image_objective, objective, objective_floor, search_value
from evaluation.scores import METRICS, Anchors, ImageRow, score_rows

ANCHORS = Anchors(base_distance=0.8, real_distance=0.4, base_clip_score=25.0)
WEIGHTS = [
    ObjectiveConfig(likeness=likeness, fidelity=fidelity, faceless=faceless, leakage=leakage)
    for likeness, fidelity, faceless in itertools.product((0.0, 0.5, 1.0), (0.0, 0.3, 1.0), (0.0, 0.2, 1.0))
    for leakage in (0.0, 1.0)
    if likeness or fidelity
]


def row(index: int, distance: float | None, clip_score: float = 25.0) -> ImageRow:
    return ImageRow(
        prompt_index=index, seed=1, face_found=distance is not None, face_distance=distance, clip_score=clip_score
    )


def test_objective_worked_by_hand() -> None:
    scores = score_rows([row(0, 0.6, 30.0), row(1, 0.5, 20.0), row(2, None, 10.0), row(3, 1.0, 28.0)], ANCHORS)
    # 0.5 x 0.1875 + 0.3 x 0.88 - 0.2 x 0.25
    assert objective(scores, ObjectiveConfig(), leakage=None) == pytest.approx(0.30775)
    # less 0.05 x 0.4; less than 0 is no reward
    assert objective(scores, ObjectiveConfig(), leakage=0.4) == pytest.approx(0.28775)
    assert objective(scores, ObjectiveConfig(), leakage=-0.4) == pytest.approx(0.30775)
    # 1 x 0.1875 + 0.1 x 0.88 - 0.4 x 0.25
    assert objective(scores, ObjectiveConfig(likeness=1.0, fidelity=0.1, faceless=0.4), leakage=None) == pytest.approx(
        0.1755
    )


@pytest.mark.parametrize("config", WEIGHTS, ids=str)
def test_all_faceless_ranks_below_the_worst_candidate_with_a_face(config: ObjectiveConfig) -> None:
    """The homework gave all-faceless a distance of 0, its best value; here not even a perfect CLIP score saves it."""
    narrow = Anchors(base_distance=0.02, real_distance=0.0, base_clip_score=5.0)
    worst_with_face = score_rows([row(0, 2.0, -100.0)], narrow)
    one_face_in_many = score_rows([row(0, 2.0, -100.0)] + [row(index, None, -100.0) for index in range(1, 50)], narrow)
    all_faceless = score_rows([row(0, None, 100.0), row(1, None, 100.0)], narrow)
    last = objective(all_faceless, config, leakage=None)
    assert last < objective(worst_with_face, config, leakage=METRICS["leakage"].upper)
    assert last < objective(one_face_in_many, config, leakage=METRICS["leakage"].upper)
    assert last == objective_floor(config)


@pytest.mark.parametrize("config", WEIGHTS, ids=str)
def test_every_objective_is_finite_and_within_the_table(config: ObjectiveConfig) -> None:
    extremes = [row(0, distance, clip) for distance in (0.0, 2.0, None) for clip in (-100.0, 100.0)]
    for anchors in (ANCHORS, Anchors(base_distance=2.0, real_distance=1.98, base_clip_score=5.0)):
        for chosen in itertools.combinations_with_replacement(extremes, 2):
            for leakage in (None, METRICS["leakage"].lower, METRICS["leakage"].upper):
                value = objective(score_rows(chosen, anchors), config, leakage=leakage)
                assert math.isfinite(value)
                METRICS["objective"].check(value)


def test_the_best_candidate_minds_clip_and_faceless() -> None:
    """The homework kept the smallest distance alone, whatever had become of the prompts and of the faces."""
    balanced = score_rows([row(0, 0.60, 25.0), row(1, 0.60, 25.0), row(2, 0.60, 25.0), row(3, 0.60, 25.0)], ANCHORS)
    forgets_prompts = score_rows([row(index, 0.58, 5.0) for index in range(4)], ANCHORS)
    loses_faces = score_rows([row(0, 0.58), row(1, None), row(2, None), row(3, None)], ANCHORS)
    for other in (forgets_prompts, loses_faces):
        assert other.face_distance is not None
        assert balanced.face_distance is not None
        assert other.face_distance < balanced.face_distance
        honest = objective(balanced, ObjectiveConfig(), leakage=0.0)
        assert honest > objective(other, ObjectiveConfig(), leakage=0.0)


def test_the_objective_is_the_mean_over_images() -> None:
    rows = [row(0, 0.6, 30.0), row(1, 0.5, 20.0), row(2, None, 10.0)]
    mean = sum(image_objective(each, ANCHORS, ObjectiveConfig()) for each in rows) / 3
    assert objective(score_rows(rows, ANCHORS), ObjectiveConfig(), leakage=None) == pytest.approx(mean)


def test_an_unfit_candidate_stands_behind_a_fit_one_and_the_further_out_the_further_behind() -> None:
    assert search_value(0.6, fit=True, excess=0.0) == 0.6
    assert search_value(0.6, fit=False, excess=0.25) == pytest.approx(-0.65)
    assert search_value(0.6, fit=False, excess=0.5) < search_value(0.6, fit=False, excess=0.1)
