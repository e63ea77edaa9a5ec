"""What the measurements work on: models, photos and jobs, made by the code that a search uses."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image
from torch import Tensor

from benchmarks.gpu.device import Device
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.stand_in_faces import stand_in_faces
from evaluation.config import with_trigger
from evaluation.generate import ImageBatch, generate_images
from evaluation.scores import Anchors
from search.workers.runner import JobRunner
from search.workers.setup import RunnerSetup
from trainer.config import TrainingConfig
from trainer.data.cache import DataCache, build_cache
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel, load_base_model

ANCHORS = Anchors.between(untuned_distance=1.3, real_distance=0.6, clip_score=20.0)
"""Of a model that can draw: those of a random one say nothing."""
LEARNING_RATE = 1e-3
"""At which few steps change the images."""


@dataclass(eq=False)
class Bench:
    """Loads what is asked for, once, and forgets it on `reset`."""

    setup: RunnerSetup
    sizes: Sizes
    device: Device
    folder: Path
    """For what jobs write."""
    stands_in: bool
    """Whether the face model is a stand-in."""
    _base: BaseModel | None = field(default=None, init=False)
    _caches: dict[int, DataCache] = field(default_factory=dict, init=False)

    @property
    def base(self) -> BaseModel:
        """In the device's own number format."""
        if self._base is None:
            self._base = load_base_model(self.setup.model, device=self.device.device)
        return self._base

    def reset(self) -> None:
        """Forget the base, which a failed measurement may have left with an adapter."""
        self._base = None
        self.device.tidy()

    def load(self, dtype: torch.dtype) -> BaseModel:
        """Another base with weights in `dtype`."""
        with patch("trainer.models.loading.choose_dtype", lambda device: dtype):
            return load_base_model(self.setup.model, device=self.device.device)

    def runner(self) -> JobRunner:
        """A new job runner, as a worker makes one; it holds a base of its own."""
        with stand_in_faces(self.stands_in):
            return JobRunner(self.setup)

    def cache(self, resolution: int | None = None) -> DataCache:
        """The training photos, encoded; at another resolution only as many as the largest batch takes."""
        resolution = resolution or self.sizes.resolution
        if resolution not in self._caches:
            photos = self.setup.split.training
            if resolution != self.sizes.resolution:
                photos = photos[: min(4, len(photos))]
            self._caches[resolution] = build_cache(photos, self.base, resolution=resolution, folder=self.setup.cache)
        return self._caches[resolution]

    def config(self, **changes: Any) -> TrainingConfig:
        """The trainer's defaults with a long, even learning rate, and changes."""
        settings = TrainingConfig(
            steps=10_000, lr_scheduler="constant", learning_rate=LEARNING_RATE, resolution=self.sizes.resolution
        )
        return replace(settings, **changes)

    @contextmanager
    def job(self, base: BaseModel | None = None, **changes: Any) -> Iterator[TrainingJob]:
        """A training that is closed afterwards.

        Args:
            base: Another base than the bench's own.
            changes: To the trainer's settings.
        """
        config = self.config(**changes)
        with TrainingJob(base or self.base, self.cache(config.resolution), config) as job:
            yield job

    def step_seconds(self, job: TrainingJob, *, windows: int | None = None) -> float:
        """Median seconds of an optimizer step, over windows of several, after a first window."""
        steps = partial(do_steps, job, self.sizes.window)
        return self.device.seconds(steps, repeats=windows or self.sizes.windows) / self.sizes.window

    def draw(self, count: int, *, at_once: int | None = None, batch: ImageBatch | None = None) -> list[Image.Image]:
        """Images of the person as scoring draws them.

        Args:
            count: How many.
            at_once: In one batch; None: all of them.
            batch: How many at once in place of `at_once`; it tells afterwards how many they were.
        """
        pairs = self.setup.prompt_sets["validation"].pairs()
        wanted = [pairs[number % len(pairs)] for number in range(count)]
        prompts = self.setup.prompt_sets["validation"].prompts
        return generate_images(
            self.base.pipeline(),
            [with_trigger(prompts[index], self.setup.trigger) for index, _ in wanted],
            [seed + number for number, (_, seed) in enumerate(wanted)],
            self.setup.generation,
            batch or ImageBatch(at_once or count),
        )

    def scratch(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))


def do_steps(job: TrainingJob, count: int) -> list[Tensor]:
    """So many optimizer steps; their losses, on the device."""
    return [job.step().loss_tensor for _ in range(count)]


def weights_of(job: TrainingJob) -> dict[str, Tensor]:
    """A copy of the adapter's weights on the CPU, by part and name."""
    return {
        f"{part}.{name}": weight.detach().float().cpu().clone()
        for part in job.adapter.parts
        for name, weight in job.adapter.named_parameters(part).items()
    }


def relative_difference(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> float:
    """Norm of the difference over the norm of `others`, over all tensors together."""
    difference = sum(float((weights[name] - other).square().sum()) for name, other in others.items())
    whole = sum(float(other.square().sum()) for other in others.values())
    return math.sqrt(difference / whole)


def levels_apart(images: Sequence[Image.Image], others: Sequence[Image.Image]) -> float:
    """Mean difference of two rows of images, in levels of 0 to 255."""
    return float((_pixels(images) - _pixels(others)).abs().mean())


def _pixels(images: Sequence[Image.Image]) -> Tensor:
    flat = [torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8) for image in images]
    return torch.stack(flat).to(torch.int16).float()


Measure = Callable[[Bench], Iterator[Any]]
