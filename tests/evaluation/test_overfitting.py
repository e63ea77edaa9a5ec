"""Memorisation, leakage and fitness: the meters that a likeness alone would not notice."""

import pytest

from evaluation.config import LimitsConfig
from evaluation.copies import memorisation, memorisation_interval
from evaluation.objective import excess, unfit_reasons
from evaluation.scores import Anchors, ImageRow
from evaluation.similarity import leakage

ANCHORS = Anchors(base_distance=0.8, real_distance=0.4, base_clip_score=25.0, copy_distance=0.2, other_distance=0.9)


def row(index: int, distance: float | None, picture_distance: float | None = None) -> ImageRow:
    return ImageRow(
        prompt_index=index,
        seed=1,
        face_found=distance is not None,
        face_distance=distance,
        clip_score=20.0,
        picture_distance=picture_distance,
    )


def test_copies_are_images_nearer_to_a_training_photo_than_real_photos_come() -> None:
    rows = [row(0, 0.5, 0.19), row(1, 0.5, 0.2), row(2, None, 0.1), row(3, 0.5, 1.2)]
    assert memorisation(rows, 0.2) == 0.5, "a copy without a face is a copy"
    assert memorisation([row(0, 0.5)], 0.2) is None
    told = memorisation_interval(rows, 0.2)
    assert told is not None
    assert (told.lower, told.value, told.upper) == pytest.approx((0.15, 0.5, 0.85), abs=1e-3)
    with pytest.raises(ValueError, match="no images"):
        memorisation([], 0.2)


def test_leakage_is_likeness_that_others_gain() -> None:
    # (0.9 - mean(0.6, 0.8)) / (0.8 - 0.4): images without a face say nothing
    assert leakage([row(0, 0.6), row(1, 0.8), row(2, None)], ANCHORS) == pytest.approx(0.5)
    assert leakage([row(0, 0.9)], ANCHORS) == pytest.approx(0.0)
    assert leakage([row(0, 1.0)], ANCHORS) == pytest.approx(-0.25)


def test_leakage_that_cannot_be_measured_is_no_number() -> None:
    assert leakage([], ANCHORS) is None
    assert leakage([row(0, None)], ANCHORS) is None
    without = Anchors(base_distance=0.8, real_distance=0.4, base_clip_score=25.0)
    assert leakage([row(0, 0.6)], without) is None


LIMITS = LimitsConfig(memorisation=0.1, leakage=0.5, likeness_spread=0.8)
FIT = {"faceless_rate": 0.5, "memorisation": 0.1, "leakage": 0.5, "likeness_spread": 0.8}


def test_a_candidate_at_its_limits_is_fit_and_one_beyond_is_not() -> None:
    assert unfit_reasons(FIT, LIMITS) == ()
    assert excess(FIT, LIMITS) == 0.0
    beyond = {**FIT, "memorisation": 0.35, "leakage": 0.6, "likeness_spread": 0.95}
    assert unfit_reasons(beyond, LIMITS) == (
        "memorisation 0.35 is above 0.1",
        "leakage 0.60 is above 0.5",
        "likeness_spread 0.95 is above 0.8",
    )
    assert excess(beyond, LIMITS) == pytest.approx(0.25 + 0.1 + 0.15)


def test_without_a_limit_a_meter_is_only_told() -> None:
    none = LimitsConfig(memorisation=None, leakage=None, likeness_spread=None)
    beyond = {"faceless_rate": 0.0, "memorisation": 1.0, "leakage": 2.0, "likeness_spread": 2.0}
    assert unfit_reasons(beyond, none) == ()
    assert excess(beyond, none) == 0.0
    assert unfit_reasons({"faceless_rate": 1.0}, none) == ("it draws no face",)


def test_what_was_not_measured_makes_nobody_unfit() -> None:
    assert unfit_reasons({"faceless_rate": 0.0}, LIMITS) == ()
    assert excess({"faceless_rate": 0.0}, LIMITS) == 0.0
