"""The rule that `evaluation.copies` has replaced: no registration, and a threshold from single pairs of real photos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
CLOSEST_SHARE = 0.01
"""Share of the pairs of real photos that are nearer to each other than the threshold."""


class UnregisteredDetector:
    """Nearest training photos by the correlation of 32 x 32 pixels, mirrored or not."""

    def __init__(self, training: Sequence[Image.Image], reference: Sequence[Image.Image]) -> None:
        self._photos = _thumbnails(training)
        real = _thumbnails([*training, *reference])
        first, second = np.triu_indices(len(real), k=1)
        self.copy_distance = float(np.quantile(_distances(real, real)[first, second], CLOSEST_SHARE))

    def distances(self, images: Sequence[Image.Image]) -> list[float]:
        """Of each image to its nearest training photo, [0, 2]."""
        return [float(each) for each in _distances(_thumbnails(images), self._photos).min(axis=1)]


def _thumbnails(images: Sequence[Image.Image]) -> NDArray[np.float64]:
    small = [
        np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=float) for image in images
    ]
    pixels = np.stack(small).reshape(len(images), -1)
    pixels -= pixels.mean(axis=1, keepdims=True)
    return np.asarray(pixels / np.linalg.norm(pixels, axis=1, keepdims=True))


def _distances(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    mirrored = a.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(a.shape)
    correlation = np.maximum(a @ b.T, mirrored @ b.T)
    return np.asarray(np.sqrt((2.0 - 2.0 * correlation).clip(0.0, 4.0)))
