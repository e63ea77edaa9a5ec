"""Whether a model repeats its training photos instead of having learnt the person. Pure.

Copies are told by the picture, not by the face: a well-learnt face may be nearer to every photo than two photos are to
each other, for it is nearer to their middle, while a copy that went through a lossy autoencoder may be further. (The
demo kit's photos, through its own VAE: picture distance to themselves 0.11, face distance 0.27; between two photos the
nearest 1 % lie at 0.16 and 0.12.)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.pictures import picture_distances
from evaluation.scores import ImageRow

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
