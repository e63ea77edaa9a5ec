"""What a job runner loads. Apart from the job runner itself, so that a driver can say it without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.config import FaceConfig, GenerationConfig, LimitsConfig, ObjectiveConfig, PromptSet
from evaluation.hw10 import hw10_generation
from search.config.prompts import PromptSetName
from search.config.search_config import SearchConfig
from trainer.data.buckets import AspectBuckets
from trainer.data.photos import CaptionedPhoto, PhotoSplit
from trainer.data.prior_config import PriorConfig
from trainer.data.views import Views


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
    hw10: bool
    """Report the homework's numbers besides, on images made in the homework's way."""
    views: Views = field(default_factory=Views)
    """The forms in which training photos are encoded: all that some trial may show."""
    prior: PriorConfig | None = None
    """Class images, where some trial may weigh them."""
    class_photos: tuple[CaptionedPhoto, ...] = ()
    """Those that are supplied; drawn beside the data cache where the prior names no folder."""

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
            hw10=hw10,
            views=Views.needed_by(config.possible_trainings()),
            prior=config.photos.prior,
            class_photos=class_photos,
        )
