"""A process that uses the device beside others, as each worker of a search does."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from benchmarks.gpu.bench import Bench, do_steps
from benchmarks.gpu.device import Device
from benchmarks.gpu.sizes import Sizes
from benchmarks.scale.memory import resident_memory
from search.workers.setup import RunnerSetup
from trainer.job.job import TrainingJob
from trainer.models.device import UnusableGpuError, reserved_gpu
from trainer.models.loading import choose_device, set_threads

RANKS = (4, 16, 64)


class GpuProcess:
    """Loads nothing until it is asked to.

    Args:
        setup: Of the job runner; its data cache is filled.
        sizes: Of everything.
    """

    def __init__(self, setup: RunnerSetup, sizes: Sizes) -> None:
        set_threads(setup.threads)
        self._setup = setup
        self._sizes = sizes
        self._bench: Bench | None = None
        self._job: TrainingJob | None = None

    def chosen_device(self) -> str:
        """That a worker takes here which has reserved a GPU, or why it takes none."""
        try:
            return str(reserved_gpu())
        except UnusableGpuError as error:
            return str(error)

    def load(self) -> float:
        """Load the base model and begin a training.

        Returns:
            MB of main memory that the process holds then.
        """
        bench = self._loaded()
        self._job = TrainingJob(bench.base, bench.cache(), bench.config())
        do_steps(self._job, 2)
        bench.device.wait()
        return resident_memory() or 0.0

    def steps(self, seconds: float) -> float:
        """Train for about so long.

        Returns:
            Steps a second.
        """
        assert self._job is not None, "load comes first"
        device = self._loaded().device
        device.wait()
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            do_steps(self._job, self._sizes.window)
            device.wait()
            count += self._sizes.window
        return count / (time.perf_counter() - began)

    def mixed_jobs(self) -> Mapping[str, float]:
        """Many short jobs of unlike ranks, targets and batches, as a worker of a search does them."""
        if self._job is not None:
            self._job.close()
            self._job = None
        return mixed_jobs(self._loaded())

    def _loaded(self) -> Bench:
        if self._bench is None:
            folder = Path(tempfile.mkdtemp(dir=self._setup.cache.parent))
            self._bench = Bench(self._setup, self._sizes, Device(choose_device()), folder, stands_in=True)
        return self._bench


def mixed_jobs(bench: Bench) -> Mapping[str, float]:
    """Figures of many short jobs in one process: bytes held before and after, and seconds between two jobs."""
    device, draw, changes = bench.device, random.Random(0), []
    with bench.job() as job:
        do_steps(job, 2)
    device.tidy()
    before, reserved_before = device.allocated(), device.reserved()
    ended, peak = None, 0
    for number in range(bench.sizes.jobs):
        with bench.job(
            rank=draw.choice(RANKS),
            targets=draw.choice(("attention", "attention+feed_forward+convolutions")),
            batch_size=draw.choice((1, 2)),
            text_encoder_learning_rate=draw.choice((0.0, None)),
            seed=number,
        ) as job:
            if ended is not None:
                device.wait()
                changes.append(time.perf_counter() - ended)
            do_steps(job, 3)
            device.wait()
            if number % 5 == 0:
                bench.draw(1)
            if device.is_cuda:  # each job counts anew
                peak = max(peak, torch.cuda.max_memory_allocated(device.device))
            ended = time.perf_counter()
    return {
        "allocated_before": before,
        "allocated_after": device.allocated(),
        "reserved_before": reserved_before,
        "reserved_after": device.reserved(),
        "peak": peak,
        "longest_change": max(changes),
    }
