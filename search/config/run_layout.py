"""The layout of a run folder: every path in it, spelt once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainer.files import step_name

CONFIGURATION_FILE = "search.yaml"
RESULT_FILE = "result.json"
GRID_FILE = "grid.png"
"""The images of a scored checkpoint: a line a prompt, a column a seed."""
OTHERS_FILE = "others.png"
"""The same of other people."""
CHECKPOINT_FILE = "report.json"
"""What was measured of a scored checkpoint."""
ANCHORS_FILE = "anchors.json"
"""In an anchor job's folder: the anchors, and which photos and images they were measured between."""
BASE_SUM = "base_sha256"
"""In that file: the SHA-256 of the base model's weights."""
STATE_FOLDER = "state"
"""In a training job's folder: what an interrupted training needs to resume."""


@dataclass(frozen=True)
class RunLayout:
    """The paths of one run folder. Says where things lie, not whether they exist."""

    folder: Path

    @property
    def configuration(self) -> Path:
        """The configuration as resolved when the search began."""
        return self.folder / CONFIGURATION_FILE

    @property
    def inputs(self) -> Path:
        """Checksums of photos, prompts and models that the search began with."""
        return self.folder / "inputs.json"

    @property
    def journal(self) -> Path:
        """Optuna's journal: the trials, their checkpoints' values, notes."""
        return self.folder / "journal.log"

    @property
    def lock(self) -> Path:
        """Held by the process that searches."""
        return self.folder / "search.lock"

    @property
    def result(self) -> Path:
        """The outcome, for programs."""
        return self.folder / RESULT_FILE

    @property
    def report(self) -> Path:
        """The outcome, for people."""
        return self.folder / "report.html"

    @property
    def trial_table(self) -> Path:
        """A row a trial."""
        return self.folder / "trials.csv"

    @property
    def image_table(self) -> Path:
        """A row an image."""
        return self.folder / "images.parquet"

    @property
    def plots(self) -> Path:
        """The report's figures as files."""
        return self.folder / "plots"

    @property
    def votes(self) -> Path:
        """What people voted."""
        return self.folder / "votes.jsonl"

    @property
    def ray(self) -> Path:
        """Ray's own snapshots, which nothing here reads."""
        return self.folder / "ray"

    @property
    def trials(self) -> Path:
        """A folder a trial."""
        return self.folder / "trials"

    @property
    def final(self) -> Path:
        """A folder a finalist and one a retraining."""
        return self.folder / "final"

    @property
    def strengths(self) -> Path:
        """A folder a strength of the champion's adapter."""
        return self.final / "strengths"

    @property
    def second_judge(self) -> Path:
        """What the second judge measured, in folders named as those of the images that it looked at."""
        return self.folder / "second-judge"

    @property
    def champion(self) -> Path:
        """The winner's adapter files, card and samples."""
        return self.folder / "champion"

    def trial(self, trial: str) -> Path:
        """The folder of a trial's job."""
        return self.trials / trial

    def checkpoint(self, trial: str, step: int) -> Path:
        """The folder of a trial's scored checkpoint."""
        return checkpoint_folder(self.trial(trial), step)

    def base(self, prompt_set: str) -> Path:
        """The folder of the untuned model's images on a prompt set, `validation` or `final`."""
        return (self.final if prompt_set == "final" else self.folder) / f"base-{prompt_set}"

    def finalist(self, trial: str, step: int) -> Path:
        """The folder of a finalist's own checkpoint as the final scored it."""
        return self.final / f"{trial}-{step_name(step)}"

    def retraining(self, trial: str, seed: int) -> Path:
        """The folder of a job that trains a finalist's configuration again with another seed."""
        return self.final / f"{trial}-seed-{seed}"

    def strength(self, trial: str, step: int, strength: float) -> Path:
        """The folder of the champion's images at a strength."""
        return self.strengths / f"{trial}-{step_name(step)}-at-{strength:g}"

    def scored_checkpoints(self) -> Iterator[tuple[str, int, Path]]:
        """Trial, step and folder of every scored checkpoint that lies in the run folder, in the order of their
        names."""
        for file in sorted(self.trials.glob(f"*/*/{CHECKPOINT_FILE}")):
            if (step := re.fullmatch(r"step-(\d+)", file.parent.name)) is not None:
                yield file.parent.parent.name, int(step[1]), file.parent

    def second_judge_of(self, folder: Path) -> Path:
        """The folder of what the second judge measured on the images in another folder of the run."""
        return self.second_judge / folder.relative_to(self.folder)


def checkpoint_folder(job: Path, step: int) -> Path:
    """The folder of a training job's checkpoint after `step` optimizer steps."""
    return job / step_name(step)
