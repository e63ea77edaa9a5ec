import numpy as np
import pytest

from evaluation.faces import Representation
from evaluation.hw10 import Hw10Scores, hw10_scores


def face(x: float, y: float, confidence: float = 0.9) -> Representation:
    return Representation(embedding=np.array([x, y], dtype=np.float32), confidence=confidence)


def test_worked_by_hand() -> None:
    generated = [
        [face(1.0, 0.0), face(0.0, 1.0)],  # two faces: the first in the list counts, not the nearer
        [face(0.6, 0.8)],
        [face(0.0, 1.0, confidence=0.0)],  # DeepFace's whole image: faceless
        [],  # no entry at all: faceless too
    ]
    training = [
        [face(0.0, 1.0), face(1.0, 0.0)],
        [face(-1.0, 0.0, confidence=0.0)],  # a training photo without a face takes part all the same
    ]
    # (1, 0): sqrt(2) and 2; (0.6, 0.8): sqrt(0.36 + 0.04) and sqrt(2.56 + 0.64)
    expected = (2**0.5 + 2.0 + 0.4**0.5 + 3.2**0.5) / 4
    scores = hw10_scores(generated, training, [30.0, 20.0, 99.0, 98.0])
    assert scores.face_score == pytest.approx(expected, abs=1e-6)
    assert scores.clip_score == pytest.approx(25.0)  # of the two images with a face
    assert scores.faceless == 2


def test_orthogonal_faces_are_1_414_apart() -> None:
    scores = hw10_scores([[face(1.0, 0.0)]], [[face(0.0, 1.0)]], [30.0])
    assert scores.face_score == pytest.approx(1.414, abs=1e-3)


def test_all_faceless_is_not_the_best_score() -> None:
    """The homework reports a distance of 0 here."""
    scores = hw10_scores([[], [face(1.0, 0.0, confidence=0.0)]], [[face(1.0, 0.0)]], [30.0, 31.0])
    assert scores == Hw10Scores(face_score=None, clip_score=None, faceless=2)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="1 images and 2 CLIP scores"):
        hw10_scores([[face(1.0, 0.0)]], [[face(1.0, 0.0)]], [30.0, 31.0])
    with pytest.raises(ValueError, match="no training photo"):
        hw10_scores([[face(1.0, 0.0)]], [[]], [30.0])
