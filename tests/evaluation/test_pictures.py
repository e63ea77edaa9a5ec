"""Picture distances: the same picture, whatever its light, and pictures that have nothing to do with each other."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from evaluation.similarity import SIDE, picture_distances, thumbnails


def noise(seed: int, side: int = 64) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def distance(first: Image.Image, second: Image.Image) -> float:
    return float(picture_distances(thumbnails([first]), thumbnails([second]))[0, 0])


def test_light_contrast_size_and_mirroring_make_no_other_picture() -> None:
    picture = noise(0)
    assert distance(picture, picture) == pytest.approx(0.0, abs=1e-3)
    darker = Image.fromarray((np.asarray(picture) * 0.5 + 20).astype(np.uint8))
    assert distance(picture, darker) < 0.02
    assert distance(picture, ImageEnhance.Contrast(darker).enhance(0.8)) < 0.05
    assert distance(picture, ImageOps.mirror(picture)) == pytest.approx(0.0, abs=1e-3)
    assert distance(picture, noise(0, 512)) < 0.1


def test_unrelated_pictures_are_root_two_apart_and_the_negative_two() -> None:
    rest = [distance(noise(0), noise(seed)) for seed in range(1, 9)]
    assert np.mean(rest) == pytest.approx(2**0.5, abs=0.15)
    symmetric = Image.fromarray(np.tile(np.asarray(noise(3))[:, 20:21], (1, 64, 1)))
    assert distance(symmetric, ImageOps.invert(symmetric)) == pytest.approx(2.0, abs=1e-3)


def test_distances_by_hand() -> None:
    """Two pictures that share one of two equal parts correlate by a half: sqrt(2 - 2 / 2)."""
    vectors = np.zeros((2, 3 * SIDE * SIDE))
    vectors[0, :2] = vectors[1, 1:3] = 1 / 2**0.5
    np.testing.assert_allclose(picture_distances(vectors, vectors), [[0.0, 1.0], [1.0, 0.0]], atol=1e-7)


def test_a_picture_of_one_colour_is_like_no_other() -> None:
    plain = Image.new("RGB", (64, 64), "gray")
    assert distance(plain, noise(0)) == pytest.approx(2**0.5)
    assert distance(plain, plain) == pytest.approx(2**0.5)
