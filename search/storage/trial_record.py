"""What became of every trial: the one place where states, reports and times of a search meet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ConfigDict, TypeAdapter

from evaluation.bootstrap import Values, image_values
from evaluation.config import ObjectiveConfig
from evaluation.grid import grid_images
from evaluation.image_row import ImageRow
from evaluation.measures import LEAKAGE, OBJECTIVE, SEARCH_VALUE
from evaluation.scores import Anchors
from search.config.run_layout import CHECKPOINT_FILE, GRID_FILE
from search.config.space import Value
from trainer.files import write_file


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
class CheckpointResult:
    """What was measured of one scored checkpoint of a job."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    step: int
    """Optimizer steps done; 0 where nothing was trained."""
    metrics: Mapping[str, float]
    """Finite values under the names of `evaluation.measures.METRICS`."""
    rows: tuple[ImageRow, ...]
    """One row an image of the person, prompt by prompt, the seeds in the same order within each."""
    folder: Path
    """Holds the adapter (if any), the images as one PNG, those of other people as another, and these values."""
    other_rows: tuple[ImageRow, ...] = ()
    """One row an image of other people."""
    unfit: tuple[str, ...] = ()
    """Why the candidate may not win, in words (`evaluation.objective`); empty for one that is fit."""
    remarks: tuple[str, ...] = ()
    """What a user should know of how it was made, such as that memory ran out and less was done at a time."""
    parameters: int = 0
    """Trained parameters of the adapter; 0 where nothing was trained."""
    training_seconds: float = 0.0
    """Seconds of training since the report before, by the wall's clock."""
    scoring_seconds: float = 0.0
    training_cpu_seconds: float | None = None
    """The same in the processor's seconds of the worker's process, in all its threads; of several processes, those of
    the leading one, which also scores. None where they were not measured, as in reports of earlier versions."""
    scoring_cpu_seconds: float | None = None

    @property
    def grid(self) -> Path:
        """The images of the person as one PNG, a line a prompt and a column a seed."""
        return self.folder / GRID_FILE

    @property
    def columns(self) -> int:
        """Images of one prompt: its seeds."""
        return len(self.rows) // len({row.prompt_index for row in self.rows})

    def images(self) -> list[Image.Image]:
        """The images of the person in the order of `rows`, in RGB.

        Raises:
            OSError: the grid is missing or damaged.
            ValueError: its size does not fit the rows.
        """
        columns = self.columns
        with Image.open(self.grid, formats=("PNG",)) as grid:
            return grid_images(grid.convert("RGB"), rows=len(self.rows) // columns, columns=columns)

    def anchors(self) -> Anchors:
        """The ends of measures, where this is of the untuned model.

        Raises:
            ValueError: they are missing, or too close.
        """
        return Anchors.of(self.rows, self.other_rows, self.metrics)

    def values(self, anchors: Anchors, objective: ObjectiveConfig) -> Mapping[str, Values]:
        """Metric name to one value an image, [prompts, seeds], between the anchors."""
        return image_values(self.rows, anchors, objective, leakage=self.metrics.get(LEAKAGE))

    def write(self, folder: Path) -> None:
        """Write the values into a folder, which may still have a temporary name."""
        text = json.dumps(_STORED.dump_python(self, mode="json", exclude={"folder"}), allow_nan=False, indent=1)
        write_file(folder / CHECKPOINT_FILE, lambda path: path.write_text(text, "utf-8"))

    @classmethod
    def read(cls, folder: Path) -> CheckpointResult:
        """Read what a folder holds.

        Raises:
            OSError: there is nothing.
            ValueError, TypeError: it is damaged.
        """
        values = json.loads((folder / CHECKPOINT_FILE).read_text("utf-8"))
        return _STORED.validate_python({**values, "folder": folder})

    @classmethod
    def find(cls, folder: Path) -> CheckpointResult | None:
        """What a folder holds; None where there is nothing, or it is damaged."""
        try:
            return cls.read(folder)
        except (OSError, ValueError, TypeError):
            return None


_STORED = TypeAdapter(CheckpointResult)


EFFORTS = ("training_seconds", "scoring_seconds", "training_cpu_seconds", "scoring_cpu_seconds")
"""Fields of a report that add up over a trial."""


@dataclass(kw_only=True)
class TrialRecord:
    """One trial."""

    id: str
    params: Mapping[str, Value]
    """As sampled."""
    steps: int
    """Optimizer steps planned."""
    state: JobState = JobState.RUNNING
    reason: str = ""
    """Why it failed or was stopped, in words."""
    checkpoints: list[CheckpointResult] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    """How it has lost its workers, in words, one each time; it resumed from its last state."""
    same_as: str = ""
    """Of a duplicate: the trial whose result stands for it."""
    seconds: float = 0.0
    """From being proposed to its end, waiting for a worker included."""

    @classmethod
    def of_duplicate(cls, name: str, params: Mapping[str, Value], steps: int, first: str) -> TrialRecord:
        """A trial whose configuration another one had first."""
        reason = f"the same configuration as trial {first}, not trained again"
        return cls(id=name, params=params, steps=steps, state=JobState.DUPLICATE, reason=reason, same_as=first)

    @property
    def number(self) -> int:
        """In the order of the proposals, from 0."""
        return int(self.id)

    @property
    def last_step(self) -> int:
        """The step of its last scored checkpoint; 0 before the first."""
        return self.checkpoints[-1].step if self.checkpoints else 0

    @property
    def ended_early(self) -> bool:
        """Whether its last scored checkpoint lies before its planned end."""
        return self.last_step < self.steps

    @property
    def is_over(self) -> bool:
        """Whether it has ended, one way or another."""
        return self.state not in {JobState.QUEUED, JobState.RUNNING}

    @property
    def best(self) -> CheckpointResult | None:
        """The scored checkpoint with the highest search value, the earlier of equals; None if none was scored."""
        return _best(self.checkpoints)

    @property
    def candidate(self) -> CheckpointResult | None:
        """The best of the checkpoints that are fit to win; None if there is nothing to send into the final."""
        return _best([report for report in self.checkpoints if not report.unfit])

    @property
    def remarks(self) -> tuple[str, ...]:
        """Of all its reports, each once, in the order in which they came up; then how it has lost its workers."""
        return tuple(
            dict.fromkeys([*(remark for report in self.checkpoints for remark in report.remarks), *self.losses])
        )

    def add(self, report: CheckpointResult) -> bool:
        """Note a report; False if its step is known already (a trial's actor died and passes its reports on again)."""
        if any(known.step == report.step for known in self.checkpoints):
            return False
        self.checkpoints.append(report)
        return True

    def as_result(self, first: TrialRecord | None = None) -> dict[str, Any]:
        """This trial's entry in the result; a duplicate's figures are those of the first with its configuration."""
        best = first.best if first is not None else self.best
        return {
            "id": self.id,
            "state": str(self.state),
            "reason": self.reason,
            "params": dict(self.params),
            "best_step": best.step if best else None,
            "metrics": dict(best.metrics) if best else {},
            "unfit": list(best.unfit) if best else [],
            "remarks": list(self.remarks),
            "checkpoints": [
                {"step": report.step, "objective": report.metrics[OBJECTIVE]} for report in self.checkpoints
            ],
            "seconds": round(self.seconds, 3),
            **self._efforts(),
        }

    def _efforts(self) -> dict[str, float | None]:
        """What its scored checkpoints took; None where there is none, or one of them was not measured so."""
        efforts = {}
        for name in EFFORTS:
            parts = [getattr(report, name) for report in self.checkpoints]
            efforts[name] = None if not parts or None in parts else round(sum(parts), 3)
        return efforts


def _best(reports: Sequence[CheckpointResult]) -> CheckpointResult | None:
    return max(reports, key=lambda report: (report.metrics[SEARCH_VALUE], -report.step), default=None)


def ranked(records: list[TrialRecord]) -> list[TrialRecord]:
    """Trials that have a candidate, the best objective first; the earlier trial of equals first."""
    usable = [(record.candidate, record) for record in records]
    order = [(report.metrics[OBJECTIVE], record) for report, record in usable if report is not None]
    return [record for _, record in sorted(order, key=lambda pair: -pair[0])]


BEATEN = "others were better at the same step"
"""Why a trial was stopped, in either mode: better is a higher objective, or domination (`evaluation.pareto`)."""


def trial_id(number: int) -> str:
    """The name of trial `number`, in folders, result and MLflow."""
    return f"{number:03d}"
