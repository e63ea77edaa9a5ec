"""The judge of faces, by hand: embeddings of two numbers, whose distances are plain."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evaluation.face_judge import FaceJudge
from evaluation.faces import Face, FaceModel
from evaluation.judges import Pictures, judged
from evaluation.measures import FACE_MEASURES

RIGHT, UP, LEFT = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)
BETWEEN = (0.6, 0.8)
"""Sqrt(0.8) from RIGHT, sqrt(0.4) from UP and sqrt(3.2) from LEFT."""


def vectors(*each: tuple[float, float]) -> Any:
    return np.array(each, dtype=np.float32)


class FixedFaces:
    """In place of a face model: given faces, whatever the images."""

    def __init__(self, faces: Sequence[Face | None], threshold: float | None) -> None:
        self.faces = list(faces)
        self.verification_threshold = threshold

    def embed(self, images: Sequence[Image.Image]) -> list[Face | None]:
        return self.faces[: len(images)]


def face(vector: tuple[float, float], faces: int = 1) -> Face:
    return Face(embedding=vectors(vector)[0], confidence=0.75, box=(0, 0, 9, 9), faces=faces)


def judge_of(faces: Sequence[Face | None], *, threshold: float | None = 1.0, training: Any = None) -> FaceJudge:
    model: Any = FixedFaces(faces, threshold)
    return FaceJudge(model, vectors(RIGHT, UP, LEFT), training)


def images(count: int) -> Pictures:
    return Pictures(images=[Image.new("RGB", (9, 9))] * count)


def test_a_face_is_compared_with_every_photo() -> None:
    (said,) = judge_of([face(BETWEEN)], training=vectors(UP, RIGHT)).judge(images(1))
    assert said == pytest.approx(
        {
            "face_found": True,
            "faces": 1,
            "face_confidence": 0.75,
            "face_distance": (0.8**0.5 + 0.4**0.5 + 3.2**0.5) / 3,
            "nearest_distance": 0.4**0.5,
            "training_distance": (0.8**0.5 + 0.4**0.5) / 2,
            "verified": 2 / 3,
            "several_faces": 0.0,
        },
        abs=1e-6,
    )


def test_an_image_without_a_face_is_verified_as_nobody_and_far_from_nothing() -> None:
    found = judge_of([None, face(UP), None], training=vectors(UP)).judge(images(3))
    assert found[0] == found[2] == {"face_found": False, "verified": 0.0, "several_faces": 0.0}
    assert found[1]["face_found"] is True
    assert found[1]["nearest_distance"] == 0.0


def test_several_faces_are_told_and_the_largest_is_measured() -> None:
    alone, crowd = judge_of([face(UP), face(UP, faces=3)]).judge(images(2))
    assert (alone["several_faces"], alone["faces"]) == (0.0, 1)
    assert (crowd["several_faces"], crowd["faces"]) == (1.0, 3)
    assert crowd["face_distance"] == alone["face_distance"]


@pytest.mark.parametrize(("threshold", "share"), [(0.1, 0.0), (0.7, 1 / 3), (1.0, 2 / 3), (2.0, 1.0)])
def test_the_recognisers_own_threshold_decides_who_is_verified(threshold: float, share: float) -> None:
    (said,) = judge_of([face(BETWEEN)], threshold=threshold).judge(images(1))
    assert said["verified"] == pytest.approx(share)


def test_a_recogniser_without_a_threshold_verifies_nobody() -> None:
    judge = judge_of([face(BETWEEN), None], threshold=None)
    assert not any("verified" in said for said in judge.judge(images(2)))
    assert "verified" not in judge.of_references()


@pytest.mark.parametrize("training", [None, vectors(UP)[:0]])
def test_without_faces_in_the_training_photos_there_is_no_distance_to_them(training: Any) -> None:
    judge = judge_of([face(BETWEEN)], training=training)
    assert "training_distance" not in judge.judge(images(1))[0]
    assert "training_distance" not in judge.of_references()


def test_real_photos_are_compared_with_each_other_and_never_with_themselves() -> None:
    found = judge_of([], threshold=1.5, training=vectors(RIGHT, RIGHT)).of_references()
    root = 2**0.5
    assert found == pytest.approx(
        {
            "face_found": 1.0,
            "face_distance": (root + root + 2.0) / 3,  # each pair once
            "nearest_distance": root,
            "verified": 4 / 6,  # all but the pair that is 2 apart
            "training_distance": (0.0 + root + 2.0) / 3,
        },
        abs=1e-6,
    )


def test_the_nearest_of_real_photos_is_each_ones_own() -> None:
    model: Any = FixedFaces([], 1.0)
    found = FaceJudge(model, vectors(RIGHT, UP, BETWEEN)).of_references()
    assert found["nearest_distance"] == pytest.approx((0.8**0.5 + 0.4**0.5 + 0.4**0.5) / 3, abs=1e-6)


def test_two_reference_photos_are_enough() -> None:
    model: Any = FixedFaces([], 1.0)
    found = FaceJudge(model, vectors(RIGHT, BETWEEN)).of_references()
    assert found["face_distance"] == found["nearest_distance"] == pytest.approx(0.8**0.5, abs=1e-6)
    assert found["verified"] == 1.0


def test_what_it_says_is_declared() -> None:
    pictures = images(2)
    found = judged([judge_of([face(UP), None], training=vectors(UP))], pictures)
    assert {name for said in found for name in said} == {measure.name for measure in FACE_MEASURES}


def test_a_person_is_verified_on_photos_and_another_is_not(
    face_model: FaceModel, photos_of_man: list[Image.Image], photos_of_woman: list[Image.Image]
) -> None:
    embedded = [face.embedding for face in face_model.embed(photos_of_man[:2]) if face is not None]
    judge = FaceJudge(face_model, np.stack(embedded))
    man, woman = judge.judge(Pictures(images=[photos_of_man[2], photos_of_woman[0]]))
    assert man["verified"] == 1.0
    assert woman["verified"] == 0.0
    assert judge.of_references()["verified"] == 1.0
