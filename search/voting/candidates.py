"""What can be voted on: the candidates of a run folder, read from disk, whether their search has ended or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evaluation.config import with_trigger
from evaluation.measures import OBJECTIVE
from evaluation.scores import Anchors
from search.config.prompts import read_prompts
from search.config.run_layout import CHECKPOINT_FILE, RunLayout
from search.config.search_config import SearchConfig
from search.photos.split import REFERENCE_PHOTOS, read_split
from search.storage.run_folder import RunFolderError, read_config
from search.storage.trial_record import CheckpointResult
from search.voting.agreement import Vector
from search.voting.preference import image_measures
from search.voting.votes import CheckpointName
from trainer.data.photos import open_photo


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A scored checkpoint."""

    name: CheckpointName
    objective: float
    """As the search measured it, over all images."""
    faces: bool
    """False if all of its images are faceless."""
    measures: Mapping[tuple[int, int], Vector]
    """(prompt index, seed) to what was measured on that image, see `search.voting.preference.image_measures`."""
    sheet: Path
    """PNG with a line a prompt and a column a seed, both in the order of `measures`."""

    @property
    def mean_measures(self) -> Vector:
        """[measures]; their product with the weights is what the pictures of the person add to the objective."""
        total: Vector = sum(self.measures.values(), start=0.0 * next(iter(self.measures.values())))
        return total / len(self.measures)

    def picture(self, prompt_index: int, seed: int) -> Image.Image:
        """One image, cut out of the sheet.

        Raises:
            RunFolderError: the sheet cannot be read.
        """
        columns = len({seed for _, seed in self.measures})
        cell = list(self.measures).index((prompt_index, seed))
        try:
            with Image.open(self.sheet, formats=("PNG",)) as sheet:
                width, height = sheet.width // columns, sheet.height // (len(self.measures) // columns)
                left, top = cell % columns * width, cell // columns * height
                return sheet.crop((left, top, left + width, top + height)).convert("RGB")
        except OSError as error:
            raise RunFolderError(f"{self.sheet} cannot be read ({error}); restore it from a copy") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A run folder."""

    folder: Path
    config: SearchConfig
    checkpoints: Mapping[CheckpointName, Checkpoint]
    """All that were scored: a vote may be about one that was the best only when it was cast."""

    @property
    def candidates(self) -> tuple[Checkpoint, ...]:
        """The best checkpoint of each trial, in the order of trials, without those that draw no face at all."""
        best: dict[str, Checkpoint] = {}
        for name in sorted(self.checkpoints):
            checkpoint, known = self.checkpoints[name], best.get(name.trial)
            if checkpoint.faces and (known is None or checkpoint.objective > known.objective):
                best[name.trial] = checkpoint
        return tuple(best.values())

    def prompts(self) -> tuple[str, ...]:
        """The prompts as the images were made from them.

        Raises:
            RunFolderError: they are gone, or not those that the images were made from.
            ConfigurationError: the file cannot be used.
        """
        path = self.config.evaluation.prompts
        if not path.is_file():
            raise RunFolderError(f"the prompts {path} are gone, and a vote needs to see them; put the file back")
        prompts = read_prompts(path, self.config.photos.class_word)
        used = {prompt_index for candidate in self.candidates for prompt_index, _ in candidate.measures}
        if used != set(range(len(prompts))):
            raise RunFolderError(
                f"{path} holds {len(prompts)} prompts, but the images show {len(used)}; put the search's file back"
            )
        return tuple(with_trigger(prompt, self.config.photos.trigger) for prompt in prompts)

    def reference_photos(self, side: int) -> tuple[Image.Image, ...]:
        """A few real photos of the person, of those that were never trained on, `side` pixels wide and high.

        Raises:
            PhotoFolderError: the photos cannot be used.
            ValueError: the face model that cuts or chooses them cannot.
        """
        split = read_split(self.config.photos, self.config.evaluation.faces)
        return tuple(open_photo(photo, side) for photo in split.reference[:REFERENCE_PHOTOS])


def read_run(folder: Path) -> Run:
    """Read a run folder, without the photos and prompts: judging votes needs neither.

    Raises:
        RunFolderError: it is no run folder, one of its files is damaged, or it has fewer than two candidates.
    """
    config = read_config(folder)
    layout = RunLayout(folder)
    base_folder = layout.base("validation")
    if not (base_folder / CHECKPOINT_FILE).is_file():
        raise RunFolderError(f"{folder} holds no measurement of the untuned model yet; let the search run for longer")
    base = _report(base_folder)
    anchors = _anchors(base)
    checkpoints = {}
    for trial, step, place in layout.scored_checkpoints():
        name = CheckpointName(trial=trial, step=step)
        checkpoints[name] = _checkpoint(name, _report(place), anchors)
    run = Run(folder=folder, config=config, checkpoints=checkpoints)
    if len(run.candidates) < 2:
        raise RunFolderError(
            f"{folder} has {len(run.candidates)} candidate(s), trials with a scored checkpoint that draws a face; "
            "a vote needs two to choose between"
        )
    if len({tuple(checkpoint.measures) for checkpoint in checkpoints.values()}) > 1:
        raise RunFolderError(f"the checkpoints of {folder} do not share their prompts and seeds; they cannot be paired")
    return run


def _report(folder: Path) -> CheckpointResult:
    try:
        return CheckpointResult.read(folder)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFolderError(f"{folder / CHECKPOINT_FILE} is damaged ({error}); remove the folder {folder}") from error


def _anchors(base: CheckpointResult) -> Anchors:
    try:
        return base.anchors()
    except (TypeError, ValueError) as error:
        raise RunFolderError(f"{base.folder / CHECKPOINT_FILE} holds no usable anchors: {error}") from error


def _checkpoint(name: CheckpointName, report: CheckpointResult, anchors: Anchors) -> Checkpoint:
    rows = report.rows
    return Checkpoint(
        name=name,
        objective=report.metrics[OBJECTIVE],
        faces=any(row.face_found for row in rows),
        measures={(row.prompt_index, row.seed): image_measures(row, anchors) for row in rows},
        sheet=report.grid,
    )
