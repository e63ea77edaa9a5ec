"""Measurements 1 and 2: what device there is, and what the start of a worker costs."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import diffusers
import torch
import transformers

from benchmarks.gpu.bench import ANCHORS, Bench
from benchmarks.gpu.gpu_process import GpuProcess
from benchmarks.gpu.rows import Row, at_most, holds
from benchmarks.scale.memory import resident_memory
from benchmarks.subprocess_object import Held
from evaluation.clip_score import ClipScorer
from search.workers.jobs import TrainJob
from trainer.models.loading import choose_device, choose_dtype

DRIVER_FIELDS = "driver_version,clocks.sm,clocks.mem,power.limit,temperature.gpu"

Made = TypeVar("Made")


def environment(bench: Bench) -> Iterator[Row]:
    """Versions, device and number format; and what a worker does whose GPU torch cannot use."""
    device, cuda = bench.device.device, bench.device.is_cuda
    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}"
    yield Row(name="versions", value=versions)
    if cuda:
        properties = torch.cuda.get_device_properties(device)
        capability = f"{properties.major}.{properties.minor}"
        yield Row(name="card", value=properties.name, note=f"capability {capability}, CUDA {torch.version.cuda}")
        yield Row(name="memory of the card", value=properties.total_memory / 1e9, unit="GB")
        yield Row(name=DRIVER_FIELDS, value=_driver())
    dtype = str(choose_dtype(device)).removeprefix("torch.")
    yield Row(name="device that is chosen", value=str(choose_device()), criterion="cuda", met=cuda or None)
    met = dtype == "bfloat16" if cuda else None
    yield Row(name="number format of the weights", value=dtype, criterion="bfloat16", met=met)
    with Held(1, GpuProcess, bench.setup, bench.sizes, environment={"CUDA_VISIBLE_DEVICES": ""}) as process:
        hidden: str = process.call("chosen_device").result()
    refuses = hidden not in ("cpu", "cuda:0")
    yield Row(
        name="a worker whose GPU torch cannot use",
        value="refuses" if refuses else hidden,
        criterion="refuses",
        met=refuses if cuda else None,
        note="simulated by CUDA_VISIBLE_DEVICES=''",
    )


def start(bench: Bench) -> Iterator[Row]:
    """A worker's start by its parts, and whole with everything in the caches."""
    setup, device = bench.setup, bench.device
    photos = len(setup.split.training) + len(setup.split.reference)
    before = resident_memory() or 0.0
    base, seconds = _timed(bench, lambda: bench.base)
    yield Row(name="load the base model", value=seconds, unit="s")
    held = ((resident_memory() or 0.0) - before) / 1000
    note = "without the heap's tunables: see the processes"
    if device.is_cuda:
        yield at_most("main memory that loading leaves", held, 3.0, "GB", note=note)
    else:
        yield Row(name="main memory that loading leaves", value=held, unit="GB")
    _, seconds = _timed(bench, lambda: base.sha256)
    yield Row(name="hash of its files", value=seconds, unit="s")
    _, seconds = _timed(bench, bench.cache)
    yield Row(name=f"encode {len(setup.split.training)} photos", value=seconds, unit="s", note="base loaded, hashed")
    _, seconds = _timed(bench, lambda: ClipScorer(setup.clip, device.device))
    yield Row(name="load CLIP", value=seconds, unit="s")
    began = time.perf_counter()
    runner = bench.runner()
    runner_seconds = time.perf_counter() - began
    yield Row(name=f"a job runner, {photos} photos, warm caches", value=runner_seconds, unit="s")
    folder = bench.scratch()
    job = TrainJob(id="first", folder=folder, config=bench.config(steps=2), score_at=(2,), anchors=ANCHORS)
    steps: list[int] = []

    def stop(step: int) -> bool:
        steps.append(step)
        return False

    _, seconds = _timed(bench, lambda: runner.do(job, report=lambda report: True, go_on=stop))
    yield holds("its first job stops after the first step", steps == [1])
    if device.is_cuda:
        yield at_most("from a job runner's start to its first step", runner_seconds + seconds, 45.0, "s")
    else:
        yield Row(name="from a job runner's start to its first step", value=runner_seconds + seconds, unit="s")
    shutil.rmtree(folder)


def _timed(bench: Bench, work: Callable[[], Made]) -> tuple[Made, float]:
    began = time.perf_counter()
    made = work()
    bench.device.wait()
    return made, time.perf_counter() - began


def _driver() -> str:
    try:
        asked = ["nvidia-smi", f"--query-gpu={DRIVER_FIELDS}", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi does not answer: {error}"
