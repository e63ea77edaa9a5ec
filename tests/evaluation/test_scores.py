"""Scores of a set of images and their anchors, worked by hand."""

import dataclasses
import itertools
import math
from typing import Any

import pytest

from evaluation.scores import METRICS, Anchors, ImageRow, image_likeness, score_rows, spread_over_prompts

ANCHORS = Anchors(base_distance=0.8, real_distance=0.4, base_clip_score=25.0)


def row(index: int, distance: float | None, clip_score: float = 25.0) -> ImageRow:
    return ImageRow(
        prompt_index=index, seed=1, face_found=distance is not None, face_distance=distance, clip_score=clip_score
    )


def test_the_table_holds_exactly_the_measures_and_their_directions() -> None:
    assert {name: metric.direction for name, metric in METRICS.items()} == {
        "face_distance": "minimize",
        "likeness": "maximize",
        "second_likeness": "maximize",
        "clip_score": "maximize",
        "fidelity": "maximize",
        "faceless": "minimize",
        "faceless_rate": "minimize",
        "likeness_spread": "minimize",
        "memorisation": "minimize",
        "leakage": "minimize",
        "objective": "maximize",
        "search_value": "maximize",
        "validation_loss": "minimize",
        "hw10_face_score": "minimize",
        "hw10_clip_score": "maximize",
        "hw10_faceless": "minimize",
    }
    assert all(
        metric.name == name and metric.lower < metric.upper and metric.meaning for name, metric in METRICS.items()
    )


def test_scores_worked_by_hand() -> None:
    scores = score_rows([row(0, 0.6, 30.0), row(1, 0.5, 20.0), row(2, None, 10.0), row(3, 1.0, 28.0)], ANCHORS)
    # likeness: (0.8 - 0.6) / 0.4 = 0.5; 0.75; faceless 0; (0.8 - 1.0) / 0.4 = -0.5; mean of four 0.1875
    assert scores.likeness == pytest.approx(0.1875)
    assert scores.face_distance == pytest.approx(0.7)  # (0.6 + 0.5 + 1.0) / 3
    assert scores.clip_score == pytest.approx(22.0)  # 88 / 4: the faceless image stays in
    assert scores.fidelity == pytest.approx(0.88)
    assert (scores.faceless, scores.faceless_rate, scores.images) == (1, 0.25, 4)
    expected = {
        "face_distance": scores.face_distance,
        "likeness": scores.likeness,
        "clip_score": scores.clip_score,
        "fidelity": scores.fidelity,
        "faceless": 1.0,
        "faceless_rate": 0.25,
        "likeness_spread": 1.25,  # 0.75 less -0.5, one of four prompts at either end
    }
    assert scores.as_metrics() == pytest.approx(expected)


def test_the_spread_over_prompts_each_the_mean_of_its_seeds() -> None:
    # likeness by prompt: (0.5 + 1.0) / 2, (-0.5 + 0.25) / 2, 0, 0.5, 1.0; of five the best two and the worst two
    distances = {0: (0.6, 0.4), 1: (1.0, 0.7), 2: (None, None), 3: (0.6, 0.6), 4: (0.4, 0.4)}
    rows = [
        dataclasses.replace(row(prompt, distance), seed=seed)
        for prompt, both in distances.items()
        for seed, distance in enumerate(both)
    ]
    spread = (1.0 + 0.75) / 2 - (-0.125 + 0.0) / 2
    assert spread_over_prompts(rows, ANCHORS) == pytest.approx(spread)
    assert spread_over_prompts(rows[:2], ANCHORS) == 0.0, "the only prompt is best and worst"
    beyond = score_rows(rows, dataclasses.replace(ANCHORS, base_spread=0.25)).likeness_spread
    assert beyond == pytest.approx(spread - 0.25)


def test_anchors_travel_as_metrics() -> None:
    anchors = dataclasses.replace(ANCHORS, copy_distance=0.2)
    metrics = {name: value for name, value in dataclasses.asdict(anchors).items() if value is not None}
    assert Anchors.from_metrics({**metrics, "objective": 0.3}) == anchors


def test_the_ends_of_the_scale() -> None:
    assert image_likeness(row(0, 0.8), ANCHORS) == 0.0
    assert image_likeness(row(0, 0.4), ANCHORS) == 1.0
    assert image_likeness(row(0, None), ANCHORS) == 0.0


def test_losing_a_face_never_pays() -> None:
    """An image better than the base model that loses its face lowers likeness; it does not leave the mean."""
    with_face = score_rows([row(0, 0.5), row(1, 0.6)], ANCHORS)
    without = score_rows([row(0, 0.5), row(1, None)], ANCHORS)
    assert without.likeness < with_face.likeness
    assert without.faceless_rate > with_face.faceless_rate
    # The homework's mean would have called this an improvement: the distance alone went down.
    assert without.face_distance is not None
    assert with_face.face_distance is not None
    assert without.face_distance < with_face.face_distance


def test_faceless_images_keep_their_clip_score() -> None:
    assert score_rows([row(0, 0.5, 30.0), row(1, None, 0.0)], ANCHORS).clip_score == pytest.approx(15.0)


def test_all_faceless_has_no_distance() -> None:
    scores = score_rows([row(0, None), row(1, None)], ANCHORS)
    assert scores.face_distance is None
    assert "face_distance" not in scores.as_metrics()
    assert (scores.likeness, scores.faceless, scores.faceless_rate) == (0.0, 2, 1.0)


def test_every_possible_row_gives_scores_in_range() -> None:
    """The extremes of distances, CLIP scores and anchors, and all of their pairs, stay within the table's bounds."""
    extremes = [row(0, distance, clip) for distance in (0.0, 2.0, None) for clip in (-100.0, 0.0, 100.0)]
    anchors = [
        Anchors(base_distance=base, real_distance=real, base_clip_score=clip)
        for base, real in ((2.0, 0.0), (2.0, 1.98), (0.02, 0.0), (1.0, 0.98))
        for clip in (5.0, 100.0)
    ]
    for chosen, ends in itertools.product(itertools.combinations_with_replacement(extremes, 2), anchors):
        for name, value in score_rows(chosen, ends).as_metrics().items():
            assert METRICS[name].lower <= value <= METRICS[name].upper


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="no images to score"):
        score_rows([], ANCHORS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"likeness": math.nan}, "likeness is nan"),
        ({"likeness": math.inf}, "likeness is inf"),
        ({"likeness": 101.0}, "likeness is 101.0"),
        ({"fidelity": -math.inf}, "fidelity is -inf"),
        ({"clip_score": 100.1}, "clip_score is 100.1"),
        ({"face_distance": -0.1}, "face_distance is -0.1"),
        ({"face_distance": 2.1}, "face_distance is 2.1"),
        ({"face_distance": None}, "None exactly when all are"),
        ({"faceless": 5, "faceless_rate": 1.25}, "faceless_rate is 1.25"),
        ({"faceless": 2}, "they differ"),
        ({"faceless": -1, "faceless_rate": -0.25}, "faceless is -1"),
        ({"faceless": 4, "faceless_rate": 1.0}, "None exactly when all are"),
        ({"images": 0}, "images is 0"),
    ],
)
def test_impossible_scores_cannot_be_built(changes: dict[str, Any], message: str) -> None:
    good = score_rows([row(0, 0.6), row(1, 0.5), row(2, None), row(3, 0.7)], ANCHORS)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(good, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base_distance": 0.4}, "gap of at least 0.02"),
        ({"base_distance": 0.3}, "gap of at least 0.02"),
        ({"base_distance": math.nan}, "face_distance is nan"),
        ({"real_distance": -0.1}, "face_distance is -0.1"),
        ({"base_clip_score": 1.0}, "CLIP score is 1.00, below 5.0"),
        ({"base_clip_score": math.nan}, "clip_score is nan"),
        ({"copy_distance": -0.1}, "face_distance is -0.1"),
        ({"other_distance": math.nan}, "face_distance is nan"),
        ({"base_spread": math.inf}, "likeness_spread is inf"),
    ],
)
def test_anchors_that_measure_nothing_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ANCHORS, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_score": math.nan}, "clip_score is nan"),
        ({"face_distance": math.nan}, "face_distance is nan"),
        ({"face_distance": None}, "exactly when a face was found"),
        ({"face_found": False}, "exactly when a face was found"),
    ],
)
def test_impossible_rows_cannot_be_built(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(row(0, 0.5), **changes)
