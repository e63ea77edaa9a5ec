"""What is asked of a worker and what it answers. Plain values: they cross process borders and land in files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from evaluation.scores import Anchors
from search.config.prompts import PromptSetName
from search.storage.trial_record import CheckpointResult, JobState
from trainer.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class _AnyJob:
    id: str
    folder: Path
    """Gets what comes of the job. Shared by driver and workers."""
    halvings: int = 0
    """How often a worker has died for want of memory while it did the job: so often the number of photos and images at
    a time is halved at its start."""


@dataclass(frozen=True, kw_only=True)
class AnchorJob(_AnyJob):
    """Measure the untuned base model and the person's real photos on one prompt set."""

    prompt_set: PromptSetName


@dataclass(frozen=True, kw_only=True)
class TrainJob(_AnyJob):
    """Train one adapter and score its checkpoints, each in a folder `step-N` of its own."""

    config: TrainingConfig
    score_at: tuple[int, ...]
    """Optimizer steps after which a checkpoint is scored, ascending. The job ends after the last, which may come before
    `config.steps`: the learning rate's schedule is that of the whole length all the same."""
    anchors: Anchors
    prompt_set: PromptSetName = "validation"


@dataclass(frozen=True, kw_only=True)
class ScoreJob(_AnyJob):
    """Score one saved adapter on one prompt set."""

    adapter: Path
    """Folder that holds `pytorch_lora_weights.safetensors`."""
    prompt_set: PromptSetName
    anchors: Anchors
    strength: float = 1.0
    """How many times the adapter's update is applied; 1 is what was trained."""
    prompts: int | None = None
    """Draw only the first so many prompts, with the first seed, and no other people; None: all there is."""


@dataclass(frozen=True, kw_only=True)
class JudgeJob(_AnyJob):
    """Have the second judge look at the images of a scored checkpoint, `folder`, into which nothing is written."""


Job: TypeAlias = AnchorJob | TrainJob | ScoreJob | JudgeJob


DIVERGED = "TrainingDiverged: "
"""How the reason begins of a training that failed because its loss left the finite numbers."""


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """A job as the dispatcher sees it now."""

    id: str
    state: JobState
    reason: str = ""
    """Why the job failed or was stopped, in words."""
    checkpoints: tuple[CheckpointResult, ...] = field(default=())
    step: int = 0
    """Optimizer steps done, scored or not."""
    losses: tuple[str, ...] = ()
    """How the job has lost its workers, in words, one each time."""

    @property
    def ended(self) -> bool:
        return self.state in {JobState.FINISHED, JobState.STOPPED, JobState.FAILED}
