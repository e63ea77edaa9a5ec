"""The judge of faces: how near to the person's photos the face of an image comes."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from evaluation.faces import Face, FaceModel, distances, mean_pairwise_distance
from evaluation.judges import Pictures
from evaluation.measures import (
    FACE_CONFIDENCE,
    FACE_DISTANCE,
    FACE_FOUND,
    FACE_MEASURES,
    FACES,
    NEAREST_DISTANCE,
    SEVERAL_FACES,
    TRAINING_DISTANCE,
    VERIFIED,
    Value,
)

Embeddings: TypeAlias = NDArray[np.float32]


class FaceJudge:
    """Compares the face of an image with those of the person's photos."""

    measures = FACE_MEASURES

    def __init__(self, model: FaceModel, reference: Embeddings, training: Embeddings | None = None) -> None:
        """Args: the face model, and the faces of reference photos, at least 2, and of training photos as it sees them,
        [photos, dim] each."""
        self._model = model
        self._reference = reference
        self._training = training if training is not None and len(training) else None

    def judge(self, pictures: Pictures) -> list[Mapping[str, Value]]:
        return [self._measured(face) for face in self._model.embed(pictures.images)]

    def of_references(self) -> dict[str, float]:
        """Means over the reference photos, each compared with all others but itself: what real photos come to."""
        between = distances(self._reference, self._reference)
        others = between[~np.eye(len(between), dtype=bool)].reshape(len(between), -1)
        threshold = self._model.verification_threshold
        means = {
            FACE_FOUND: 1.0,
            FACE_DISTANCE: mean_pairwise_distance(self._reference),
            NEAREST_DISTANCE: others.min(axis=1).mean(),
        }
        if threshold is not None:
            means[VERIFIED] = (others <= threshold).mean()
        if self._training is not None:
            means[TRAINING_DISTANCE] = distances(self._reference, self._training).mean()
        return {name: float(value) for name, value in means.items()}

    def _measured(self, face: Face | None) -> dict[str, Value]:
        threshold = self._model.verification_threshold
        if face is None:
            nothing: dict[str, Value] = {FACE_FOUND: False, SEVERAL_FACES: 0.0}
            return nothing if threshold is None else {**nothing, VERIFIED: 0.0}
        to_reference = distances(face.embedding[None, :], self._reference)
        measured: dict[str, Value] = {
            FACE_FOUND: True,
            FACES: face.faces,
            FACE_CONFIDENCE: face.confidence,
            FACE_DISTANCE: float(to_reference.mean()),
            NEAREST_DISTANCE: float(to_reference.min()),
            SEVERAL_FACES: float(face.faces > 1),
        }
        if threshold is not None:
            measured[VERIFIED] = float((to_reference <= threshold).mean())
        if self._training is not None:
            measured[TRAINING_DISTANCE] = float(distances(face.embedding[None, :], self._training).mean())
        return measured
