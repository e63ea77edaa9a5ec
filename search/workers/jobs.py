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
class AnchorJob:
    """Measure the untuned base model and the person's real photos on one prompt set."""

    id: str
    folder: Path
    prompt_set: PromptSetName


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Train one adapter and score its checkpoints."""

    id: str
    folder: Path
    """Gets one `step-N` folder a scored checkpoint. Shared by driver and workers."""
    config: TrainingConfig
    score_at: tuple[int, ...]
    """Optimizer steps after which a checkpoint is scored, ascending. The job ends after the last, which may come before
    `config.steps`: the learning rate's schedule is that of the whole length all the same."""
    anchors: Anchors
    prompt_set: PromptSetName = "validation"


@dataclass(frozen=True, kw_only=True)
class ScoreJob:
    """Score one saved adapter on one prompt set."""

    id: str
    folder: Path
    adapter: Path
    """Folder that holds `pytorch_lora_weights.safetensors`."""
    prompt_set: PromptSetName
    anchors: Anchors
    strength: float = 1.0
    """How many times the adapter's update is applied; 1 is what was trained."""
    prompts: int | None = None
    """Draw only the first so many prompts, with the first seed, and no other people; None: all there is."""


@dataclass(frozen=True, kw_only=True)
class JudgeJob:
    """Have the second judge look at images that were scored before."""

    id: str
    folder: Path
    """Of a scored checkpoint, whose images are judged. Nothing is written into it."""


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
