"""Evaluating a model: the same prompts and seeds for every candidate, measured against the person's reference photos.

Legend: photos = number of reference photos; dim = length of a face embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from evaluation.clip_score import ClipScorer
from evaluation.config import GenerationConfig, PromptSet, with_trigger, without_trigger
from evaluation.faces import FaceModel, Representation, distances
from evaluation.generate import generate_images
from evaluation.hw10 import Hw10Scores, hw10_scores
from evaluation.scores import Anchors, ImageRow, Scores, score_rows

Reference = NDArray[np.float32]
"""Face embeddings of the reference photos, [photos, dim], each of length 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """A candidate's images and what was measured on them; rows and images go together."""

    rows: tuple[ImageRow, ...]
    scores: Scores
    images: tuple[Image.Image, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """The untuned model on the same prompts and seeds, and the anchors that it sets for a search."""

    anchors: Anchors
    evaluation: Evaluation
    """Its likeness is 0 and its fidelity 1, by definition."""


class Evaluator:
    """Generates and measures; holds the models that stay the same for a whole search."""

    def __init__(
        self,
        prompt_set: PromptSet,
        trigger: str,
        generation: GenerationConfig,
        face_model: FaceModel,
        clip_scorer: ClipScorer,
    ) -> None:
        self.prompt_set = prompt_set
        self.trigger = trigger
        self.generation = generation
        self.face_model = face_model
        self.clip_scorer = clip_scorer

    def reference(self, images: Sequence[Image.Image], names: Sequence[str] | None = None) -> Reference:
        """Embeddings of the reference photos, [photos, dim].

        Args:
            images: at least 2 photos of the person, none of which is trained on.
            names: how to call each photo in an error; by default its number, from 1.

        Raises:
            ValueError: fewer than 2 photos, or photos without a face (all of them are named).
        """
        labels = list(names) if names is not None else [f"number {index + 1}" for index in range(len(images))]
        if len(labels) != len(images):
            raise ValueError(f"{len(images)} reference photos and {len(labels)} names; give one name for each photo")
        if len(images) < 2:
            raise ValueError(
                f"{len(images)} reference photos; likeness needs at least 2 photos that are not trained on"
            )
        faces = self.face_model.embed(images)
        without = [label for label, face in zip(labels, faces, strict=True) if face is None]
        if without:
            raise ValueError(
                f"no face was found in the reference photos {', '.join(without)}; remove or replace them, or choose "
                f"another detector than {self.face_model.config.detector}"
            )
        return np.stack([face.embedding for face in faces if face is not None])

    def measure_anchors(self, pipeline: StableDiffusionPipeline, reference: Reference) -> Baseline:
        """Evaluate the untuned model, which sets likeness 0 and fidelity 1; the reference photos set likeness 1.

        Raises:
            ValueError: the base model draws no face at all, or the anchors are too close (see `Anchors`).
        """
        rows, images = self.measure(pipeline, reference)
        face_distances = [row.face_distance for row in rows if row.face_distance is not None]
        if not face_distances:
            raise ValueError(
                f"the untuned model drew no face in {len(rows)} images, so likeness has no zero; use prompts that show "
                f"a person's face, more steps, or another detector than {self.face_model.config.detector}"
            )
        anchors = Anchors(
            base_distance=float(np.mean(face_distances)),
            real_distance=mean_pairwise_distance(reference),
            base_clip_score=float(np.mean([row.clip_score for row in rows])),
        )
        return Baseline(
            anchors=anchors, evaluation=Evaluation(rows=rows, scores=score_rows(rows, anchors), images=images)
        )

    def evaluate(self, pipeline: StableDiffusionPipeline, reference: Reference, anchors: Anchors) -> Evaluation:
        """Generate and measure one candidate: the pipeline as it is, adapters included."""
        rows, images = self.measure(pipeline, reference)
        return Evaluation(rows=rows, scores=score_rows(rows, anchors), images=images)

    def hw10(self, evaluation: Evaluation, training: Sequence[Sequence[Representation]]) -> Hw10Scores:
        """The homework's numbers for images already evaluated; see `evaluation.hw10`.

        Args:
            evaluation: of any model.
            training: `face_model.represent` of the photos trained on.
        """
        return hw10_scores(
            self.face_model.represent(evaluation.images),
            training,
            [row.clip_score for row in evaluation.rows],
        )

    def measure(
        self, pipeline: StableDiffusionPipeline, reference: Reference
    ) -> tuple[tuple[ImageRow, ...], tuple[Image.Image, ...]]:
        """Generate and measure without anchors: one row and one image for each prompt and seed, prompt by prompt."""
        pairs = self.prompt_set.pairs()
        prompts = [self.prompt_set.prompts[index] for index, _ in pairs]
        images = generate_images(
            pipeline,
            [with_trigger(prompt, self.trigger) for prompt in prompts],
            [seed for _, seed in pairs],
            self.generation,
        )
        clip_scores = self.clip_scorer.score(images, [without_trigger(prompt) for prompt in prompts])
        rows = []
        for (prompt_index, seed), face, clip_score in zip(
            pairs, self.face_model.embed(images), clip_scores, strict=True
        ):
            to_reference = None if face is None else distances(face.embedding[None, :], reference)
            rows.append(
                ImageRow(
                    prompt_index=prompt_index,
                    seed=seed,
                    face_found=face is not None,
                    face_distance=None if to_reference is None else float(to_reference.mean()),
                    nearest_distance=None if to_reference is None else float(to_reference.min()),
                    face_confidence=None if face is None else face.confidence,
                    clip_score=float(clip_score),
                )
            )
        return tuple(rows), tuple(images)


def mean_pairwise_distance(reference: Reference) -> float:
    """Mean distance between reference photos, each pair once and none with itself; [0, 2]."""
    first, second = np.triu_indices(len(reference), k=1)
    return float(distances(reference, reference)[first, second].mean())
