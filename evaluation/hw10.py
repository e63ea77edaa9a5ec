"""The protocol of the homework this project grew out of (Hung-yi Lee, GenAI 2024, HW10), to compare with its numbers.

Its images and its three numbers are made as its notebook makes them, flaws included, and nothing is searched by them:
images without a face leave both means without penalty, photos without a face enter as embeddings of the whole picture,
CLIP reads the prompt with the trigger in it, and the faces are compared with every photo.

What differs all the same:

- Where the notebook reports 0, its best face score, because every image is faceless, the score here is None.
- The notebook trains on all of its photos. Here the reference photos are not trained on, though compared with.
- The notebook's DeepFace is 0.0.92 on TensorFlow. Today's runs on PyTorch with converted weights and aligns otherwise;
  how much that moves a distance was not measured.
- Resolution, face model and CLIP are the configuration's. The notebook's are their defaults, and what is otherwise is
  said when a search starts (`deviations`). Frozen weights are in bfloat16 on a GPU that knows it, float32 on a CPU.
- In training the notebook scores the first 3 prompts only. Here every checkpoint is scored on all.
- Noise drawn on a CPU, another GPU or another release of PyTorch or diffusers is not the same noise: single images
  differ. So they do where memory runs out and the batches get smaller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from evaluation.config import FaceConfig, GenerationConfig
from evaluation.faces import Representation, distances
from evaluation.measures import HW10_CLIP_SCORE, HW10_FACE_SCORE, HW10_FACELESS

SEED = 1126
"""The homework's seed, of training and of generation."""

GENERATION: Mapping[str, Any] = {
    "steps": 30,
    "guidance_scale": 7.5,
    "resolution": 512,
    "batch_size": 4,
    "scheduler": "as-is",
    "negative_prompt": "",
    "shared_noise": True,
}
"""How the homework makes its images, by the fields of `GenerationConfig`: with the pipeline's own scheduler, and one
generator on the pipeline's device for all of them."""

RECOGNIZER, DETECTOR, CLIP = "GhostFaceNet", "ssd", "openai/clip-vit-base-patch32"
"""The homework's judges."""


@dataclass(frozen=True, kw_only=True)
class Hw10Scores:
    """The homework's three numbers."""

    face_score: float | None
    """A DISTANCE, [0, 2], lower is better: mean over ALL generated images with a face x ALL photos."""
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
    """How the homework made its images; the resolution is as configured, since a model draws well at its own only."""
    return replace(config, **{**GENERATION, "resolution": config.resolution})


def deviations(config: GenerationConfig, faces: FaceConfig, clip: str) -> tuple[str, ...]:
    """Where a configuration says otherwise than the homework, a line each, and which of the two is done.

    Args:
        config: as configured.
        faces: the first judge.
        clip: a hub name or a folder.
    """
    used = asdict(hw10_generation(config))
    lines = []
    for name, configured in asdict(config).items():
        if configured != used[name]:
            lines.append(f"evaluation.generation.{name} is {configured!r}, the homework's {used[name]!r} is used")
        elif configured != GENERATION[name]:
            lines.append(
                f"evaluation.generation.{name} is {configured!r} and used, the homework's is {GENERATION[name]!r}"
            )
    for name, judge, homework in (
        ("faces.recognizer", faces.recognizer_name, RECOGNIZER),
        ("faces.detector", faces.detector, DETECTOR),
        ("clip", clip, CLIP),
    ):
        if judge != homework:
            lines.append(f"evaluation.{name} is {judge!r} and used, the homework's is {homework!r}")
    return tuple(lines)


def hw10_scores(
    generated: Sequence[Sequence[Representation]],
    photos: Sequence[Sequence[Representation]],
    clip_scores: Sequence[float],
) -> Hw10Scores:
    """Score generated images by the homework's protocol.

    Args:
        generated: for each image DeepFace's list of faces, in its order (`FaceModel.represent`); the first one counts.
        photos: the same for each photo of the person; the first entry counts, with or without a face.
        clip_scores: 100 x cosine of each generated image with its prompt as the image was made from it.

    Raises:
        ValueError: no photo has an entry, or there are not as many CLIP scores as images.
    """
    if len(clip_scores) != len(generated):
        raise ValueError(f"{len(generated)} images and {len(clip_scores)} CLIP scores; give one for each image")
    known = [entries[0].embedding for entries in photos if entries]
    if not known:
        raise ValueError("no photo has an embedding; give at least one photo")
    with_face = [index for index, entries in enumerate(generated) if entries and entries[0].confidence > 0.0]
    faceless = len(generated) - len(with_face)
    if not with_face:
        return Hw10Scores(face_score=None, clip_score=None, faceless=faceless)
    faces = np.stack([generated[index][0].embedding for index in with_face])
    return Hw10Scores(
        face_score=float(distances(faces, np.stack(known)).mean()),
        clip_score=float(np.mean([clip_scores[index] for index in with_face])),
        faceless=faceless,
    )
