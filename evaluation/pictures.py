"""How alike two pictures are as pictures, whoever they show: what tells a copied photo from a person well learnt.

Legend: n, m = numbers of pictures; dim = 3 x SIDE x SIDE.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
"""Pictures are compared at this many pixels a side: pose, framing, clothes and light remain, grain and blur do not."""


def thumbnails(images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """Each picture as a vector of length 1, [n, dim]: its pixels at 32 x 32, less their mean, divided by their length.

    So neither brightness nor contrast makes two pictures differ. A picture of one colour is all zeros.
    """
    vectors = np.empty((len(images), 3 * SIDE * SIDE), dtype=np.float32)
    for vector, image in zip(vectors, images, strict=True):
        pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64).ravel()
        pixels = pixels - pixels.mean()
        length = float(np.linalg.norm(pixels))
        vector[:] = pixels / length if length else 0.0
    return vectors


def picture_distances(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """sqrt(2 - 2 r) with Pearson's correlation r of the pixels: [n, dim] and [m, dim] give [n, m], each in [0, 2].

    0 is the same picture, 1.414 an unrelated one. The mirrored picture counts as the same: the nearer of both is taken.
    """
    mirrored = a.reshape(-1, SIDE, SIDE, 3)[:, :, ::-1].reshape(a.shape)
    correlation = np.maximum(a.astype(np.float64) @ b.T, mirrored.astype(np.float64) @ b.T)
    result: NDArray[np.float64] = np.sqrt((2.0 - 2.0 * correlation).clip(0.0, 4.0))
    return result
