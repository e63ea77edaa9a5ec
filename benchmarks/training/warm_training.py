"""Our side of `benchmarks.training`: a process that loads the model once, as a worker does, and trains job after
job."""

from __future__ import annotations

import importlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from benchmarks.training.training_run import DATA, Steps, Training, Work
from trainer.data.cache import build_cache
from trainer.job.job import TrainingJob
from trainer.models.loading import load_base_model, set_threads


class WarmTraining(Training):
    """The trainer's loop on a warm model.

    Args:
        work: What to train.
        threads: Of the CPU.
        folder: Of the data cache.
    """

    def __init__(self, work: Work, threads: int, folder: Path) -> None:
        super().__init__()
        set_threads(threads)
        loop = importlib.import_module("trainer.job.step_batches")
        for function in ("draw_passes", "with_forms"):
            self.clocks.watch(loop, function, DATA)
        self._work = work
        self._base = load_base_model(work.model, device="cpu")
        self.loaded()
        self._photos, self._reference = (
            build_cache(photos, self._base, resolution=work.config.resolution, folder=folder)
            for photos in (work.split.training, work.split.reference)
        )
        self._weights: dict[str, dict[str, Tensor]] = {}

    def steps(self, seed: int) -> Steps:
        """A job, which is closed at its end."""
        with TrainingJob(self._base, self._photos, replace(self._work.config, seed=seed)) as job:
            while not job.finished:
                yield job.config.photos_per_step, job.step().loss
            self._weights = {
                part: {name: weight.detach().clone() for name, weight in job.adapter.state_dict(part).items()}
                for part in job.adapter.parts
            }

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Of the last job."""
        return self._weights

    def validation_loss(self, weights: dict[str, dict[str, Tensor]]) -> float:
        """Of an adapter of either side, on the photos that neither trained on; of the untuned model without weights."""
        with closing(TrainingJob(self._base, self._photos, self._work.config)) as job:
            for part in job.adapter.parts if weights else ():
                job.adapter.load_state_dict(part, weights[part])
            return job.validation_loss(self._reference)
