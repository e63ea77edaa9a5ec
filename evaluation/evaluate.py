"""The evaluation of a model: the same prompts and seeds for every candidate, measured against the person's photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from evaluation.clip_score import ClipScorer
from evaluation.config import GenerationConfig, PromptSet, with_trigger, without_trigger
from evaluation.copies import NearestPhoto, memorisation
from evaluation.faces import Face, FaceModel, Representation, distances
from evaluation.generate import ImageBatch, ImagePipeline, generate_images
from evaluation.hw10 import Hw10Scores, hw10_scores
from evaluation.person import Person
from evaluation.scores import LEAKAGE, MEMORISATION, Anchors, ImageRow, Scores, score_rows, spread_over_prompts
from evaluation.similarity import leakage


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """Images and what was measured on each; rows and images go together."""

    rows: tuple[ImageRow, ...]
    images: tuple[Image.Image, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """A candidate's images of the person and of others, and the scores that follow from their rows and nothing else."""

    person: Measurement
    others: Measurement
    """Images of other people, without the trigger; empty if none were asked for."""
    anchors: Anchors

    @property
    def scores(self) -> Scores:
        return score_rows(self.person.rows, self.anchors)

    def metrics(self) -> Mapping[str, float]:
        """Scores and meters by name; what could not be measured is left out."""
        meters = {LEAKAGE: leakage(self.others.rows, self.anchors)}
        if self.anchors.copy_distance is not None:
            meters[MEMORISATION] = memorisation(self.person.rows, self.anchors.copy_distance)
        return {**self.scores.as_metrics(), **{name: value for name, value in meters.items() if value is not None}}


class Evaluator:
    """Generates and measures; holds the models that stay the same for a whole search.

    Args:
        prompt_set: what every candidate is asked to draw.
        others: prompts of other people, without a trigger; None: leakage is not measured.
        trigger: the word that stands for the person.
        generation: how images are made.
        face_model: finds and embeds faces.
        clip_scorer: compares images with their prompts.
    """

    def __init__(
        self,
        prompt_set: PromptSet,
        trigger: str,
        generation: GenerationConfig,
        face_model: FaceModel,
        clip_scorer: ClipScorer,
        *,
        others: PromptSet | None = None,
    ) -> None:
        self.prompt_set = prompt_set
        self.others = others
        self.trigger = trigger
        self.generation = generation
        self.face_model = face_model
        self.clip_scorer = clip_scorer

    def excerpt(self, prompts: int) -> "Evaluator":
        """An evaluator of the first `prompts` prompts (at least 1) with the first seed, without other people."""
        first = PromptSet(prompts=self.prompt_set.prompts[:prompts], seeds=self.prompt_set.seeds[:1])
        return Evaluator(first, self.trigger, self.generation, self.face_model, self.clip_scorer)

    def measure_anchors(self, pipeline: ImagePipeline, person: Person, batch: ImageBatch | None = None) -> Evaluation:
        """Evaluate the untuned model, which sets likeness 0, fidelity 1 and leakage 0; its photos set likeness 1.

        Raises:
            ValueError: the base model draws no face at all, or the anchors are too close (see `Anchors`).
        """
        batch = batch or ImageBatch(self.generation.batch_size)
        measurement = self._measure(pipeline, self.prompt_set, person, batch)
        others = self._measure_others(pipeline, person, batch)
        base_distance = _mean_face_distance(measurement.rows)
        if base_distance is None:
            raise ValueError(
                f"the untuned model drew no face in {len(measurement.rows)} images, so likeness has no zero; use "
                "prompts that show a person's face, more steps, or another detector than "
                f"{self.face_model.config.detector}"
            )
        ends = Anchors(
            base_distance=base_distance,
            real_distance=person.real_distance,
            base_clip_score=float(np.mean([row.clip_score for row in measurement.rows])),
            copy_distance=person.copy_distance,
            other_distance=_mean_face_distance(others.rows),
        )
        anchors = replace(ends, base_spread=spread_over_prompts(measurement.rows, ends))
        return Evaluation(person=measurement, others=others, anchors=anchors)

    def evaluate(
        self, pipeline: ImagePipeline, person: Person, anchors: Anchors, batch: ImageBatch | None = None
    ) -> Evaluation:
        """Generate and measure one candidate: the pipeline as it is, adapters included.

        Args:
            pipeline: generates the images.
            person: whom they should show.
            anchors: of the untuned model on the same prompts and seeds.
            batch: how many images are made at once, now and later; None: as configured.

        Raises:
            ValueError: not even one image fits into memory.
        """
        batch = batch or ImageBatch(self.generation.batch_size)
        return Evaluation(
            person=self._measure(pipeline, self.prompt_set, person, batch),
            others=self._measure_others(pipeline, person, batch),
            anchors=anchors,
        )

    def hw10(self, evaluation: Evaluation, photos: Sequence[Sequence[Representation]]) -> Hw10Scores:
        """The homework's numbers for images that this evaluator has made; see `evaluation.hw10`.

        Args:
            evaluation: of any model.
            photos: `face_model.represent` of all photos of the person.
        """
        rows, images = evaluation.person.rows, evaluation.person.images
        prompts = [with_trigger(self.prompt_set.prompts[row.prompt_index], self.trigger) for row in rows]
        clip_scores = self.clip_scorer.score(images, prompts)
        return hw10_scores(self.face_model.represent(images), photos, clip_scores.tolist())

    def _measure_others(self, pipeline: ImagePipeline, person: Person, batch: ImageBatch) -> Measurement:
        if self.others is None:
            return Measurement(rows=(), images=())
        return self._measure(pipeline, self.others, person, batch)

    def _measure(
        self, pipeline: ImagePipeline, prompt_set: PromptSet, person: Person, batch: ImageBatch
    ) -> Measurement:
        """One row and one image for each prompt and seed, prompt by prompt."""
        pairs = prompt_set.pairs()
        prompts = [prompt_set.prompts[index] for index, _ in pairs]
        images = generate_images(
            pipeline,
            [with_trigger(prompt, self.trigger) for prompt in prompts],
            [seed for _, seed in pairs],
            self.generation,
            batch,
        )
        return self.judge(images, prompt_set, person)

    def judge(self, images: Sequence[Image.Image], prompt_set: PromptSet, person: Person) -> Measurement:
        """Measure given images, one for each prompt and seed, prompt by prompt.

        Raises:
            ValueError: there are not as many images as prompts x seeds.
        """
        pairs = prompt_set.pairs()
        if len(images) != len(pairs):
            raise ValueError(f"{len(images)} images for {len(pairs)} prompts and seeds; give one for each")
        texts = [without_trigger(prompt_set.prompts[index]) for index, _ in pairs]
        clip_scores = self.clip_scorer.score(images, texts)
        faces = self.face_model.embed(images)
        to_photos = person.copies.nearest(images)
        rows = tuple(
            _row(prompt_index, seed, face, float(clip_score), photo, person)
            for (prompt_index, seed), face, clip_score, photo in zip(pairs, faces, clip_scores, to_photos, strict=True)
        )
        return Measurement(rows=rows, images=tuple(images))


def _row(
    prompt_index: int,
    seed: int,
    face: Face | None,
    clip_score: float,
    training_photo: NearestPhoto,
    person: Person,
) -> ImageRow:
    to_reference = None if face is None else distances(face.embedding[None, :], person.reference)
    return ImageRow(
        prompt_index=prompt_index,
        seed=seed,
        face_found=face is not None,
        face_distance=None if to_reference is None else float(to_reference.mean()),
        nearest_distance=None if to_reference is None else float(to_reference.min()),
        face_confidence=None if face is None else face.confidence,
        faces=None if face is None else face.faces,
        clip_score=clip_score,
        training_photo=person.training_names[training_photo.index],
        picture_distance=training_photo.distance,
    )


def _mean_face_distance(rows: Sequence[ImageRow]) -> float | None:
    found = [row.face_distance for row in rows if row.face_distance is not None]
    return float(np.mean(found)) if found else None
