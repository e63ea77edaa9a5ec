"""Bootstrap intervals over prompts, seeds and training runs, worked by hand and against SciPy."""

import importlib
import itertools
from typing import Any

import numpy as np
import pytest

from evaluation.bootstrap import (
    Interval,
    bootstrap_interval,
    image_values,
    paired_difference_interval,
    standard_error,
)
from evaluation.config import MeasureConfig, ObjectiveConfig
from evaluation.image_row import ImageRow
from evaluation.objective import objective
from evaluation.scores import Anchors, candidate_metrics


def column(*values: float) -> Any:
    """One seed a prompt."""
    return np.array(values)[:, None]


def test_two_prompts_by_hand() -> None:
    """Resampled means of (0, 1) are 0, 0.5 and 1 with probabilities 1/4, 1/2, 1/4."""
    wide = bootstrap_interval(column(0.0, 1.0), seed=0, level=0.95)
    narrow = bootstrap_interval(column(0.0, 1.0), seed=0, level=0.4)
    assert (wide.lower, wide.mean, wide.upper) == (0.0, 0.5, 1.0)
    assert (narrow.lower, narrow.mean, narrow.upper) == (0.5, 0.5, 0.5)


def test_prompts_and_seeds_are_drawn_apart_and_meet() -> None:
    """Every resample of a 2 x 2 table by hand: its mean is that of the drawn rows and columns, 16 equally likely."""
    table = np.array([[0.0, 1.0], [2.0, 7.0]])
    means = [
        np.mean([table[row, column] for row in rows for column in columns])
        for rows in itertools.product((0, 1), repeat=2)
        for columns in itertools.product((0, 1), repeat=2)
    ]
    found = bootstrap_interval(table, seed=1, level=0.5, resamples=40_000)
    assert (found.lower, found.upper) == tuple(np.quantile(means, [0.25, 0.75], method="inverted_cdf"))
    assert found.mean == 2.5


def test_images_of_one_prompt_are_no_independent_draws() -> None:
    """Eight seeds that all say the same of a prompt make nobody surer about prompts."""
    prompts = np.random.default_rng(0).normal(size=12)
    once, eightfold = prompts[:, None], np.repeat(prompts[:, None], 8, axis=1)
    narrow, wide = bootstrap_interval(eightfold, seed=3), bootstrap_interval(once, seed=4)
    assert narrow.upper - narrow.lower == pytest.approx(wide.upper - wide.lower, rel=0.1)


def test_equal_values_have_no_width() -> None:
    interval = bootstrap_interval(np.full((3, 5, 2), 0.25), seed=3)
    assert (interval.lower, interval.mean, interval.upper) == (0.25, 0.25, 0.25)


def test_one_factor_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.2, 24)
    ours = bootstrap_interval(values[:, None], seed=2, level=0.9, resamples=20_000)
    bootstrap: Any = importlib.import_module("scipy.stats").bootstrap
    theirs = bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=20_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    assert ours.lower == pytest.approx(theirs.low, abs=0.004)
    assert ours.upper == pytest.approx(theirs.high, abs=0.004)


def test_training_runs_are_a_factor_too() -> None:
    """Where only the training seed matters, only the number of trainings narrows the interval."""
    runs = np.array([0.2, 0.5, 0.8])
    spread_out = bootstrap_interval(np.broadcast_to(runs[:, None, None], (3, 12, 4)), seed=0)
    assert (spread_out.lower, spread_out.mean, spread_out.upper) == pytest.approx((0.2, 0.5, 0.8))


def test_the_seed_decides() -> None:
    values = np.random.default_rng(1).normal(size=(12, 2))
    assert bootstrap_interval(values, seed=5) == bootstrap_interval(values, seed=5)
    assert bootstrap_interval(values, seed=5) != bootstrap_interval(values, seed=6)


def test_images_without_a_value_are_left_out() -> None:
    values = np.array([[0.5, np.nan], [0.5, 0.5]])
    interval = bootstrap_interval(values, seed=0)
    assert (interval.lower, interval.mean, interval.upper) == (0.5, 0.5, 0.5)


def test_pairing_finds_a_difference_that_images_hide() -> None:
    random = np.random.default_rng(0)
    of_the_image = random.normal(0.5, 0.3, (12, 2))
    first = of_the_image + 0.05 + random.normal(0.0, 0.02, (12, 2))
    second = of_the_image + random.normal(0.0, 0.02, (12, 2))
    paired = paired_difference_interval(first, second, seed=1)
    assert 0.0 < paired.lower < 0.05 < paired.upper < 0.1
    apart = bootstrap_interval(first, seed=1), bootstrap_interval(second, seed=1)
    assert apart[0].lower < apart[1].upper


ANCHORS = Anchors.between(untuned_distance=0.8, real_distance=0.4, clip_score=25.0, mismatched_clip_score=5.0)


def test_image_values_have_the_metrics_as_their_means() -> None:
    config = ObjectiveConfig(measures={"glasses": MeasureConfig(weight=0.2, zero=0.0, one=2.0)})
    rows = [
        ImageRow.of(0, 1, face_distance=0.6, clip_score=30.0, verified=1.0, retrieved=1.0, glasses=1.0),
        ImageRow.of(1, 1, face_distance=None, clip_score=10.0, verified=0.0, retrieved=0.0, training_photo="a.jpg"),
        ImageRow.of(2, 1, face_distance=0.9, clip_score=28.0, verified=0.5, retrieved=1.0, glasses=5.0),
    ]
    values = image_values(rows, ANCHORS, config, leakage=0.5)
    metrics = {**candidate_metrics(rows, ANCHORS, config), "leakage": 0.5}
    expected = metrics | {"objective": objective(metrics, config)}
    for name in ("faceless", "likeness_spread", "beyond_real", "leakage"):
        del expected[name]  # no means over images of the person, or of no interest image by image
    assert set(expected) >= {"verification_rate", "prompt_retrieval", "glasses", "anchored_glasses", "faceless_rate"}
    assert {name: np.nanmean(array) for name, array in values.items()} == pytest.approx(expected)
    assert {array.shape for array in values.values()} == {(3, 1)}
    for name in ("face_distance", "glasses"):
        assert np.isnan(values[name][:, 0]).tolist() == [False, True, False]
    assert "face_distance" not in image_values([rows[1]], ANCHORS, config, leakage=None)


def test_leakage_costs_every_image_alike_and_below_0_nothing() -> None:
    rows = [ImageRow.of(index, 1, face_distance=0.5, clip_score=20.0 + index) for index in range(3)]
    without, with_leakage, negative = (
        image_values(rows, ANCHORS, ObjectiveConfig(leakage=0.4), leakage=leakage)["objective"]
        for leakage in (None, 0.5, -0.5)
    )
    np.testing.assert_allclose(without - with_leakage, 0.2)
    np.testing.assert_array_equal(negative, without)


def test_image_values_stand_by_prompt_and_seed_whatever_the_order() -> None:
    rows = [
        ImageRow.of(prompt, seed, face_distance=0.5, clip_score=10.0 * prompt + seed)
        for seed in (7, 3)
        for prompt in (1, 0)
    ]
    table = image_values(rows, ANCHORS, ObjectiveConfig(), leakage=None)["clip_score"]
    np.testing.assert_array_equal(table, [[3.0, 7.0], [13.0, 17.0]])
    with pytest.raises(ValueError, match="3 images of 2 prompts and 2 seeds"):
        image_values(rows[:3], ANCHORS, ObjectiveConfig(), leakage=None)
    with pytest.raises(ValueError, match="4 images of 2 prompts and 2 seeds"):
        image_values([*rows[:3], rows[0]], ANCHORS, ObjectiveConfig(), leakage=None)


def test_the_standard_error_is_the_width_of_a_normal_interval() -> None:
    for level, deviations in ((0.95, 1.959964), (0.6826895, 1.0)):
        interval = Interval(lower=0.5 - 0.1 * deviations, mean=0.5, upper=0.5 + 0.1 * deviations)
        assert standard_error(interval, level=level) == pytest.approx(0.1, rel=1e-6)
    values = np.random.default_rng(7).normal(0.4, 0.2, 60)
    found = bootstrap_interval(values[:, None], seed=2, level=0.9, resamples=20_000)
    assert standard_error(found, level=0.9) == pytest.approx(values.std() / 60**0.5, rel=0.03)


@pytest.mark.parametrize(
    ("values", "level", "message"),
    [
        (np.empty((0, 2)), 0.95, "at least one"),
        (np.array([0.1, 0.2]), 0.95, r"\[prompts, seeds\]"),
        (column(0.1, np.inf), 0.95, "no infinite one"),
        (column(np.nan, np.nan), 0.95, "at least one finite number"),
        (column(0.1, 0.2), 1.0, "level is 1.0"),
        (column(0.1, 0.2), 95, "level is 95"),
    ],
)
def test_impossible_requests_are_refused(values: Any, level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, seed=0, level=level)


def test_pairs_need_the_same_prompts_and_seeds() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1\) and \(3, 1\) prompts and seeds"):
        paired_difference_interval(column(1.0, 2.0), column(1.0, 2.0, 3.0), seed=0)
