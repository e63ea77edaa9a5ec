"""A worker whose work is simulated: it answers at once, with files and reports of the shape of real ones.

Everything around it is real: Ray Train's worker, the dispatcher's actor, Tune's trials and the driver.
"""

from __future__ import annotations

import io
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import search.workers.runner
from evaluation.config import PromptSet
from evaluation.grid import image_grid
from evaluation.image_row import ImageRow
from evaluation.measures import REAL, VALIDATION_LOSS
from evaluation.objective import appraise, meter_lower_ends
from evaluation.scores import Anchors, candidate_metrics
from search.config.run_layout import ANCHORS_FILE
from search.storage.trial_record import CheckpointResult
from search.workers.jobs import AnchorJob, Job, JudgeJob, ScoreJob, TrainJob
from search.workers.runner import GoOn, Send
from search.workers.setup import RunnerSetup
from search.workers.worker import WorkerSetup, serve
from trainer.adapters.adapter import attach_adapter
from trainer.adapters.adapter_files import WEIGHTS_FILE, save_adapter
from trainer.config import TrainingConfig
from trainer.data.photos import open_photo
from trainer.files import write_file, written_folder
from trainer.models.loading import load_base_model, set_threads

UNTUNED = 0.8
"""Face distance of the untuned model."""

ANCHORS = Anchors.between(untuned_distance=UNTUNED, real_distance=0.4, clip_score=30.0)

BEST_RATE = 2e-3
"""Learning rate at which the simulated training does best; a decade from it there is little left."""


def serve_simulated(setup: WorkerSetup) -> None:
    """Stands for `search.workers.worker.serve`: the same, with a simulated workbench."""
    search.workers.runner.JobRunner = SimulatedRunner  # type: ignore[assignment, misc]
    serve(setup)


class SimulatedRunner:
    """Stands for `search.workers.runner.JobRunner`: it neither trains nor draws, but writes what that would
    have written."""

    def __init__(self, setup: RunnerSetup, *, device: torch.device) -> None:
        set_threads(setup.threads)
        self.device = f"{device} (simulated)"
        self._setup = setup
        self._adapter = _adapter(setup.model)
        self._sheets: dict[tuple[int, int], bytes] = {}

    def do(self, job: Job, *, report: Send, go_on: GoOn, keeps_state: Callable[[], bool]) -> None:
        """Do one job, or leave it when `report` or `go_on` answers False; there is no state of a training to keep."""
        match job:
            case TrainJob():
                self._train(job, report, go_on)
            case ScoreJob():
                trained = CheckpointResult.read(job.adapter)
                distance = UNTUNED + job.strength * (trained.metrics["face_distance"] - UNTUNED)
                images = self._setup.prompt_sets[job.prompt_set]
                if job.prompts is not None:
                    images = PromptSet(prompts=images.prompts[: job.prompts], seeds=images.seeds[:1])
                report(self._report(job.folder, 0, images, distance, (trained.step, 1)))
            case AnchorJob():
                images = self._setup.prompt_sets[job.prompt_set]
                ends = {REAL + name: value for name, value in ANCHORS.real.items()}
                report(self._report(job.folder, 0, images, UNTUNED, (0, 0), ends))
                text = json.dumps({"anchors": ends})
                write_file(job.folder / ANCHORS_FILE, lambda path: path.write_text(text, "utf-8"))
            case JudgeJob():
                raise ValueError("a simulated worker has no second judge; leave evaluation.second_judge out")

    def _train(self, job: TrainJob, send: Send, go_on: GoOn) -> None:
        job.folder.mkdir(parents=True, exist_ok=True)
        for step in job.score_at:
            if not go_on(step):
                return
            folder = job.folder / f"step-{step}"
            report = self._report(
                folder,
                step,
                self._setup.prompt_sets[job.prompt_set],
                simulated_distance(job.config, step),
                (job.config.seed, step),
                {VALIDATION_LOSS: 0.2},
                adapter=True,
            )
            if not send(report):
                return

    def _report(
        self,
        folder: Path,
        step: int,
        images: PromptSet,
        distance: float,
        seed: Iterable[int],
        extra: Mapping[str, float] | None = None,
        *,
        adapter: bool = False,
    ) -> CheckpointResult:
        rows = _rows(images, distance, seed)
        metrics = candidate_metrics(rows, ANCHORS, self._setup.objective)
        lower_ends = meter_lower_ends(metrics, rows, (), ANCHORS)
        appraisal = appraise(metrics, lower_ends, self._setup.objective, self._setup.limits)
        report = CheckpointResult(
            step=step,
            metrics={
                **metrics,
                **appraisal.as_metrics(),
                **(extra or {}),
            },
            rows=tuple(rows),
            unfit=appraisal.unfit,
            folder=folder,
        )
        with written_folder(folder) as temporary:
            (temporary / "grid.png").write_bytes(self._sheet(len(images.prompts), len(images.seeds)))
            if adapter:
                (temporary / WEIGHTS_FILE).write_bytes(self._adapter)
            report.write(temporary)
        return report

    def _sheet(self, lines: int, columns: int) -> bytes:
        """A PNG of the person's photos, as large as a real sheet; encoded once."""
        if (lines, columns) not in self._sheets:
            photos = self._setup.split.training
            side = self._setup.generation.resolution
            tiles = [open_photo(photos[n % len(photos)], side) for n in range(lines * columns)]
            self._sheets[lines, columns] = _png(image_grid(tiles, columns=columns))
        return self._sheets[lines, columns]


def simulated_distance(config: TrainingConfig, step: int) -> float:
    """Face distance after so many steps: nearest at one learning rate, and nearer with every step."""
    fit = math.exp(-(math.log10(config.learning_rate / BEST_RATE) ** 2))
    learnt = 1 - math.exp(-step / 100)
    return UNTUNED - 0.35 * fit * learnt


def _rows(images: PromptSet, distance: float, seed: Iterable[int]) -> list[ImageRow]:
    random = np.random.default_rng(list(seed))
    rows = []
    for prompt in range(len(images.prompts)):
        for image_seed in images.seeds:
            measured = float(np.clip(random.normal(distance, 0.03), 0.1, 1.5))
            rows.append(
                ImageRow.of(
                    prompt,
                    image_seed,
                    face_distance=measured,
                    clip_score=float(random.normal(29.5, 0.5)),
                    face_confidence=0.9,
                    nearest_distance=0.8 * measured,
                    faces=1,
                )
            )
    return rows


def _adapter(model: str) -> bytes:
    """An adapter file of the model, of the least rank and without an effect."""
    base = load_base_model(model, device="cpu")
    adapter = attach_adapter(base, TrainingConfig(rank=4))
    try:
        with tempfile.TemporaryDirectory() as folder:
            return save_adapter(adapter, Path(folder)).read_bytes()
    finally:
        adapter.detach()


def _png(sheet: Image.Image) -> bytes:
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()
