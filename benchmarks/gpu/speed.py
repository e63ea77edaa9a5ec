"""Measurements 5, 6 and 14: what an optimizer step takes, where it waits, and what optimizers and states add."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.bench import Bench, do_steps
from benchmarks.gpu.device import GB
from benchmarks.gpu.rows import Row, at_least, at_most, holds, not_measured
from trainer.config import OptimizerName
from trainer.job.job import TrainingJob

WIDE = "attention+feed_forward+convolutions"
PROFILED = 3
"""Optimizer steps under the profiler."""
UNSYNCED = 23
"""Steps in which nothing may wait for the device, after the first: every 25th checks the loss."""


def step_time(bench: Bench) -> Iterator[Row]:
    """Steps a second by rank, targets and text encoder; launches and busy share; memory by batch and resolution."""
    kinds: tuple[tuple[str, dict[str, Any]], ...] = (
        ("rank 64, attention", {"rank": 64}),
        ("rank 4, attention", {"rank": 4}),
        ("rank 64, attention, no text encoder", {"rank": 64, "text_encoder_learning_rate": 0.0}),
        ("rank 64, all targets", {"rank": 64, "targets": WIDE}),
        ("rank 64, attention, checkpointing", {"rank": 64, "gradient_checkpointing": True}),
    )
    for name, changes in kinds:
        with bench.job(**changes) as job:
            seconds = bench.step_seconds(job)
            yield Row(name=f"step, {name}", value=1000 * seconds, unit="ms")
            if name == kinds[0][0]:
                yield from _at_work(bench, job, seconds)
    for batch in bench.sizes.train_batches:
        yield from _step_memory(bench, batch, bench.sizes.resolution)
    for resolution in bench.sizes.further_resolutions:
        for batch in bench.sizes.train_batches[:2]:
            yield from _step_memory(bench, batch, resolution)


def _at_work(bench: Bench, job: TrainingJob, seconds: float) -> Iterator[Row]:
    """Of the usual step: rate, peak, and what the profiler sees of it."""
    peak = bench.device.peak(partial(do_steps, job, 1)) / GB
    cuda = bench.device.is_cuda
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiled:
        do_steps(job, PROFILED)
        bench.device.wait()
    kernels = _kernels(profiled.events() or [], cuda=cuda)
    yield Row(name="  launches a step", value=len(kernels) / PROFILED)
    if not cuda:
        yield Row(name="  steps a second", value=1 / seconds)
        return
    yield at_least("  steps a second", 1 / seconds, 9.0, "1/s")
    yield at_least("  steps a second, goal after the levers", 1 / seconds, 40.0, "1/s")
    busy = sum(kernel.time_range.end - kernel.time_range.start for kernel in kernels) / 1e6 / PROFILED / seconds
    yield at_least("  share of a step in which kernels run", busy, 0.85, "")
    yield at_most("  peak memory of training", peak, 9.0, "GB")


def _kernels(events: Any, *, cuda: bool) -> list[FunctionEvent]:
    """What ran on the device; on a CPU, all operators."""
    wanted = "CUDA" if cuda else "CPU"
    return [event for event in events if event.device_type.name == wanted and not event.is_user_annotation]


def _step_memory(bench: Bench, batch: int, resolution: int) -> Iterator[Row]:
    name = f"batch {batch} at {resolution} px"
    with bench.job(batch_size=batch, resolution=resolution, rank=16) as job:
        do_steps(job, 2)  # the second has moments
        peak = bench.device.peak(partial(do_steps, job, 1)) / GB
        seconds = bench.device.seconds(partial(do_steps, job, 2), repeats=1, warm_up=0) / 2
        whole = job.micro_batch == batch
    yield Row(name=f"step, {name}", value=1000 * seconds, unit="ms", note="" if whole else "in parts: out of memory")
    if bench.device.is_cuda:
        yield Row(name=f"  peak, {name}", value=peak, unit="GB")


def no_sync(bench: Bench) -> Iterator[Row]:
    """Whether the host waits for the device within steps."""
    name = f"{UNSYNCED} steps without waiting for the device"
    if not bench.device.is_cuda:
        yield not_measured(name, "a CPU has nothing to wait for")
        return
    with bench.job() as job:
        do_steps(job, 1)
        bench.device.wait()
        torch.cuda.set_sync_debug_mode("error")
        try:
            do_steps(job, UNSYNCED)
            found = ""
        except RuntimeError as error:
            found = str(error).splitlines()[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    yield holds(name, not found, note=found)


def optimizers(bench: Bench) -> Iterator[Row]:
    """Every optimizer's step beside AdamW's, its state's way through a file, and the copies before a step."""
    names: list[OptimizerName] = ["adamw", "adafactor", "prodigy"]
    if bench.device.is_cuda and find_spec("bitsandbytes") is not None:
        names.append("adamw_8bit")
    else:
        yield not_measured("step with adamw_8bit", "it takes CUDA and bitsandbytes")
    usual = 0.0
    for name in names:
        with bench.job(optimizer=name, rank=64) as job:
            seconds = bench.step_seconds(job, windows=3)
            usual = usual or seconds
            yield Row(name=f"step with {name}", value=1000 * seconds, unit="ms")
            if name != "adamw" and bench.device.is_cuda:
                yield at_most(f"  {name} to adamw", seconds / usual, 1.5, "x")
            yield from _state_round_trip(bench, job, name)
    with bench.job(rank=64) as job:
        do_steps(job, 1)
        weights = [weight.detach() for part in job.adapter.parts for weight in job.adapter.parameters(part)]
        yield from _copies(bench, weights)
        yield from _adamw_kinds(bench, weights)


def _state_round_trip(bench: Bench, job: TrainingJob, name: str) -> Iterator[Row]:
    folder = bench.scratch()
    began = time.perf_counter()
    job.save(folder / "first")
    seconds = time.perf_counter() - began
    job.restore(folder / "first")
    job.save(folder / "second")
    yield Row(name=f"  save a state of {name}", value=seconds, unit="s")
    yield Row(name="    its size", value=_size(folder / "first") / 1e6, unit="MB")
    yield holds(f"  restored state of {name} is bit-equal", _contents(folder / "first") == _contents(folder / "second"))


def _contents(folder: Path) -> dict[str, Any]:
    """Every number of a state, tensors as their bytes: in the files their order may differ."""
    found: dict[str, Any] = {}
    for path in folder.iterdir():
        if path.suffix == ".safetensors":
            found |= {f"{path.name} {name}": tensor.numpy().tobytes() for name, tensor in load_file(path).items()}
        else:
            found[path.name] = json.loads(path.read_text("utf-8"))
    return found


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def _copies(bench: Bench, weights: list[Tensor]) -> Iterator[Row]:
    """Ways to keep all weights of an adapter before a step."""
    kept = [torch.empty_like(weight) for weight in weights]
    ways: tuple[tuple[str, Callable[[], object]], ...] = (
        ("clone each", lambda: [weight.clone() for weight in weights]),
        ("_foreach_copy_ into kept room", lambda: torch._foreach_copy_(kept, weights)),
        ("lerp_ each (average)", lambda: [to.lerp_(weight, 0.1) for to, weight in zip(kept, weights, strict=True)]),
        ("_foreach_lerp_ (average)", lambda: torch._foreach_lerp_(kept, weights, 0.1)),
    )
    for name, way in ways:
        seconds = bench.device.seconds(way, repeats=bench.sizes.windows)
        yield Row(name=f"{len(weights)} weights: {name}", value=1000 * seconds, unit="ms")


def _adamw_kinds(bench: Bench, weights: list[Tensor]) -> Iterator[Row]:
    copies = [torch.nn.Parameter(weight.clone()) for weight in weights]
    for copy in copies:
        copy.grad = torch.ones_like(copy)
    kinds = (
        ("fused", torch.optim.AdamW(copies, fused=True)),
        ("foreach", torch.optim.AdamW(copies, foreach=True)),
        ("one by one", torch.optim.AdamW(copies, foreach=False)),
    )
    for name, optimizer in kinds:
        seconds = bench.device.seconds(optimizer.step, repeats=bench.sizes.windows)
        yield Row(name=f"{len(copies)} weights: AdamW {name}", value=1000 * seconds, unit="ms")
