"""A face model that finds one face in every picture: where DeepFace cannot run, the rest can still be timed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
from PIL import Image

from evaluation.config import FaceConfig
from evaluation.faces import Face, Representation

SIDE = 32
DIMENSIONS = 128


class StandInFaces:
    """In place of `evaluation.faces.FaceModel`: a random projection of a thumbnail, which takes next to no time."""

    def __init__(self, config: FaceConfig) -> None:
        self.config = config
        self._projection = np.random.default_rng(0).normal(size=(DIMENSIONS, SIDE * SIDE * 3))

    verification_threshold = None
    """As FaceModel.verification_threshold of a recogniser that has none."""

    def embed(self, images: Sequence[Image.Image]) -> list[Face | None]:
        """As FaceModel.embed, without a detector."""
        return [
            Face(embedding=self._embedding(image), confidence=1.0, box=(0, 0, image.width, image.height))
            for image in images
        ]

    def represent(self, images: Sequence[Image.Image]) -> list[list[Representation]]:
        """As FaceModel.represent, without a detector."""
        return [[Representation(embedding=self._embedding(image), confidence=1.0)] for image in images]

    def _embedding(self, image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        pixels = np.asarray(image.convert("RGB").resize((SIDE, SIDE)), dtype=np.float64)
        vector = self._projection @ pixels.ravel()
        return (vector / np.linalg.norm(vector)).astype(np.float32)


@contextmanager
def stand_in_faces(wanted: bool) -> Iterator[None]:
    """Within it job runners take the stand-in, if that is wanted."""
    if not wanted:
        yield
        return
    with patch("search.workers.runner.FaceModel", StandInFaces):
        yield
