"""What a job runner loads. Apart from the job runner itself, so that a driver can say it without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.config import FaceConfig, GenerationConfig, LimitsConfig, ObjectiveConfig, PromptSet
from evaluation.hw10 import deviations, hw10_generation
from search.config.prompts import PromptSetName, other_sets, prompt_sets, prompt_warnings
from search.config.search_config import SearchConfig
from search.photos.split import read_split
from search.storage.run_folder import inputs_of
from trainer.config import MixedPrecision
from trainer.data.buckets import AspectBuckets, bucket_warnings, sort_into_buckets
from trainer.data.class_photos import load_class_photos
from trainer.data.photos import CaptionedPhoto, PhotoSplit, repeated, resemblance_warnings
from trainer.data.prior_config import PriorConfig
from trainer.data.views import Views
from trainer.models.patches import check_model_sizes


@dataclass(frozen=True, kw_only=True)
class RunnerSetup:
    """Models, photos and judges of a search."""

    model: str
    clip: str
    split: PhotoSplit
    trigger: str
    resolution: int
    """Side of training images, pixels; reference photos are measured at the side of generated images."""
    buckets: AspectBuckets | None = None
    """Shapes that training images may have beside the square."""
    cache: Path
    """Folder of the data caches."""
    faces: FaceConfig
    second_judge: FaceConfig | None = None
    """Loaded when its first job comes."""
    generation: GenerationConfig
    objective: ObjectiveConfig
    limits: LimitsConfig
    prompt_sets: Mapping[PromptSetName, PromptSet]
    other_sets: Mapping[PromptSetName, PromptSet]
    """Prompts of other people that go with each prompt set; none where leakage is not measured."""
    threads: int
    own_gpu: bool = True
    """Whether no other worker shares its GPU, where it has one."""
    class_word: str = ""
    """What the person is, in the trigger's place; empty: as the prompt says."""
    judges: tuple[str, ...] = ()
    """Further judges, `module:Class` each."""
    hw10: bool
    """Report the homework's numbers besides, on images made in the homework's way."""
    precisions: tuple[MixedPrecision, ...] = ()
    """Autocast formats that some trial may ask for."""
    views: Views = field(default_factory=Views)
    """The forms in which training photos are encoded: all that some trial may show."""
    prior: PriorConfig | None = None
    """Class images, where some trial may weigh them."""
    class_photos: tuple[CaptionedPhoto, ...] = ()
    """Those that are supplied; drawn beside the data cache where the prior names no folder."""

    @classmethod
    def prepare(cls, config: SearchConfig) -> tuple[RunnerSetup, dict[str, str]]:
        """Read photos, class images and prompts.

        Returns:
            The setup, and the checksums of what was read (`search.storage.run_folder.inputs_of`).

        Raises:
            ValueError: something cannot be used; the message names it and the remedy.
        """
        weighs_faces = any(training.face_loss_weight > 1 for training in config.possible_trainings())
        split = read_split(config.photos, config.evaluation.faces, find_faces=weighs_faces)
        class_photos = load_class_photos(
            config.photos.prior,
            (*split.training, *split.reference),
            trigger=config.photos.trigger,
            maximum_pixels=config.photos.maximum_pixels,
        )
        photos = (*split.training, *split.reference)
        check_model_sizes(config.model, sort_into_buckets(photos, config.photos.buckets, config.training.resolution))
        person = prompt_sets(config)
        setup = cls.of(config, split, person, other_sets(config, person), class_photos=class_photos)
        return setup, inputs_of(config, split, class_photos)

    def warnings(self, config: SearchConfig) -> list[str]:
        """What a user should know of the photos and the protocol before anything is trained, a line each."""
        largest = max(training.batch_size for training in config.possible_trainings())
        photos = sorted((*self.split.training, *self.split.reference), key=lambda photo: photo.path.name)
        found = (
            *resemblance_warnings(photos),
            *config.photos.warnings(photos, config.training.resolution),
            *bucket_warnings(repeated(self.split.training), config.photos.buckets, config.training.resolution, largest),
        )
        prior, judged = config.photos.prior, config.evaluation
        homework = deviations(judged.generation, judged.faces, judged.clip) if judged.protocol == "hw10" else ()
        return [
            *(f"photos: {text}" for text in found),
            *(f"prompts: {text}" for text in prompt_warnings(config, self.prompt_sets)),
            *([f"class images: {prior.source}"] if prior is not None else []),
            *(f"protocol hw10: {text}" for text in homework),
        ]

    def params(self, config: SearchConfig) -> dict[str, Any]:
        """What is the same for all trials, by the name under which MLflow shows it."""
        fixed = {name: value for name, value in vars(config.training).items() if name not in config.space}
        return {
            "model": config.model,
            "photos": config.photos.folder,
            "training_photos": len(self.split.training),
            "reference_photos": len(self.split.reference),
            "trials": config.trials,
            "seed": config.seed,
            "protocol": config.evaluation.protocol,
            **fixed,
        }

    @classmethod
    def of(
        cls,
        config: SearchConfig,
        split: PhotoSplit,
        prompt_sets: Mapping[PromptSetName, PromptSet],
        other_sets: Mapping[PromptSetName, PromptSet],
        *,
        class_photos: tuple[CaptionedPhoto, ...] = (),
    ) -> RunnerSetup:
        """The setup that a configuration asks for. The data cache is shared by all runs beside each other."""
        hw10 = config.evaluation.protocol == "hw10"
        return cls(
            model=config.model,
            clip=config.evaluation.clip,
            split=split,
            trigger=config.photos.trigger,
            class_word=config.photos.class_word,
            judges=config.evaluation.judges,
            resolution=config.training.resolution,
            buckets=config.photos.buckets,
            cache=config.runs / ".cache",
            faces=config.evaluation.faces,
            second_judge=config.evaluation.second_judge,
            generation=hw10_generation(config.evaluation.generation) if hw10 else config.evaluation.generation,
            objective=config.evaluation.objective,
            limits=config.evaluation.limits,
            prompt_sets=prompt_sets,
            other_sets=other_sets,
            threads=config.seats.threads,
            own_gpu=config.seats.gpus_per_worker == 1,
            hw10=hw10,
            precisions=tuple(sorted({training.mixed_precision for training in config.possible_trainings()})),
            views=Views.needed_by(config.possible_trainings()),
            prior=config.photos.prior,
            class_photos=class_photos,
        )
