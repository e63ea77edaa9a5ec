"""Metrics of a set of images and their anchors, worked by hand."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest

from evaluation.config import MeasureConfig, ObjectiveConfig
from evaluation.image_row import ImageRow, means_of, measure_means
from evaluation.measures import METRICS
from evaluation.scores import Anchors, NoFaceError, candidate_metrics, spread_over_prompts

ANCHORS = Anchors.between(untuned_distance=0.8, real_distance=0.4, clip_score=25.0, mismatched_clip_score=5.0)
OBJECTIVE = ObjectiveConfig()
REAL = {"real_face_distance": 0.4, "copy_distance": 0.09}
"""Of the baseline's metrics, what its images do not say."""


def row(index: int, distance: float | None, clip_score: float = 25.0, seed: int = 1, **further: Any) -> ImageRow:
    return ImageRow.of(index, seed, face_distance=distance, clip_score=clip_score, **further)


def metrics_of(
    rows: Sequence[ImageRow], anchors: Anchors = ANCHORS, *, others: Sequence[ImageRow] = ()
) -> dict[str, float]:
    return candidate_metrics(rows, anchors, OBJECTIVE, other_rows=others)


def test_metrics_worked_by_hand() -> None:
    # likeness: (0.8 - 0.6) / 0.4 = 0.5; 0.75; faceless 0; (0.8 - 1.0) / 0.4 = -0.5; mean of four 0.1875
    # fidelity: (30 - 5) / 20 = 1.25; 0.75; 0.25, for the faceless image stays in; 1.15; mean of four 0.85
    expected = {
        "face_distance": 0.7,  # (0.6 + 0.5 + 1.0) / 3
        "likeness": 0.1875,
        "clip_score": 22.0,  # 88 / 4
        "fidelity": 0.85,
        "faceless": 1.0,
        "faceless_rate": 0.25,
        "likeness_spread": 1.25,  # 0.75 less -0.5, one of three prompts at either end
        "beyond_real": 0.0,
    }
    assert metrics_of([row(0, 0.6, 30.0), row(1, 0.5, 20.0), row(2, None, 10.0), row(3, 1.0, 28.0)]) == pytest.approx(
        expected
    )


def test_the_spread_over_prompts_each_the_mean_of_its_seeds() -> None:
    # likeness by prompt: (0.5 + 1.0) / 2, (-0.5 + 0.25) / 2, -0.25 and a lost face, 0.5, 1.0; of five the best two and
    # the worst two
    distances = {0: (0.6, 0.4), 1: (1.0, 0.7), 2: (0.9, None), 3: (0.6, 0.6), 4: (0.4, 0.4)}
    rows = [
        row(prompt, distance, seed=seed) for prompt, both in distances.items() for seed, distance in enumerate(both)
    ]
    spread = (1.0 + 0.75) / 2 - (-0.125 - 0.25) / 2
    assert spread_over_prompts(rows, ANCHORS) == pytest.approx(spread)
    assert spread_over_prompts(rows[:2], ANCHORS) == 0.0, "the only prompt is best and worst"
    beyond = metrics_of(rows, dataclasses.replace(ANCHORS, base_spread=0.25))["likeness_spread"]
    assert beyond == pytest.approx(spread - 0.25)


def test_prompts_that_the_untuned_model_draws_without_a_face_have_no_part_in_the_spread() -> None:
    """A view from behind: nobody can be like there, and a face that turns up is no outfit learnt by heart."""
    rows = [row(0, 0.4), row(1, 0.5), row(2, 0.6), row(3, 0.9), row(4, 1.2)]
    without = dataclasses.replace(ANCHORS, faceless_prompts=frozenset({0, 4}))
    assert spread_over_prompts(rows, ANCHORS) == pytest.approx((1.0 + 0.75) / 2 - (-0.25 - 1.0) / 2)
    assert spread_over_prompts(rows, without) == pytest.approx(0.75 - -0.25)
    # The images count in all that is a mean.
    assert metrics_of(rows, without)["likeness"] == metrics_of(rows)["likeness"]
    assert metrics_of(rows, without)["likeness_spread"] == pytest.approx(1.0)


def test_an_image_that_lost_its_face_has_no_part_in_the_spread() -> None:
    """It costs faceless_rate; were it a likeness of 0 here, too, a good prompt would look like a bad one."""
    rows = [row(0, 0.4, seed=1), row(0, None, seed=2), row(1, 0.4, seed=1), row(1, 0.4, seed=2), row(2, None)]
    assert spread_over_prompts(rows, ANCHORS) == 0.0
    assert metrics_of(rows)["faceless_rate"] == 0.4
    assert spread_over_prompts([row(0, None), row(1, None)], ANCHORS) == 0.0, "nobody is like anywhere"


def test_likeness_in_the_spread_is_clipped_as_elsewhere() -> None:
    assert spread_over_prompts([row(0, 0.0), row(1, 2.0)], ANCHORS) == 2.0


def test_anchors_are_made_of_the_untuned_models_images() -> None:
    rows = [
        row(0, 0.9, 30.0, seed=1, mismatched_clip_score=10.0),
        row(0, None, 20.0, seed=2, mismatched_clip_score=12.0),
        row(1, 0.7, 25.0, seed=1, mismatched_clip_score=8.0),
        row(1, 0.8, 25.0, seed=2, mismatched_clip_score=10.0, training_photo="a.jpg"),
        row(2, None, 25.0, seed=1),
        row(2, None, 25.0, seed=2),
    ]
    others = [row(0, 1.0, 24.0, mismatched_clip_score=4.0), row(1, None, 20.0, mismatched_clip_score=6.0)]
    anchors = Anchors.of(rows, others, {**REAL, "real_nearest_distance": 0.3, "objective": 0.4, "likeness": 0.0})
    assert anchors.untuned == pytest.approx(
        {"face_found": 0.5, "face_distance": 0.8, "clip_score": 25.0, "mismatched_clip_score": 10.0}
    )
    assert anchors.real == {"face_distance": 0.4, "nearest_distance": 0.3}
    assert anchors.others == pytest.approx(
        {"face_found": 0.5, "face_distance": 1.0, "clip_score": 22.0, "mismatched_clip_score": 5.0}
    )
    assert anchors.copy_distance == 0.09
    assert anchors.faceless_prompts == {2}
    assert anchors.base_spread == pytest.approx(
        (0.05 - -0.1) / 0.4
    )  # prompt 1 is 0.75 away on average, prompt 0 is 0.9
    assert (anchors.gap, anchors.clip_gap) == pytest.approx((0.4, 15.0))


def test_the_untuned_model_itself_has_likeness_0_fidelity_1_and_no_spread_of_its_own() -> None:
    rows = [row(0, 0.9, 30.0, mismatched_clip_score=10.0), row(1, 0.7, 20.0, mismatched_clip_score=12.0)]
    others = [row(0, 1.0, 24.0, mismatched_clip_score=4.0), row(1, None, 20.0, mismatched_clip_score=6.0)]
    found = metrics_of(rows, Anchors.of(rows, others, REAL), others=others)
    zeros = ("likeness", "likeness_spread", "beyond_real", "leakage", "others_faceless")
    assert {name: found[name] for name in zeros} == pytest.approx(dict.fromkeys(zeros, 0.0), abs=1e-12)
    assert (found["fidelity"], found["others_fidelity"]) == pytest.approx((1.0, 1.0))


def test_without_a_face_of_the_untuned_model_likeness_has_no_zero() -> None:
    with pytest.raises(NoFaceError, match="drew no face in 2 images, so likeness has no zero"):
        Anchors.of([row(0, None), row(1, None)], [], REAL)


def test_images_of_others_are_optional() -> None:
    rows = [row(0, 0.8, mismatched_clip_score=5.0)]
    anchors = Anchors.of(rows, [], {"real_face_distance": 0.4})
    assert (anchors.others, anchors.copy_distance) == ({}, None)
    found = metrics_of(rows, anchors, others=rows)
    assert not {"leakage", "others_fidelity", "others_faceless", "memorisation"} & set(found)


def test_texts_have_no_mean_and_missing_measures_do_not_count() -> None:
    assert means_of([{"a": 1.0, "b": True, "c": "text"}, {"a": 2, "b": False}, {"c": "text", "a": 3.0}]) == {
        "a": 2.0,
        "b": 0.5,
    }
    assert measure_means([row(0, None, 10.0), row(1, 0.5, 20.0)]) == {
        "face_found": 0.5,
        "clip_score": 15.0,
        "face_distance": 0.5,
    }


def test_the_ends_of_the_scale() -> None:
    for distance, likeness in ((0.8, 0.0), (0.4, 1.0), (None, 0.0)):
        assert metrics_of([row(0, distance)])["likeness"] == likeness
    for clip_score, fidelity in ((5.0, 0.0), (25.0, 1.0)):
        assert metrics_of([row(0, 0.8, clip_score)])["fidelity"] == fidelity


def test_losing_a_face_never_pays() -> None:
    """An image better than the base model that loses its face lowers likeness; it does not leave the mean."""
    with_face = metrics_of([row(0, 0.5), row(1, 0.6)])
    without = metrics_of([row(0, 0.5), row(1, None)])
    assert without["likeness"] < with_face["likeness"]
    assert without["faceless_rate"] > with_face["faceless_rate"]
    # The homework's mean would have called this an improvement: the distance alone went down.
    assert without["face_distance"] < with_face["face_distance"]


def test_faceless_images_keep_their_clip_score() -> None:
    assert metrics_of([row(0, 0.5, 30.0), row(1, None, 0.0)])["clip_score"] == pytest.approx(15.0)
    assert metrics_of([row(0, 0.5, 25.0), row(1, None, 5.0)])["fidelity"] == pytest.approx(0.5)


def test_all_faceless_has_no_distance() -> None:
    found = metrics_of([row(0, None), row(1, None)])
    assert not {"face_distance", "training_gap"} & set(found)
    assert (found["likeness"], found["faceless"], found["faceless_rate"]) == (0.0, 2.0, 1.0)


def test_what_lies_beyond_real_photos_counts_for_nothing_and_is_told() -> None:
    # likeness 1.5, 1.0 and 0.5
    found = metrics_of([row(0, 0.2), row(1, 0.4), row(2, 0.6), row(3, None)])
    assert found["likeness"] == pytest.approx((1.0 + 1.0 + 0.5) / 4)
    assert found["beyond_real"] == pytest.approx(0.5 / 4)
    assert metrics_of([row(0, 0.4), row(1, 0.9)])["beyond_real"] == 0.0


def test_the_verification_rate_is_a_share_of_all_pairs_and_no_face_is_nobody() -> None:
    rows = [row(0, 0.5, verified=1.0), row(1, 0.6, verified=0.25), row(2, None, verified=0.0)]
    assert metrics_of(rows)["verification_rate"] == pytest.approx(1.25 / 3)
    assert "verification_rate" not in metrics_of([row(0, 0.5)]), "a recogniser may have no threshold"


def test_the_training_gap_is_likeness_to_the_photos_trained_on_beyond_that_to_the_others() -> None:
    rows = [row(0, 0.6, training_distance=0.4), row(1, 0.5, training_distance=0.5), row(2, None)]
    # mean distances 0.55 and 0.45, in units of 0.4
    assert metrics_of(rows)["training_gap"] == pytest.approx(0.25)
    assert metrics_of([row(0, 0.5, training_distance=0.6)])["training_gap"] == pytest.approx(-0.25)
    assert "training_gap" not in metrics_of([row(0, 0.5)])


def test_images_with_several_faces_are_a_share_of_all_images() -> None:
    rows = [row(0, 0.5, several_faces=1.0), row(1, 0.5, several_faces=0.0), row(2, None, several_faces=0.0)]
    assert metrics_of(rows)["several_faces_rate"] == pytest.approx(1 / 3)


def test_prompt_retrieval_is_a_share_of_all_images() -> None:
    rows = [row(0, 0.5, retrieved=1.0), row(1, 0.5, retrieved=0.0), row(2, None, retrieved=1.0)]
    assert metrics_of(rows)["prompt_retrieval"] == pytest.approx(2 / 3)
    assert "prompt_retrieval" not in metrics_of([row(0, 0.5)]), "a single prompt is found always"


def test_seed_diversity_is_the_mean_over_images_that_have_siblings() -> None:
    rows = [row(0, 0.5, seed=1, seed_distance=0.4), row(0, 0.5, seed=2, seed_distance=0.6), row(1, 0.5)]
    assert metrics_of(rows)["seed_diversity"] == pytest.approx(0.5)
    assert "seed_diversity" not in metrics_of([row(0, 0.5)])


def test_others_lose_their_prompts_and_their_faces_between_their_own_ends() -> None:
    anchors = dataclasses.replace(
        ANCHORS, others={"face_found": 0.75, "clip_score": 20.0, "mismatched_clip_score": 10.0, "face_distance": 0.9}
    )
    drawn = [row(0, 0.9, 20.0), row(1, None, 15.0), row(2, None, 10.0), row(3, 0.9, 5.0)]
    found = metrics_of([row(0, 0.5)], anchors, others=drawn)
    # 1, 0.5, 0 and -0.5, faceless or not
    assert found["others_fidelity"] == pytest.approx(0.25)
    assert found["others_faceless"] == pytest.approx(0.5 - 0.25)
    assert found["leakage"] == pytest.approx(0.0)
    better = metrics_of([row(0, 0.5)], anchors, others=[row(0, 0.9, 100.0)])
    assert better["others_fidelity"] == 2.0, "clipped as for the person"
    assert better["others_faceless"] == pytest.approx(-0.25)


def test_others_that_are_all_one_prompt_have_no_fidelity_to_speak_of() -> None:
    """A single prompt has no other; where CLIP cannot tell the prompts apart there is no scale."""
    alone = dataclasses.replace(ANCHORS, others={"face_found": 1.0, "clip_score": 20.0, "face_distance": 0.9})
    assert metrics_of([row(0, 0.5)], alone, others=[row(0, 0.9, 15.0)])["others_fidelity"] == pytest.approx(0.75)
    blurred = {"face_found": 1.0, "clip_score": 20.0, "mismatched_clip_score": 19.9, "face_distance": 0.9}
    found = metrics_of([row(0, 0.5)], dataclasses.replace(ANCHORS, others=blurred), others=[row(0, 0.9, 15.0)])
    assert "others_fidelity" not in found
    assert found["others_faceless"] == 0.0


def test_further_measures_are_reported_and_counted_between_their_ends() -> None:
    anchors = dataclasses.replace(
        ANCHORS, untuned={**ANCHORS.untuned, "glasses": 0.2}, real={**ANCHORS.real, "glasses": 0.6}
    )
    config = ObjectiveConfig(measures={"glasses": MeasureConfig(weight=0.1)})
    rows = [row(0, 0.5, glasses=0.4), row(1, 0.5, glasses=1.0), row(2, 0.5)]
    found = candidate_metrics(rows, anchors, config)
    assert found["glasses"] == pytest.approx(0.7), "the mean over the images that have it"
    assert found["anchored_glasses"] == pytest.approx((0.5 + 1.0 + 0.0) / 3), "clipped, and 0 where it is missing"


def test_every_possible_row_gives_metrics_in_range() -> None:
    """The extremes of distances, CLIP scores and anchors, and all of their pairs, stay within the table's bounds."""
    extremes = [row(0, distance, clip) for distance in (0.0, 2.0, None) for clip in (-100.0, 0.0, 100.0)]
    anchors = [
        Anchors.between(untuned_distance=base, real_distance=real, clip_score=clip, mismatched_clip_score=other)
        for base, real in ((2.0, 0.0), (2.0, 1.98), (0.02, 0.0), (1.0, 0.98))
        for clip, other in ((0.5, 0.0), (5.0, 0.0), (100.0, 99.5), (100.0, -100.0))
    ]
    for chosen, ends in itertools.product(itertools.combinations_with_replacement(extremes, 2), anchors):
        for name, value in metrics_of(chosen, ends).items():
            assert METRICS[name].lower <= value <= METRICS[name].upper


def test_no_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="no images to score"):
        metrics_of([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"untuned": {"face_distance": 0.4}}, "gap of at least 0.02"),
        ({"untuned": {"face_distance": 0.3}}, "gap of at least 0.02"),
        ({"untuned": {"face_distance": math.nan}}, "face_distance is nan"),
        ({"real": {"face_distance": -0.1}}, "face_distance is -0.1"),
        (
            {"untuned": {"clip_score": 5.4}},
            r"is 5\.40 with its own prompts and 5\.00 with the others': fidelity needs a gap of at least 0\.5",
        ),
        ({"untuned": {"clip_score": 4.0}}, "needs a gap of at least 0.5"),
        ({"untuned": {"clip_score": math.nan}}, "clip_score is nan"),
        ({"untuned": {"mismatched_clip_score": math.nan}}, "mismatched_clip_score is nan"),
        ({"copy_distance": -0.1}, "picture_distance is -0.1"),
        ({"others": {"face_distance": math.nan}}, "face_distance is nan"),
        ({"others": {"glasses": math.inf}}, "glasses is inf"),
        ({"base_spread": math.inf}, "likeness_spread is inf"),
    ],
)
def test_anchors_that_measure_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    merged: dict[str, Any] = {
        name: {**getattr(ANCHORS, name), **value} if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ANCHORS, **merged)


def test_a_gap_of_exactly_the_least_is_enough() -> None:
    Anchors.between(untuned_distance=0.02, real_distance=0.0, clip_score=0.5)


def test_anchors_without_the_ends_of_likeness_or_fidelity_cannot_be_built() -> None:
    with pytest.raises(ValueError, match="face_distance has no value on the untuned model"):
        Anchors(untuned={"clip_score": 25.0}, real={"face_distance": 0.4})
    with pytest.raises(ValueError, match="face_distance has no value on the real photos"):
        Anchors(untuned={"clip_score": 25.0, "face_distance": 0.8}, real={})
    with pytest.raises(ValueError, match="clip_score has no value on the untuned model"):
        Anchors(untuned={"face_distance": 0.8}, real={"face_distance": 0.4})
