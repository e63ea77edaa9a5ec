"""Memorisation and leakage."""

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.faces import Face
from evaluation.leakage import leakage
from evaluation.memorisation import memorisation
from evaluation.scores import ImageRow


def unit(degrees: float) -> NDArray[np.float32]:
    angle = np.radians(degrees)
    return np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)


def face(degrees: float) -> Face:
    return Face(embedding=unit(degrees), confidence=1.0, box=(0, 0, 1, 1))


def test_memorised_images_are_those_nearer_than_real_photos_come() -> None:
    real = np.stack([unit(0), unit(20), unit(60)])  # 20, 40 and 60 degrees apart: the nearest pairs about 20
    training = np.stack([unit(100), unit(180)])
    # 5 degrees from a training photo: a copy; 30 degrees: not; near a real photo only: not; faceless: not
    assert memorisation([face(105), face(130), face(0), None], training, real) == 0.25
    assert memorisation([None], training, real) == 0.0


def test_memorisation_needs_something_to_compare() -> None:
    with pytest.raises(ValueError, match="0 images"):
        memorisation([], np.stack([unit(0)]), np.stack([unit(0), unit(5)]))
    with pytest.raises(ValueError, match="1 real"):
        memorisation([None], np.stack([unit(0)]), np.stack([unit(0)]))


def row(index: int, distance: float | None) -> ImageRow:
    return ImageRow(
        prompt_index=index, seed=1, face_found=distance is not None, face_distance=distance, clip_score=20.0
    )


def test_leakage_by_hand() -> None:
    base = [row(0, 0.9), row(1, 0.8), row(2, None), row(3, 0.7)]
    candidate = [row(0, 0.6), row(1, 0.7), row(2, 0.1), row(3, None)]
    # (0.3 + 0.1) / 2: images without a face on either side say nothing
    assert leakage(base, candidate) == pytest.approx(0.2)
    assert leakage(base, base) == 0.0
    assert leakage(base[2:], candidate[2:]) is None


def test_leakage_compares_the_same_images() -> None:
    with pytest.raises(ValueError, match="same prompts and seeds"):
        leakage([row(0, 0.9)], [row(1, 0.9)])
