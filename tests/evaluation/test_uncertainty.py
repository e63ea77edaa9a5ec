import importlib
from typing import Any

import numpy as np
import pytest

from evaluation.config import ObjectiveConfig
from evaluation.objective import objective
from evaluation.scores import Anchors, ImageRow, score_rows
from evaluation.uncertainty import bootstrap_interval, image_values, paired_difference_interval


def test_two_values_by_hand() -> None:
    """Resampled means of (0, 1) are 0, 0.5 and 1 with probabilities 1/4, 1/2, 1/4."""
    wide = bootstrap_interval([0.0, 1.0], seed=0, level=0.95)
    narrow = bootstrap_interval([0.0, 1.0], seed=0, level=0.4)
    assert (wide.lower, wide.mean, wide.upper) == (0.0, 0.5, 1.0)
    assert (narrow.lower, narrow.mean, narrow.upper) == (0.5, 0.5, 0.5)


def test_equal_values_have_no_width() -> None:
    interval = bootstrap_interval([0.25] * 5, seed=3)
    assert (interval.lower, interval.mean, interval.upper) == (0.25, 0.25, 0.25)


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.2, 24)
    ours = bootstrap_interval(values, seed=2, level=0.9, resamples=20_000)
    bootstrap: Any = importlib.import_module("scipy.stats").bootstrap
    theirs = bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert ours.lower == pytest.approx(theirs.low, abs=0.004)
    assert ours.upper == pytest.approx(theirs.high, abs=0.004)


def test_the_seed_decides() -> None:
    values = np.random.default_rng(1).normal(size=12)
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_pairing_finds_a_difference_that_images_hide() -> None:
    random = np.random.default_rng(0)
    of_the_image = random.normal(0.5, 0.3, 24)
    first = of_the_image + 0.05 + random.normal(0.0, 0.02, 24)
    second = of_the_image + random.normal(0.0, 0.02, 24)
    paired = paired_difference_interval(first, second, seed=1)
    assert 0.0 < paired.lower < 0.05 < paired.upper < 0.1
    apart = bootstrap_interval(first, seed=1), bootstrap_interval(second, seed=1)
    assert apart[0].lower < apart[1].upper


def test_image_values_have_the_scores_as_their_means() -> None:
    anchors = Anchors(base_distance=0.8, real_distance=0.4, base_clip_score=25.0)
    rows = [
        ImageRow(prompt_index=index, seed=1, face_found=distance is not None, face_distance=distance, clip_score=clip)
        for index, (distance, clip) in enumerate([(0.6, 30.0), (None, 10.0), (0.9, 28.0)])
    ]
    values = image_values(rows, anchors, ObjectiveConfig())
    scores = score_rows(rows, anchors)
    expected = scores.as_metrics() | {"objective": objective(scores, ObjectiveConfig())}
    del expected["faceless"]  # a count, not a mean
    assert {name: array.mean() for name, array in values.items()} == pytest.approx(expected)
    assert values["face_distance"].shape == (2,)
    assert "face_distance" not in image_values([rows[1]], anchors, ObjectiveConfig())


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        ([], 0.95, "at least one"),
        ([0.1, float("nan")], 0.95, "finite"),
        ([0.1, 0.2], 1.0, "level is 1.0"),
        ([0.1, 0.2], 95, "level is 95"),
    ],
)
def test_impossible_requests_are_refused(values: list[float], level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, seed=0, level=level)


def test_pairs_need_the_same_length() -> None:
    with pytest.raises(ValueError, match="2 and 3 values"):
        paired_difference_interval([1.0, 2.0], [1.0, 2.0, 3.0], seed=0)
