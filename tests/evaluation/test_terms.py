"""Terms: a measure between two ends, clipped an image, worked by hand."""

import dataclasses
import itertools
from typing import Any

import pytest

from evaluation.config import Anchor, MeasureConfig, ObjectiveConfig
from evaluation.image_row import ImageRow
from evaluation.scores import Anchors, candidate_metrics
from evaluation.terms import (
    FACELESS_TERM,
    FIDELITY_TERM,
    LIKENESS_TERM,
    Term,
    anchored,
    weighted_terms,
)

ANCHORS = Anchors.between(untuned_distance=0.8, real_distance=0.4, clip_score=25.0, mismatched_clip_score=5.0)
HOMEWORK = Anchors.between(untuned_distance=1.182, real_distance=0.9, clip_score=30.58, mismatched_clip_score=20.58)
"""The untuned model's numbers as the homework has them; the other two ends stand for real photos and other prompts."""


def row(distance: float | None, clip_score: float = 25.0, **further: Any) -> ImageRow:
    return ImageRow.of(0, 1, face_distance=distance, clip_score=clip_score, **further)


def with_measure(untuned: float | None, real: float | None) -> Anchors:
    """The same ends, and those of a measure `glasses` that were measured."""
    return dataclasses.replace(
        ANCHORS,
        untuned={**ANCHORS.untuned, **({} if untuned is None else {"glasses": untuned})},
        real={**ANCHORS.real, **({} if real is None else {"glasses": real})},
    )


@pytest.mark.parametrize(
    ("distance", "unclipped", "share"),
    [
        (0.8, 0.0, 0.0),
        (0.4, 1.0, 1.0),
        (0.6, 0.5, 0.5),
        (1.0, -0.5, -0.5),
        (1.2, -1.0, -1.0),
        (1.6, -2.0, -1.0),
        (2.0, -3.0, -1.0),
        (0.2, 1.5, 1.0),
        (0.0, 2.0, 1.0),
        (None, 0.0, 0.0),
    ],
)
def test_likeness_of_an_image(distance: float | None, unclipped: float, share: float) -> None:
    assert LIKENESS_TERM.unclipped(row(distance), ANCHORS) == pytest.approx(unclipped)
    assert LIKENESS_TERM.share(row(distance), ANCHORS) == pytest.approx(share)


@pytest.mark.parametrize(
    ("clip_score", "share"),
    [(5.0, 0.0), (25.0, 1.0), (15.0, 0.5), (45.0, 2.0), (46.0, 2.0), (-15.0, -1.0), (-16.0, -1.0), (100.0, 2.0)],
)
def test_fidelity_of_an_image(clip_score: float, share: float) -> None:
    assert FIDELITY_TERM.share(row(0.5, clip_score), ANCHORS) == pytest.approx(share)
    assert FIDELITY_TERM.share(row(None, clip_score), ANCHORS) == pytest.approx(share), "with or without a face"


def test_facelessness_of_an_image() -> None:
    assert FACELESS_TERM.share(row(None), ANCHORS) == 1.0
    assert FACELESS_TERM.share(row(2.0), ANCHORS) == 0.0


def test_the_homeworks_figures_mean_more_likeness_and_a_little_less_fidelity() -> None:
    """1.182 to 1.148 is 3 % and 30.58 to 30.11 is 1.5 %; of the way that there is to go it is 12 % and 5 %."""
    config = ObjectiveConfig()
    untuned = candidate_metrics([row(1.182, 30.58)], HOMEWORK, config)
    tuned = candidate_metrics([row(1.148, 30.11)], HOMEWORK, config)
    assert (untuned["likeness"], untuned["fidelity"]) == pytest.approx((0.0, 1.0))
    assert tuned["likeness"] == pytest.approx(0.034 / 0.282)
    assert tuned["fidelity"] == pytest.approx(1 - 0.47 / 10.0)
    gain, cost = 0.5 * 0.034 / 0.282, 0.4 * 0.047
    assert 0.060 < gain < 0.0605
    assert cost == pytest.approx(0.0188)


@pytest.mark.parametrize(("slope", "shift"), [(0.1, 20.0), (3.0, -30.0), (1.0, 7.0)])
def test_a_clip_with_other_cosines_says_the_same(slope: float, shift: float) -> None:
    """Whether CLIP's cosines lie close together or apart moves both ends and the images alike."""
    for clip_score in (30.58, 30.11, 20.58, 11.0, 0.0):
        other = Anchors.between(
            untuned_distance=1.182,
            real_distance=0.9,
            clip_score=slope * 30.58 + shift,
            mismatched_clip_score=slope * 20.58 + shift,
        )
        same = FIDELITY_TERM.share(row(1.1, slope * clip_score + shift), other)
        assert same == pytest.approx(FIDELITY_TERM.share(row(1.1, clip_score), HOMEWORK))


@pytest.mark.parametrize(("slope", "shift"), [(0.5, 0.0), (0.4, 0.3), (1.2, 0.1)])
def test_a_recogniser_with_other_distances_says_the_same(slope: float, shift: float) -> None:
    for distance in (1.182, 1.148, 0.9, 0.7, 1.4):
        other = Anchors.between(
            untuned_distance=slope * 1.182 + shift, real_distance=slope * 0.9 + shift, clip_score=30.58
        )
        same = LIKENESS_TERM.share(row(slope * distance + shift), other)
        assert same == pytest.approx(LIKENESS_TERM.share(row(distance), HOMEWORK))


def test_images_of_the_other_prompts_have_no_fidelity_and_the_ratio_to_clip_alone_would_hide_it() -> None:
    """A CLIP score is mostly an offset: images that ignore their prompts keep two thirds of it here."""
    ignoring = row(0.5, 20.58)
    assert FIDELITY_TERM.share(ignoring, HOMEWORK) == pytest.approx(0.0)
    without_other_prompts = Anchors.between(untuned_distance=1.182, real_distance=0.9, clip_score=30.58)
    assert FIDELITY_TERM.share(ignoring, without_other_prompts) == pytest.approx(0.673, abs=1e-3)


def test_a_single_prompt_has_no_other_so_that_fidelity_begins_at_0() -> None:
    rows = [ImageRow.of(0, seed, face_distance=0.8, clip_score=score) for seed, score in enumerate((20.0, 30.0))]
    anchors = Anchors.of(rows, [], {"real_face_distance": 0.4})
    assert anchors.end("clip_score", Anchor.MISMATCHED) == 0.0
    assert FIDELITY_TERM.share(row(0.5, 20.0), anchors) == pytest.approx(0.8)


def test_no_image_pays_for_others_without_end() -> None:
    """One picture that is far beyond the photos, or far beyond its prompt, counts as much as one that reaches them."""
    honest = candidate_metrics([row(0.4)] * 3 + [row(0.6)], ANCHORS, ObjectiveConfig())
    lucky = candidate_metrics([row(0.0, 100.0)] + [row(0.8, 5.0)] * 3, ANCHORS, ObjectiveConfig())
    assert lucky["likeness"] == pytest.approx(1 / 4)
    assert lucky["fidelity"] == pytest.approx(2 / 4)
    assert honest["likeness"] == pytest.approx(3.5 / 4)


def test_ends_may_be_numbers_and_either_may_be_the_larger() -> None:
    rising = Term(name="a", measure="glasses", zero=0.0, one=4.0)
    falling = Term(name="b", measure="glasses", zero=4.0, one=0.0, low=0.0)
    for value, up, down in ((0.0, 0.0, 1.0), (1.0, 0.25, 0.75), (4.0, 1.0, 0.0), (6.0, 1.0, 0.0), (-2.0, -0.5, 1.0)):
        assert rising.share(row(0.5, glasses=value), ANCHORS) == pytest.approx(up)
        assert falling.share(row(0.5, glasses=value), ANCHORS) == pytest.approx(down)


def test_ends_are_those_of_the_untuned_model_and_of_real_photos() -> None:
    term = Term(name="a", measure="glasses", zero=Anchor.UNTUNED, one=Anchor.REAL)
    assert term.share(row(0.5, glasses=3.0), with_measure(2.0, 4.0)) == pytest.approx(0.5)
    assert term.share(row(0.5, glasses=3.0), with_measure(4.0, 2.0)) == pytest.approx(0.5)
    mixed = Term(name="a", measure="glasses", zero=Anchor.REAL, one=8.0)
    assert mixed.share(row(0.5, glasses=5.0), with_measure(None, 4.0)) == pytest.approx(0.25)


def test_an_image_without_the_measure_counts_what_is_said_for_it() -> None:
    for missing, share in ((0.0, 0.0), (-0.5, -0.5), (1.0, 1.0)):
        term = Term(name="a", measure="glasses", zero=0.0, one=4.0, missing=missing)
        assert term.share(row(0.5), ANCHORS) == share


def test_ends_that_were_not_measured_are_named() -> None:
    term = Term(name="a", measure="glasses", zero=Anchor.UNTUNED, one=Anchor.REAL)
    glasses = row(0.5, glasses=1.0)
    with pytest.raises(ValueError, match="glasses has no value on the untuned model, so it cannot be counted from"):
        term.share(glasses, with_measure(None, 1.0))
    with pytest.raises(ValueError, match=r"glasses has no value on the real photos, .* give a number as the end"):
        term.share(glasses, with_measure(1.0, None))


def test_ends_that_turn_out_the_same_are_refused() -> None:
    term = Term(name="anchored_glasses", measure="glasses", zero=Anchor.UNTUNED, one=Anchor.REAL)
    with pytest.raises(ValueError, match=r"the ends of anchored_glasses are both 0\.5, so it has no scale"):
        term.share(row(0.5, glasses=1.0), with_measure(0.5, 0.5))


def test_the_terms_of_the_defaults() -> None:
    terms = {each.term.name: (each.weight, each.term.low, each.term.high) for each in weighted_terms(ObjectiveConfig())}
    assert terms == {"likeness": (0.5, -1.0, 1.0), "fidelity": (0.4, -1.0, 2.0), "faceless_rate": (-0.5, -1.0, 1.0)}


@pytest.mark.parametrize(
    ("likeness", "faceless", "low"),
    [(0.5, 0.5, -1.0), (0.5, 1.0, -1.0), (0.5, 0.2, -0.4), (1.0, 0.25, -0.25), (0.5, 0.0, 0.0), (0.0, 0.5, -1.0)],
)
def test_an_unlike_face_costs_no_more_than_a_lost_one(likeness: float, faceless: float, low: float) -> None:
    config = ObjectiveConfig(likeness=likeness, faceless=faceless)
    term = weighted_terms(config)[0].term
    assert term.low == pytest.approx(low)
    assert term.share(row(2.0), ANCHORS) == pytest.approx(low)
    assert candidate_metrics([row(2.0)], ANCHORS, config)["likeness"] == pytest.approx(low)
    # The likeness of the table, which spread and beyond_real are made of, is always the same.
    assert LIKENESS_TERM.share(row(2.0), ANCHORS) == -1.0


def test_further_measures_are_terms_as_configured() -> None:
    measures = {
        "glasses": MeasureConfig(weight=-0.2, zero=1.0, one=Anchor.REAL, low=0.0, high=3.0, missing=0.5),
        "verified": MeasureConfig(weight=0.1),
    }
    *built_in, glasses, verified = weighted_terms(ObjectiveConfig(measures=measures))
    assert [each.term.name for each in built_in] == ["likeness", "fidelity", "faceless_rate"]
    assert (glasses.weight, verified.weight) == (-0.2, 0.1)
    assert glasses.term == Term(
        name=anchored("glasses"), measure="glasses", zero=1.0, one=Anchor.REAL, low=0.0, high=3.0, missing=0.5
    )
    assert verified.term == Term(name="anchored_verified", measure="verified", zero=Anchor.UNTUNED, one=Anchor.REAL)


def test_every_share_is_within_the_terms_bounds() -> None:
    extremes = [row(distance, clip) for distance in (0.0, 2.0, None) for clip in (-100.0, 0.0, 100.0)]
    configs = [ObjectiveConfig(likeness=a, faceless=b) for a, b in itertools.product((0.0, 0.3, 1.0), (0.0, 0.2, 1.0))]
    for image, config, anchors in itertools.product(extremes, configs, (ANCHORS, HOMEWORK)):
        for each in weighted_terms(config):
            assert each.term.low <= each.term.share(image, anchors) <= each.term.high
