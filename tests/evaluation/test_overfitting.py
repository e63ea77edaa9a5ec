"""Memorisation, leakage, spread and lost strangers: the meters that a likeness alone would not notice, and limits."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest

from evaluation.config import LimitsConfig, ObjectiveConfig
from evaluation.image_row import ImageRow
from evaluation.measures import METERS
from evaluation.objective import Appraisal, appraise, meter_lower_ends, unfit_reasons
from evaluation.scores import Anchors, candidate_metrics, leakage, memorisation

ANCHORS = dataclasses.replace(
    Anchors.between(untuned_distance=0.8, real_distance=0.4, clip_score=25.0, copy_distance=0.2),
    others={"face_found": 1.0, "face_distance": 0.9, "clip_score": 25.0},
)
OBJECTIVE = ObjectiveConfig()
NO_LIMITS = LimitsConfig(memorisation=None, leakage=None, likeness_spread=None, others_faceless=None)


def row(index: int, distance: float | None, picture_distance: float | None = None, seed: int = 1) -> ImageRow:
    further: dict[str, Any] = {} if picture_distance is None else {"picture_distance": picture_distance}
    return ImageRow.of(index, seed, face_distance=distance, clip_score=20.0, **further)


def copies(count: int, of: int) -> list[ImageRow]:
    """Images, some of which are copies, all equally like."""
    return [row(index, 0.5, 0.1 if index < count else 1.2) for index in range(of)]


def lower_ends(
    rows: Sequence[ImageRow], others: Sequence[ImageRow] = (), anchors: Anchors = ANCHORS
) -> dict[str, float]:
    return meter_lower_ends(candidate_metrics(rows, anchors, OBJECTIVE, other_rows=others), rows, others, anchors)


def appraised(
    rows: Sequence[ImageRow], limits: LimitsConfig, others: Sequence[ImageRow] = (), anchors: Anchors = ANCHORS
) -> Appraisal:
    metrics = candidate_metrics(rows, anchors, OBJECTIVE, other_rows=others)
    return appraise(metrics, meter_lower_ends(metrics, rows, others, anchors), OBJECTIVE, limits)


def test_copies_are_images_nearer_to_a_training_photo_than_real_photos_come() -> None:
    rows = [row(0, 0.5, 0.19), row(1, 0.5, 0.2), row(2, None, 0.1), row(3, 0.5, 1.2)]
    told = memorisation(rows, ANCHORS)
    assert told is not None
    assert told.value == 0.5, "a copy without a face is a copy"
    assert (told.lower, told.upper) == pytest.approx((0.15, 0.85), abs=1e-3)
    assert candidate_metrics(rows, ANCHORS, OBJECTIVE)["memorisation"] == 0.5


def test_memorisation_that_cannot_be_measured_is_no_number() -> None:
    assert memorisation([row(0, 0.5)], ANCHORS) is None
    assert memorisation([], ANCHORS) is None
    unknown = dataclasses.replace(ANCHORS, copy_distance=None)
    assert memorisation([row(0, 0.5, 0.1)], unknown) is None
    for rows, anchors in (([row(0, 0.5)], ANCHORS), ([row(0, 0.5, 0.1)], unknown)):
        assert "memorisation" not in candidate_metrics(rows, anchors, OBJECTIVE)
        assert "memorisation" not in lower_ends(rows, anchors=anchors)


def test_leakage_is_likeness_that_others_gain() -> None:
    # (0.9 - mean(0.6, 0.8)) / (0.8 - 0.4): images without a face say nothing
    assert leakage([row(0, 0.6), row(1, 0.8), row(2, None)], ANCHORS) == pytest.approx(0.5)
    assert leakage([row(0, 0.9)], ANCHORS) == pytest.approx(0.0)
    assert leakage([row(0, 1.0)], ANCHORS) == pytest.approx(-0.25)


def test_leakage_ends_at_1_either_way() -> None:
    assert leakage([row(0, 0.5)], ANCHORS) == pytest.approx(1.0)
    assert leakage([row(0, 0.2)], ANCHORS) == 1.0
    assert leakage([row(0, 1.6)], ANCHORS) == -1.0


def test_leakage_that_cannot_be_measured_is_no_number() -> None:
    assert leakage([], ANCHORS) is None
    assert leakage([row(0, None)], ANCHORS) is None
    assert leakage([row(0, 0.6)], dataclasses.replace(ANCHORS, others={})) is None
    faceless = dataclasses.replace(ANCHORS, others={"face_found": 0.0, "clip_score": 25.0})
    assert leakage([row(0, 0.6)], faceless) is None


def test_the_lower_end_of_shares_is_wilsons() -> None:
    # 3 of 24: (p + z² / 2n - z sqrt(p (1 - p) / n + z² / 4n²)) / (1 + z² / n)
    for count, of, lower in ((0, 24, 0.0), (1, 24, 0.0074), (3, 24, 0.0434), (8, 24, 0.1797), (24, 24, 0.8620)):
        assert lower_ends(copies(count, of))["memorisation"] == pytest.approx(lower, abs=5e-5)
    share, z, n = 3 / 24, 1.959964, 24
    spread = z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    by_hand = (share + z**2 / (2 * n) - spread) / (1 + z**2 / n)
    assert lower_ends(copies(3, 24))["memorisation"] == pytest.approx(by_hand, abs=1e-6)


def test_the_lower_end_of_lost_strangers_is_wilsons_less_the_untuned_models_share() -> None:
    anchors = dataclasses.replace(ANCHORS, others={**ANCHORS.others, "face_found": 0.75})
    others = [row(0, 0.9), row(1, 0.9), *(row(index, None) for index in range(2, 8))]
    metrics = candidate_metrics([row(0, 0.5)], anchors, OBJECTIVE, other_rows=others)
    assert metrics["others_faceless"] == pytest.approx(0.75 - 0.25)
    found = meter_lower_ends(metrics, [row(0, 0.5)], others, anchors)["others_faceless"]
    assert found == pytest.approx(0.4093 - 0.25, abs=5e-5)


def test_the_lower_end_of_leakage_is_that_of_a_mean() -> None:
    others = [row(0, 0.6), row(1, 0.8), row(2, 0.7), row(3, 0.5), row(4, None)]
    # deviation 0.1291 of four, standard error 0.06455; in units of 0.4
    found = lower_ends([row(0, 0.5)], others)["leakage"]
    assert found == pytest.approx((0.9 - 0.65 - 1.959964 * 0.0645497) / 0.4, abs=1e-5)


def test_the_lower_end_of_the_spread_is_that_of_a_difference_of_two_means() -> None:
    # Four prompts, two seeds: the best (likeness 1 and 0.5) and the worst (-0.5 and 0) stand for a quarter each.
    distances = {0: (0.4, 0.6), 1: (0.6, 0.7), 2: (0.7, 0.7), 3: (1.0, 0.8)}
    rows = [
        row(prompt, distance, seed=seed) for prompt, both in distances.items() for seed, distance in enumerate(both)
    ]
    error = 0.25  # deviation 0.35355 of two values, over sqrt(2)
    anchors = dataclasses.replace(ANCHORS, base_spread=0.1)
    found = lower_ends(rows, anchors=anchors)["likeness_spread"]
    assert found == pytest.approx((0.75 - -0.25) - 0.1 - 1.959964 * math.hypot(error, error), abs=1e-6)


def test_the_width_of_the_spread_is_that_of_the_prompts_that_it_is_made_of() -> None:
    """A prompt that the untuned model draws without a face has no part in either."""
    rows = [row(prompt, 0.4 + 0.1 * prompt + 0.05 * seed, seed=seed) for prompt in range(3) for seed in range(2)]
    behind = [row(3, distance, seed=seed) for seed, distance in enumerate((0.2, 1.6))]
    anchors = dataclasses.replace(ANCHORS, faceless_prompts=frozenset({3}))
    assert lower_ends([*rows, *behind], anchors=anchors)["likeness_spread"] == lower_ends(rows)["likeness_spread"]
    assert lower_ends([*rows, *behind])["likeness_spread"] < lower_ends(rows)["likeness_spread"]


def test_of_single_images_no_spread_is_sure() -> None:
    for rows in ([row(0, 0.5)], [row(0, None), row(1, None)], [row(0, 0.9), row(1, 0.1)]):
        assert lower_ends(rows)["likeness_spread"] == -math.inf


def test_a_lower_end_is_never_above_its_meter() -> None:
    rows = [row(index, 0.3 + 0.1 * index, 0.05 * index, seed) for index in range(8) for seed in range(2)]
    others = [row(index, None if index == 2 else 0.5 + 0.1 * index) for index in range(5)]
    metrics = candidate_metrics(rows, ANCHORS, OBJECTIVE, other_rows=others)
    ends = meter_lower_ends(metrics, rows, others, ANCHORS)
    assert set(ends) == set(METERS)
    assert all(ends[name] < metrics[name] for name in METERS)


def test_more_images_make_surer() -> None:
    few, many = copies(2, 6), copies(8, 24)
    assert lower_ends(few)["memorisation"] < lower_ends(many)["memorisation"]
    assert appraised(few, LimitsConfig()).unfit == ()
    assert appraised(many, LimitsConfig()).unfit != ()


def test_three_copies_of_24_may_be_chance_and_eight_are_not() -> None:
    limits = LimitsConfig(memorisation=0.1)
    three, eight = appraised(copies(3, 24), limits), appraised(copies(8, 24), limits)
    assert (three.unfit, three.excess) == ((), 0.0)
    assert three.search_value == three.objective
    assert eight.unfit == ("memorisation 0.33 (surely 0.18 or more) is above 0.1",)
    assert eight.excess == pytest.approx(0.0797, abs=5e-5)
    assert eight.search_value == pytest.approx(eight.objective - 1.0797, abs=5e-5)


@pytest.mark.parametrize("images", [6, 12, 24, 48])
def test_a_single_image_makes_nobody_unfit(images: int) -> None:
    """One copy, and one stranger who lost the face."""
    others = [row(index, None if index == 0 else 0.9) for index in range(images)]
    assert appraised(copies(1, images), LimitsConfig(), others).unfit == ()


def test_a_single_poor_image_of_two_seeds_makes_nobody_unfit() -> None:
    """Its prompt is the worst by far, but what the other seed shows says that this is luck."""
    rows = [row(prompt, 0.4, seed=seed) for prompt in range(4) for seed in range(2)]
    rows[0] = row(0, 1.2, seed=0)
    metrics = candidate_metrics(rows, ANCHORS, OBJECTIVE)
    assert metrics["likeness_spread"] == pytest.approx(1.0)
    assert appraised(rows, LimitsConfig()).unfit == ()
    both = [*rows[:1], row(0, 1.2, seed=1), *rows[2:]]
    assert appraised(both, LimitsConfig()).unfit == ("likeness_spread 2.00 (surely 2.00 or more) is above 0.5",)


LIMITS = LimitsConfig(memorisation=0.1, leakage=0.5, likeness_spread=0.8, others_faceless=0.5)
FIT = {"memorisation": 0.1, "leakage": 0.5, "likeness_spread": 0.8, "others_faceless": 0.5}
METRICS = {"faceless_rate": 0.5, "likeness": 0.5, "fidelity": 1.0}


def test_a_candidate_at_its_limits_is_fit_and_one_beyond_is_not() -> None:
    metrics = {**METRICS, **dict.fromkeys(FIT, 0.9)}
    assert unfit_reasons(metrics, FIT, LIMITS) == ()
    assert appraise(metrics, FIT, OBJECTIVE, LIMITS).excess == 0.0
    beyond = {**FIT, "memorisation": 0.35, "leakage": 0.6, "likeness_spread": 0.85, "others_faceless": 0.75}
    expected = (
        "likeness_spread 0.90 (surely 0.85 or more) is above 0.8",
        "memorisation 0.90 (surely 0.35 or more) is above 0.1",
        "leakage 0.90 (surely 0.60 or more) is above 0.5",
        "others_faceless 0.90 (surely 0.75 or more) is above 0.5",
    )
    assert unfit_reasons(metrics, beyond, LIMITS) == expected
    found = appraise(metrics, beyond, OBJECTIVE, LIMITS)
    assert found.unfit == expected
    assert found.excess == pytest.approx(0.25 + 0.1 + 0.05 + 0.25)
    assert found.search_value == pytest.approx(found.objective - 1.65)


def test_a_meter_above_its_limit_whose_lower_end_is_below_makes_nobody_unfit() -> None:
    assert unfit_reasons({**METRICS, "memorisation": 0.9}, {"memorisation": 0.1}, LIMITS) == ()


def test_without_a_limit_a_meter_is_only_told() -> None:
    beyond = {"memorisation": 1.0, "leakage": 1.0, "likeness_spread": 2.0, "others_faceless": 1.0}
    metrics = {**METRICS, **beyond}
    assert unfit_reasons(metrics, beyond, NO_LIMITS) == ()
    assert appraise(metrics, beyond, OBJECTIVE, NO_LIMITS).excess == 0.0
    assert unfit_reasons({**METRICS, "faceless_rate": 1.0}, {}, NO_LIMITS) == ("it draws no face",)


def test_what_was_not_measured_makes_nobody_unfit() -> None:
    assert unfit_reasons(METRICS, {}, LIMITS) == ()
    assert appraise(METRICS, {}, OBJECTIVE, LIMITS).excess == 0.0


def test_whoever_draws_no_face_exceeds_by_1_and_by_what_else_is_too_much() -> None:
    metrics = {**METRICS, "faceless_rate": 1.0, "memorisation": 0.9}
    found = appraise(metrics, {"memorisation": 0.6}, OBJECTIVE, LIMITS)
    assert found.unfit == ("it draws no face", "memorisation 0.90 (surely 0.60 or more) is above 0.1")
    assert found.excess == pytest.approx(1.5)
