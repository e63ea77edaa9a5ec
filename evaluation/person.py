"""The person as measured on real photos: what generated images are compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.copies import CopyDetector
from evaluation.faces import FaceModel, distances, mean_pairwise_distance


@dataclass(frozen=True, kw_only=True, eq=False)
class Person:
    """The measured photos. No reference photo is ever trained on."""

    reference: NDArray[np.float32]
    """Face embeddings of the reference photos, [reference, dim], each of length 1; at least 2."""
    reference_names: tuple[str, ...]
    reference_images: tuple[Image.Image, ...]
    copies: CopyDetector
    """Knows the photos trained on, in the order of their names."""
    training_names: tuple[str, ...]
    training: NDArray[np.float32]
    """Face embeddings of the training photos that show a face, [with a face, dim]."""

    @property
    def copy_distance(self) -> float:
        """Picture distance below which an image copies a training photo (`evaluation.copies`), [0, 2]."""
        return self.copies.copy_distance

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
                "rule": "every generated image against its nearest training photo, as pictures, re-framed to fit",
                "training_photos": list(self.training_names),
                "copy_distance": self.copy_distance,
            },
        }


def measure_person(
    face_model: FaceModel,
    *,
    reference: Mapping[str, Image.Image],
    training: Mapping[str, Image.Image],
) -> Person:
    """Measure the person's real photos.

    Args:
        face_model: the judge of likeness.
        reference: photos that are never trained on, by name, at least 2, at the size of generated images.
        training: photos that are trained on, by name, at least 1.

    Raises:
        ValueError: too few photos, or reference photos without a face (all of them are named).
    """
    if len(reference) < 2:
        raise ValueError(f"{len(reference)} reference photos; likeness needs at least 2 photos that are not trained on")
    if not training:
        raise ValueError("no training photos; give at least one")
    faces = face_model.embed(list(reference.values()))
    without = [name for name, face in zip(reference, faces, strict=True) if face is None]
    if without:
        raise ValueError(
            f"no face was found in the reference photos {', '.join(without)}; remove or replace them, or choose "
            f"another detector than {face_model.config.detector}"
        )
    trained = [face.embedding for face in face_model.embed(list(training.values())) if face is not None]
    embeddings = np.stack([face.embedding for face in faces if face is not None])
    return Person(
        reference=embeddings,
        reference_names=tuple(reference),
        reference_images=tuple(reference.values()),
        copies=CopyDetector(list(training.values()), list(reference.values())),
        training_names=tuple(training),
        training=np.stack(trained) if trained else embeddings[:0],
    )
