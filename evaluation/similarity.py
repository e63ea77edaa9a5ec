"""Similarity beyond likeness: images that copy training photos, and images of others that resemble the person. Pure.

Copies are recognised by the picture, not by the face: a well-learnt face may be nearer to every photo than two photos
are to each other, for it is nearer to their middle, while a copy that went through a lossy autoencoder may be further.
(The demo kit's photos, through its own VAE: picture distance to themselves 0.11, face distance 0.27; between two photos
the nearest 1 % lie at 0.16 and 0.12.)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.scores import Anchors, ImageRow

SIDE = 32
"""Pictures are compared at this many pixels a side: pose, framing, clothes and light remain, grain and blur do not."""
CLOSEST_SHARE = 0.01
"""Share of pairs of real photos that are nearer to each other than what counts as a copy."""


def copy_distance(photos: NDArray[np.floating[Any]]) -> float:
    """The picture distance below which an image copies a photo: 99 % of the pairs of real photos are further apart.

    Args:
        photos: thumbnails of all real photos of the person, [photos, dim], at least 2.

    Raises:
        ValueError: fewer than 2 photos.
    """
    if len(photos) < 2:
        raise ValueError(f"{len(photos)} real photos; how near two photos come takes at least 2")
    first, second = np.triu_indices(len(photos), k=1)
    return float(np.quantile(picture_distances(photos, photos)[first, second], CLOSEST_SHARE))


def memorisation(rows: Sequence[ImageRow], copies_below: float) -> float | None:
    """Share of images that are nearer to a training photo than `copies_below`, [0, 1]; None if that was not measured.

    Raises:
        ValueError: there are no images.
    """
    if not rows:
        raise ValueError("there are no images; give at least one")
    measured = [row.picture_distance for row in rows if row.picture_distance is not None]
    return sum(distance < copies_below for distance in measured) / len(measured) if measured else None


def leakage(rows: Sequence[ImageRow], anchors: Anchors) -> float | None:
    """How much nearer to the person images of OTHERS come than under the base model, in units of likeness.

    (base - d) / (base - real) as for likeness, but with the base model's distance on the same prompts of others: 0 for
    a model that leaves others alone, 1 for one whose others come as much nearer as it takes from the untuned model to
    the person's own photos. Images without a face say nothing about it.

    Args:
        rows: of images of other people, without the trigger.
        anchors: with `other_distance` on the same prompts and seeds.

    Returns:
        None when there is nothing to compare: no such images, none with a face, or none under the base model.
    """
    found = [row.face_distance for row in rows if row.face_distance is not None]
    if not found or anchors.other_distance is None:
        return None
    nearer = anchors.other_distance - sum(found) / len(found)
    return nearer / (anchors.base_distance - anchors.real_distance)


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
