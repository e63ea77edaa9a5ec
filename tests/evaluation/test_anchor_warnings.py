"""What is said of anchors that make poor ends of a score."""

import dataclasses
from typing import Any

from evaluation.image_row import ImageRow
from evaluation.scores import Anchors, anchor_warnings

REAL = {"real_face_distance": 0.4, "copy_distance": 0.09}
"""Of the baseline's metrics, what its images do not say."""


def row(index: int, distance: float | None, clip_score: float = 25.0, **further: Any) -> ImageRow:
    return ImageRow.of(index, 1, face_distance=distance, clip_score=clip_score, **further)


def test_good_anchors_warn_of_nothing() -> None:
    rows = [row(prompt, 0.8 + spread, mismatched_clip_score=5.0) for prompt, spread in enumerate((-0.1, 0.1) * 4)]
    assert anchor_warnings(rows, Anchors.of(rows, [], REAL)) == ()


def test_few_faces_make_a_poor_zero() -> None:
    faces = [row(0, 0.7), row(1, 0.9)]
    three_times = [*faces, *(row(index, None) for index in range(2, 6))]
    assert anchor_warnings(three_times, Anchors.of(three_times, [], REAL)) == ()
    more = [*three_times, row(6, None)]
    (warning,) = anchor_warnings(more, Anchors.of(more, [], REAL))
    assert warning.startswith("the untuned model drew a face in 2 of 7 images only, so likeness has a poor zero; use")


def test_faces_that_vary_as_much_as_they_are_away_make_likeness_coarse() -> None:
    # Deviation 0.4 of four images: a standard error of 0.2, half of the gap.
    rows = [row(prompt, distance) for prompt, distance in enumerate((0.4, 1.2, 0.4, 1.2))]
    assert anchor_warnings(rows, Anchors.of(rows, [], {"real_face_distance": 0.4})) == ()
    (warning,) = anchor_warnings(rows, Anchors.of(rows, [], {"real_face_distance": 0.41}))
    assert warning.startswith("the untuned model's faces are 0.390 farther from the person than the real photos, with")
    assert "a standard error of 0.200: likeness is coarse" in warning
    twice = [*rows, *(dataclasses.replace(each, seed=2) for each in rows)]
    assert anchor_warnings(twice, Anchors.of(twice, [], {"real_face_distance": 0.41})) == (), "more seeds help"


def test_prompts_that_clip_hardly_tells_apart_make_fidelity_coarse() -> None:
    rows = [row(0, 0.8, 25.0, mismatched_clip_score=23.0), row(1, 0.8, 25.0, mismatched_clip_score=23.0)]
    assert anchor_warnings(rows, Anchors.of(rows, [], REAL)) == ()
    rows = [row(0, 0.8, 25.0, mismatched_clip_score=23.0), row(1, 0.8, 25.0, mismatched_clip_score=23.5)]
    (warning,) = anchor_warnings(rows, Anchors.of(rows, [], REAL))
    assert warning.startswith("CLIP gives the untuned model's images 1.75 more with their own prompts than with the")


def test_images_whose_prompts_clip_finds_by_chance_alone_make_fidelity_say_little() -> None:
    def images(found: int) -> list[ImageRow]:
        return [
            row(prompt, 0.8, mismatched_clip_score=5.0, retrieved=float(prompt < found), face_confidence=1.0)
            for prompt in range(24)
        ]

    three, two = images(3), images(2)
    assert anchor_warnings(three, Anchors.of(three, [], REAL)) == ()
    (warning,) = anchor_warnings(two, Anchors.of(two, [], REAL))
    assert warning.startswith(
        "CLIP finds the prompt of 8% of the untuned model's images, hardly more than by chance (4%)"
    )


def test_several_poor_ends_are_all_named() -> None:
    rows = [row(0, 0.4, 2.0), row(1, 1.2, 2.0), *(row(index, None, 1.0) for index in range(2, 7))]
    assert len(anchor_warnings(rows, Anchors.of(rows, [], {"real_face_distance": 0.7}))) == 3
