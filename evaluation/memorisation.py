"""Whether a model repeats its training photos instead of having learnt the person. Pure.

Legend: images, training, real = numbers of faces; dim = length of an embedding.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.faces import Face, distances

CLOSEST_SHARE = 0.01
"""Share of pairs of real photos that are nearer to each other than what counts as a copy."""


def memorisation(
    faces: Sequence[Face | None], training: NDArray[np.floating[Any]], real: NDArray[np.floating[Any]]
) -> float:
    """Share of images whose face is nearer to a training photo than 99 % of real photo pairs are to each other, [0, 1].

    Args:
        faces: one for each generated image; an image without a face is no copy, but counts among all.
        training: embeddings of the photos trained on, [training, dim].
        real: embeddings of photos of the person that tell how near two of them come, [real, dim], at least 2.

    Raises:
        ValueError: there are no images, no training photos or fewer than 2 real ones.
    """
    if not faces or len(training) < 1 or len(real) < 2:
        raise ValueError(
            f"{len(faces)} images, {len(training)} training and {len(real)} real photos; give at least 1, 1 and 2"
        )
    first, second = np.triu_indices(len(real), k=1)
    threshold = float(np.quantile(distances(real, real)[first, second], CLOSEST_SHARE))
    copies = sum(
        float(distances(face.embedding[None, :], training).min()) < threshold for face in faces if face is not None
    )
    return copies / len(faces)
