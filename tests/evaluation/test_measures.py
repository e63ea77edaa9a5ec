"""The measures: one table of names, directions and ranges, and which of them are said of a candidate."""

import itertools
import math
from dataclasses import fields

import pytest

from evaluation.config import LimitsConfig
from evaluation.measures import (
    FREE,
    IMAGE_MEASURES,
    JUDGED_BY,
    METERS,
    METRICS,
    PRINTED,
    RATES,
    Measure,
    printed,
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
        "beyond_real": "minimize",
        "memorisation": "minimize",
        "leakage": "minimize",
        "verification_rate": "maximize",
        "training_gap": "minimize",
        "several_faces_rate": "minimize",
        "prompt_retrieval": "maximize",
        "seed_diversity": "maximize",
        "others_fidelity": "maximize",
        "others_faceless": "minimize",
        "objective": "maximize",
        "search_value": "maximize",
        "excess": "minimize",
        "validation_loss": "minimize",
        "hw10_face_score": "minimize",
        "hw10_clip_score": "maximize",
        "hw10_faceless": "minimize",
    }
    assert all(
        metric.name == name and metric.lower < metric.upper and metric.meaning for name, metric in METRICS.items()
    )


def test_the_measures_of_an_image_have_names_of_their_own_and_means_in_the_table() -> None:
    assert {measure.name: measure.direction for measure in IMAGE_MEASURES} == {
        "face_found": "maximize",
        "faces": "minimize",
        "face_confidence": "maximize",
        "face_distance": "minimize",
        "nearest_distance": "minimize",
        "training_distance": "minimize",
        "verified": "maximize",
        "several_faces": "minimize",
        "clip_score": "maximize",
        "mismatched_clip_score": "minimize",
        "retrieved": "maximize",
        "seed_distance": "maximize",
        "training_photo": "minimize",
        "picture_distance": "maximize",
    }
    assert len({measure.name for measure in IMAGE_MEASURES}) == len(IMAGE_MEASURES)
    for measure in IMAGE_MEASURES:
        assert measure.meaning
        if measure.mean:
            metric = METRICS[measure.mean]
            assert (metric.direction, metric.lower, metric.upper) == (
                measure.direction,
                measure.lower,
                measure.upper,
            ), "a mean has the range of its measure"


def test_every_meter_has_a_limit_and_every_limit_a_meter() -> None:
    assert {limit.name for limit in fields(LimitsConfig)} == set(METERS)
    assert {METRICS[name].direction for name in METERS} == {"minimize"}


def test_what_is_said_of_a_candidate_is_in_the_table_once() -> None:
    assert len(set(PRINTED)) == len(PRINTED) == len(JUDGED_BY) + len(METERS) + len(FREE)
    assert {*PRINTED, *RATES} <= set(METRICS)
    assert all((METRICS[name].lower, METRICS[name].upper) == (0.0, 1.0) for name in RATES)


def test_what_was_measured_is_printed_in_one_order_and_further_judges_come_last() -> None:
    given = ["glasses", "leakage", "likeness", "face_distance", "objective", "anchored_glasses", "seed_diversity"]
    assert printed(given) == ("objective", "likeness", "leakage", "seed_diversity", "glasses", "anchored_glasses")
    assert printed(METRICS) == PRINTED
    assert printed([]) == ()


def test_the_ends_of_the_baseline_are_not_printed() -> None:
    assert printed(["real_face_distance", "real_glasses", "copy_distance", "fidelity"]) == ("fidelity",)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_value_in_range_passes(value: float) -> None:
    Measure(name="glasses", meaning="", upper=1.0).check(value)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, -math.inf])
def test_a_value_out_of_range_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=f"glasses is {value!r}; it is a finite number from 0 to 1"):
        Measure(name="glasses", meaning="", upper=1.0).check(value)


def test_infinity_is_out_of_every_range() -> None:
    for metric, value in itertools.product(METRICS.values(), (math.nan, math.inf, -math.inf)):
        with pytest.raises(ValueError, match=metric.name):
            metric.check(value)
