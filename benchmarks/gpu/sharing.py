"""Measurements 12 and 13: many jobs in one process, and several processes on one device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.device import GB
from benchmarks.gpu.gpu_process import GpuProcess, mixed_jobs
from benchmarks.gpu.rows import Row, at_least, at_most
from benchmarks.subprocess_object import Held
from trainer.job.heap import heap_environment

EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "PYTORCH_ALLOC_CONF": "expandable_segments:True"}
"""The second is the variable's newer name."""


def many_jobs(bench: Bench) -> Iterator[Row]:
    """Jobs of unlike sizes one after the other: what they leave, and what lies between two of them."""
    yield from _figures(bench, mixed_jobs(bench), "")


def _figures(bench: Bench, figures: Mapping[str, float], where: str) -> Iterator[Row]:
    jobs = bench.sizes.jobs
    if bench.device.is_cuda:
        leaked = abs(figures["allocated_after"] - figures["allocated_before"]) / 1e6
        yield at_most(f"{jobs} jobs{where}: bytes held more than before", leaked, 1.0, "MB")
        reserved, peak = figures["reserved_after"], figures["peak"]
        yield at_most(f"{jobs} jobs{where}: reserved to the highest peak", reserved / peak, 1.3, "x")
        yield Row(name=f"{jobs} jobs{where}: reserved", value=reserved / GB, unit="GB")
        yield at_most(f"{jobs} jobs{where}: longest change of jobs", figures["longest_change"], 0.5, "s")
    else:
        yield Row(name=f"{jobs} jobs{where}: longest change of jobs", value=figures["longest_change"], unit="s")


def processes(bench: Bench) -> Iterator[Row]:
    """Steps a second of one process and of several together; memory with expandable segments."""
    bench.cache()  # written for all
    bench.reset()
    count, seconds = bench.sizes.processes, bench.sizes.shared_seconds
    with ExitStack() as stack:
        held = [
            stack.enter_context(Held(1, GpuProcess, bench.setup, bench.sizes, environment=environment))
            for environment in [heap_environment() | EXPANDABLE, *[heap_environment()] * (count - 1)]
        ]
        resident = [process.result() for process in [each.call("load") for each in held]]
        memory = resident[-1] / 1000
        name = "main memory of a worker's process after load, with its heap's settings"
        yield at_most(name, memory, 3.0, "GB") if bench.device.is_cuda else Row(name=name, value=memory, unit="GB")
        alone = 0.0
        for together in range(1, count + 1):
            # The last ones first: the very first has other settings of the allocator.
            running = held[count - together :]
            rates = [future.result() for future in [each.call("steps", seconds) for each in running]]
            alone = alone or rates[0]
            yield Row(name=f"steps a second, {together} process(es)", value=sum(rates), unit="1/s")
            if together == 2 and bench.device.is_cuda:
                yield at_least("  two processes to one", sum(rates) / alone, 1.5, "x", note="without MPS")
        (rate,) = [future.result() for future in [held[0].call("steps", seconds)]]
        yield Row(name="steps a second, 1 process, expandable segments", value=rate, unit="1/s")
        figures = held[0].call("mixed_jobs").result()
    yield from _figures(bench, figures, ", expandable segments")
