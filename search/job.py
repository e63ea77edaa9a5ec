"""What is asked of a seat and what it answers. Plain values: they cross process borders and land in files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evaluation.scores import Anchors
from trainer.config import TrainingConfig
from trainer.files import write_file

STATE = "state"
"""Folder within a job's folder that holds what an interrupted training needs to go on."""

ANCHORS_FILE = "anchors.json"
"""File in an anchor job's folder: the anchors, and which photos and images they were measured between."""

PromptSetName: TypeAlias = Literal["validation", "final"]
"""`validation` steers the search; `final` only confirms its outcome."""


def finalist_folder(trial: str, step: int) -> str:
    """Name of the folder in `final/` that holds a finalist's own checkpoint as the final scored it."""
    return f"{trial}-step-{step}"


class JobState(StrEnum):
    """Where a job stands. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    DUPLICATE = "duplicate"
    """Of a trial only, which has no job: the result of the first with its configuration stands for it."""


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
    """Gets one `step-N` folder a scored checkpoint. Shared by driver and seats."""
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
    """Of a report: its `grid.png` is judged. Nothing is written into it."""


Job: TypeAlias = AnchorJob | TrainJob | ScoreJob | JudgeJob


@dataclass(frozen=True, kw_only=True)
class Report:
    """One scored checkpoint of a job."""

    step: int
    """Optimizer steps done; 0 where nothing was trained."""
    metrics: Mapping[str, float]
    """Finite values under the names of `evaluation.scores.METRICS`."""
    rows: tuple[Mapping[str, Any], ...]
    """One row an image of the person, see `evaluation.scores.ImageRow`."""
    folder: Path
    """Holds the adapter (if any), the images as `grid.png` and `others.png`, and this report as `report.json`."""
    other_rows: tuple[Mapping[str, Any], ...] = ()
    """One row an image of other people."""
    unfit: tuple[str, ...] = ()
    """Why the candidate may not win, in words (`evaluation.fitness`); empty for one that is fit."""
    remarks: tuple[str, ...] = ()
    """What a user should know of how it was made, such as that memory ran out and less was done at a time."""
    training_seconds: float = 0.0
    """Seconds of training since the report before, by the wall's clock."""
    scoring_seconds: float = 0.0
    training_cpu_seconds: float | None = None
    """The same in the processor's seconds of the seat's process, in all its threads; of several workers a seat, those
    of the leading one, which also scores. None where they were not measured, as in reports of earlier versions."""
    scoring_cpu_seconds: float | None = None

    def write(self, folder: Path) -> None:
        """Write `report.json` into a folder, which may still have a temporary name."""
        values = {
            "step": self.step,
            "metrics": dict(self.metrics),
            "training_seconds": self.training_seconds,
            "scoring_seconds": self.scoring_seconds,
            "training_cpu_seconds": self.training_cpu_seconds,
            "scoring_cpu_seconds": self.scoring_cpu_seconds,
            "unfit": list(self.unfit),
            "remarks": list(self.remarks),
            "rows": list(self.rows),
            "other_rows": list(self.other_rows),
        }
        text = json.dumps(values, allow_nan=False, indent=1)
        write_file(folder / "report.json", lambda path: path.write_text(text, "utf-8"))

    @classmethod
    def read(cls, folder: Path) -> Report:
        """Read the report of a `step-N` folder."""
        values = json.loads((folder / "report.json").read_text("utf-8"))
        lists = {name: tuple(values.get(name, ())) for name in ("unfit", "remarks", "rows", "other_rows")}
        return cls(**{**values, **lists}, folder=folder)

    @classmethod
    def find(cls, folder: Path) -> Report | None:
        """The report of a folder; None where there is none, or a damaged one."""
        try:
            return cls.read(folder)
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """A job as the dispatcher sees it now."""

    id: str
    state: JobState
    reason: str = ""
    """Why the job failed or was stopped, in words."""
    reports: tuple[Report, ...] = field(default=())
    step: int = 0
    """Optimizer steps done, scored or not."""
    losses: tuple[str, ...] = ()
    """How the job has lost its workers, in words, one each time."""

    @property
    def ended(self) -> bool:
        return self.state in {JobState.FINISHED, JobState.STOPPED, JobState.FAILED}
