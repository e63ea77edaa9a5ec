"""The protocol of the homework this project grew out of (Hung-yi Lee, GenAI 2024, HW10), to compare with its numbers.

It is kept exact, flaws included, and nothing is searched by it: images without a face leave both means without
penalty, training photos without a face enter as embeddings of the whole picture, and the photos compared with are
those trained on. One thing differs: where the homework reports 0, its best value, because every image is faceless,
the scores here are None.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evaluation.config import GenerationConfig
from evaluation.faces import Representation, distances
from evaluation.scores import HW10_CLIP_SCORE, HW10_FACE_SCORE, HW10_FACELESS

SEED = 1126
"""The homework's seed, of training and of generation."""


@dataclass(frozen=True, kw_only=True)
class Hw10Scores:
    """The homework's three numbers."""

    face_score: float | None
    """A DISTANCE, [0, 2], lower is better: mean over ALL generated images with a face x ALL training photos."""
    clip_score: float | None
    """100 x cosine, mean over images with a face only."""
    faceless: int
    """Images whose list of faces is empty or whose first face has confidence 0."""

    def as_metrics(self) -> dict[str, float]:
        """The numbers by name, for tracking; those that are None are left out."""
        values = {
            HW10_FACE_SCORE: self.face_score,
            HW10_CLIP_SCORE: self.clip_score,
            HW10_FACELESS: self.faceless,
        }
        return {name: float(value) for name, value in values.items() if value is not None}


def hw10_generation(config: GenerationConfig) -> GenerationConfig:
    """How the homework made its images: 30 steps, batches of 4, one generator for all; the rest as configured."""
    return replace(config, steps=30, batch_size=4, shared_noise=True)


def hw10_scores(
    generated: Sequence[Sequence[Representation]],
    training: Sequence[Sequence[Representation]],
    clip_scores: Sequence[float],
) -> Hw10Scores:
    """Score generated images by the homework's protocol.

    Args:
        generated: for each image DeepFace's list of faces, in its order (`FaceModel.represent`); the first one counts.
        training: the same for each training photo; the first entry counts, with or without a face.
        clip_scores: 100 x cosine of each generated image with its prompt.

    Raises:
        ValueError: no training photo has an entry, or there are not as many CLIP scores as images.
    """
    if len(clip_scores) != len(generated):
        raise ValueError(f"{len(generated)} images and {len(clip_scores)} CLIP scores; give one for each image")
    photos = [entries[0].embedding for entries in training if entries]
    if not photos:
        raise ValueError("no training photo has an embedding; give at least one photo")
    with_face = [index for index, entries in enumerate(generated) if entries and entries[0].confidence > 0.0]
    faceless = len(generated) - len(with_face)
    if not with_face:
        return Hw10Scores(face_score=None, clip_score=None, faceless=faceless)
    faces = np.stack([generated[index][0].embedding for index in with_face])
    return Hw10Scores(
        face_score=float(distances(faces, np.stack(photos)).mean()),
        clip_score=float(np.mean([clip_scores[index] for index in with_face])),
        faceless=faceless,
    )
