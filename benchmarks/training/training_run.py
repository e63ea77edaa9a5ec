"""One side of `benchmarks.training` within its process: a training that is started, then run, with clocks around it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.optimizer import AcceleratedOptimizer  # type: ignore[import-untyped]
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel

from benchmarks.clocks import Clocks
from benchmarks.scale.memory import forget_peak, peak_memory, resident_memory
from trainer.config import TrainingConfig
from trainer.data.photos import PhotoSplit

DATA = "data"
"""The phase of drawing a batch."""

Steps = Generator[tuple[int, float], None, None]
"""After every step its samples and its loss."""

WATCHED = (
    (AutoencoderKL, "encode", "photos' latents"),
    (CLIPTextModel, "forward", "text encoder"),
    (UNet2DConditionModel, "forward", "UNet forward"),
    (Accelerator, "backward", "backward"),
    (Accelerator, "clip_grad_norm_", "clip and optimizer"),
    (AcceleratedOptimizer, "step", "clip and optimizer"),
    (AcceleratedOptimizer, "zero_grad", "clip and optimizer"),
)
"""Functions that both sides call, and the phase that each is."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What both sides train."""

    model: str
    split: PhotoSplit
    config: TrainingConfig
    """But for the seed, of which every training has its own."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training after its first step."""

    samples: int
    """Photos that the network saw."""
    steps: int
    seconds: float
    processor_seconds: float
    """Of all threads; other work on the machine hardly adds to it."""
    phases: Mapping[str, float]
    """Seconds by phase, together `seconds`."""
    mean_loss: float
    """Over all steps, the first included."""
    memory: float | None
    """Peak in MiB above the loaded models, from the start on; None where the system does not tell."""

    @property
    def rate(self) -> float:
        """Samples a second."""
        return self.samples / self.seconds

    @property
    def processor_rate(self) -> float:
        """Samples a second of processor time."""
        return self.samples / self.processor_seconds


class Training(ABC):
    """Trains one adapter after the other. The models are loaded when a subclass calls `loaded`."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        for owner, function, phase in WATCHED:
            self.clocks.watch(owner, function, phase)
        self._loaded: float | None = None
        self._going: Steps | None = None
        self._first_loss = 0.0

    def loaded(self) -> None:
        """Call it when the models are in memory, and nothing else is."""
        self._loaded = resident_memory()

    @abstractmethod
    def steps(self, seed: int) -> Steps:
        """A whole training; closed early, it gives up."""

    def start(self, seed: int) -> float:
        """Begin a training and do its first step; one that has not been run to its end is given up.

        Returns:
            Seconds that it took.
        """
        if self._going is not None:
            self._going.close()
        forget_peak()
        began = time.perf_counter()
        self._going = self.steps(seed)
        _, self._first_loss = next(self._going)
        return time.perf_counter() - began

    def run(self) -> Run:
        """Do all steps after the first."""
        self.clocks.reset()
        began = time.process_time()
        done = list(self._going or ())
        phases = self.clocks.read()
        processor_seconds = time.process_time() - began
        peak = peak_memory()
        return Run(
            samples=sum(samples for samples, _ in done),
            steps=len(done),
            seconds=sum(phases.values()),
            processor_seconds=processor_seconds,
            phases=phases,
            mean_loss=(self._first_loss + sum(loss for _, loss in done)) / (1 + len(done)),
            memory=None if peak is None or self._loaded is None else peak - self._loaded,
        )

    @abstractmethod
    def weights(self) -> dict[str, dict[str, Any]]:
        """Of the adapter that was trained last, by part of the model, under PEFT's names."""
