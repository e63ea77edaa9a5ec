"""The evaluation of a model: the same prompts and seeds for every candidate, measured against the person's photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from PIL import Image

from evaluation.clip_score import ClipJudge, ClipScorer
from evaluation.config import GenerationConfig, ObjectiveConfig, PromptSet, as_read_by_clip, with_trigger
from evaluation.copies import CopyJudge
from evaluation.face_judge import FaceJudge
from evaluation.faces import FaceModel, Representation
from evaluation.generate import ImageBatch, ImagePipeline, generate_images
from evaluation.hw10 import Hw10Scores, hw10_scores
from evaluation.image_row import ImageRow, means_of
from evaluation.judges import Judge, Pictures, judged
from evaluation.measures import COPY_DISTANCE, REAL
from evaluation.objective import meter_lower_ends
from evaluation.person import Person
from evaluation.scores import Anchors, NoFaceError, candidate_metrics


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """Images and what was measured on each; rows and images go together."""

    rows: tuple[ImageRow, ...]
    images: tuple[Image.Image, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """A candidate's images of the person and of others, and what follows from their rows and nothing else."""

    person: Measurement
    others: Measurement
    """Images of other people, without the trigger; empty if none were asked for."""
    anchors: Anchors
    ends: Mapping[str, float] = field(default_factory=dict)
    """Of the untuned model: what the anchors hold beyond its images, the means over real photos, for its metrics."""

    def metrics(self, objective: ObjectiveConfig) -> dict[str, float]:
        """Every metric by name (`evaluation.scores.candidate_metrics`); what could not be measured is left out."""
        return candidate_metrics(self.person.rows, self.anchors, objective, other_rows=self.others.rows)

    def lower_ends(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Of the meters among the metrics (`evaluation.objective.meter_lower_ends`)."""
        return meter_lower_ends(metrics, self.person.rows, self.others.rows, self.anchors)


class Evaluator:
    """Generates and measures; holds the models that stay the same for a whole search.

    Args:
        prompt_set: what every candidate is asked to draw.
        trigger: the word that stands for the person.
        class_word: what the person is, such as `man`: stands for the trigger where CLIP reads a prompt.
        generation: how images are made.
        face_model: finds and embeds faces.
        clip_scorer: compares images with their prompts.
        others: prompts of other people, without a trigger; None: leakage is not measured.
        judges: further ones.
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
        class_word: str = "",
        judges: Sequence[Judge] = (),
    ) -> None:
        self.prompt_set = prompt_set
        self.others = others
        self.trigger = trigger
        self.generation = generation
        self.face_model = face_model
        self.clip_scorer = clip_scorer
        self.class_word = class_word
        self.judges = tuple(judges)

    def excerpt(self, prompts: int) -> "Evaluator":
        """An evaluator of the first `prompts` prompts (at least 1) with the first seed, without other people."""
        first = PromptSet(prompts=self.prompt_set.prompts[:prompts], seeds=self.prompt_set.seeds[:1])
        return Evaluator(
            first,
            self.trigger,
            self.generation,
            self.face_model,
            self.clip_scorer,
            class_word=self.class_word,
            judges=self.judges,
        )

    def measure_anchors(self, pipeline: ImagePipeline, person: Person, batch: ImageBatch | None = None) -> Evaluation:
        """Evaluate the untuned model, which sets likeness 0, fidelity 1 and leakage 0; its photos set likeness 1.

        Raises:
            ValueError: the base model draws no face at all, or the anchors are too close (see `Anchors`).
        """
        batch = batch or ImageBatch(self.generation.batch_size)
        measurement = self._measure(pipeline, self.prompt_set, person, batch)
        others = self._measure_others(pipeline, person, batch)
        photos = judged(self._further(person), Pictures(images=person.reference_images))
        real = {
            **self._face_judge(person).of_references(),
            **means_of(photos),
        }
        ends = {**{REAL + name: value for name, value in real.items()}, COPY_DISTANCE: person.copy_distance}
        try:
            anchors = Anchors.of(measurement.rows, others.rows, ends)
        except NoFaceError as error:
            raise ValueError(
                f"{error}; use prompts that show a person's face, more steps, or another detector than "
                f"{self.face_model.config.detector}"
            ) from None
        return Evaluation(person=measurement, others=others, anchors=anchors, ends=ends)

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
            ValueError: there are not as many images as prompts x seeds, or a judge does not keep to its word.
        """
        pairs = prompt_set.pairs()
        if len(images) != len(pairs):
            raise ValueError(f"{len(images)} images for {len(pairs)} prompts and seeds; give one for each")
        pictures = Pictures(
            images=images,
            texts=[as_read_by_clip(prompt, self.class_word) for prompt in prompt_set.prompts],
            prompts=[index for index, _ in pairs],
        )
        measured = judged([self._face_judge(person), *self._further(person)], pictures)
        rows = tuple(
            ImageRow(prompt_index=index, seed=seed, measures=measures)
            for (index, seed), measures in zip(pairs, measured, strict=True)
        )
        return Measurement(rows=rows, images=tuple(images))

    def _face_judge(self, person: Person) -> FaceJudge:
        return FaceJudge(self.face_model, person.reference, person.training)

    def _further(self, person: Person) -> list[Judge]:
        return [ClipJudge(self.clip_scorer), CopyJudge(person.copies, person.training_names), *self.judges]
