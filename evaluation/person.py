"""The person that candidates are measured against: faces of the reference photos, pictures of those trained on.

Legend: reference, training = numbers of photos; dim = length of a face embedding; pixels = length of a thumbnail.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.faces import distances

Reference = NDArray[np.float32]
"""Face embeddings of the reference photos, [reference, dim], each of length 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """What is known of the person from real photos. No reference photo is ever trained on."""

    reference: Reference
    """At least 2."""
    reference_names: tuple[str, ...]
    training_pictures: NDArray[np.float32]
    """Thumbnails of the photos trained on (`evaluation.pictures`), [training, pixels], at least 1."""
    training_names: tuple[str, ...]
    copy_distance: float
    """Picture distance below which an image copies a training photo (`evaluation.memorisation`)."""

    @property
    def real_distance(self) -> float:
        """Mean face distance between reference photos, each pair once and none with itself, [0, 2]: likeness 1."""
        return mean_pairwise_distance(self.reference)

    def pairings(self) -> Mapping[str, Any]:
        """Which photos are compared with which, in plain values: what the anchors of likeness are made of."""
        between = distances(self.reference, self.reference)
        first, second = np.triu_indices(len(self.reference), k=1)
        return {
            "generated": {
                "rule": "every generated image with a face against every reference photo",
                "reference_photos": list(self.reference_names),
            },
            "real": {
                "rule": "every reference photo against every other, each pair once",
                "pairs": [
                    [self.reference_names[a], self.reference_names[b], round(float(between[a, b]), 6)]
                    for a, b in zip(first, second, strict=True)
                ],
                "mean_distance": self.real_distance,
            },
            "copies": {
                "rule": "every generated image against every training photo, as pictures",
                "training_photos": list(self.training_names),
                "copy_distance": self.copy_distance,
            },
        }


def mean_pairwise_distance(reference: Reference) -> float:
    """Mean distance between reference photos, each pair once and none with itself; [0, 2]."""
    first, second = np.triu_indices(len(reference), k=1)
    return float(distances(reference, reference)[first, second].mean())
