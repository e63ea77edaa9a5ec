"""The device under test: how time and memory are read on it, and how little of its memory can be left."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

GB = 1e9
CHUNK = 1 << 30
"""Bytes of one piece of ballast."""
SIMULATED = "CUDA out of memory. (simulated: there is no CUDA device)"


class Device:
    """One torch device.

    Args:
        device: CUDA or the CPU. On a CPU nobody counts what tensors hold, so memory reads 0.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_cuda = device.type == "cuda"

    def wait(self) -> None:
        """Until the device has done all that was asked for."""
        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], *, repeats: int, warm_up: int = 1) -> float:
        """The median time of `work`, waited for, after `warm_up` further times."""
        for _ in range(warm_up):
            work()
        times = []
        for _ in range(repeats):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    def tidy(self) -> None:
        """Drop what nothing holds any more, the allocator's reserve included."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def allocated(self) -> int:
        """Bytes that tensors hold."""
        return torch.cuda.memory_allocated(self.device) if self.is_cuda else 0

    def reserved(self) -> int:
        """Bytes that the allocator holds."""
        return torch.cuda.memory_reserved(self.device) if self.is_cuda else 0

    def peak(self, work: Callable[[], object]) -> int:
        """The most bytes that tensors hold while `work` runs."""
        self.wait()
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        work()
        self.wait()
        return torch.cuda.max_memory_allocated(self.device) if self.is_cuda else 0

    @contextmanager
    def memory_left(self, gigabytes: float, module: nn.Module) -> Iterator[None]:
        """Within it all but so much of the device's memory is taken.

        On a CPU the same is simulated: `module` says that it is out of memory when more rows go into it at a time than
        there are gigabytes.
        """
        if not self.is_cuda:
            with _no_more_rows_than(int(gigabytes), module):
                yield
            return
        self.tidy()
        free, _ = torch.cuda.mem_get_info(self.device)
        wanted = max(int(free - gigabytes * GB), 0)
        ballast = []
        try:
            with suppress(torch.OutOfMemoryError):  # the allocator rounds up
                while wanted > 0:
                    ballast.append(torch.empty(min(wanted, CHUNK), dtype=torch.uint8, device=self.device))
                    wanted -= CHUNK
            yield
        finally:
            ballast.clear()
            self.tidy()

    @contextmanager
    def memory_cap(self, gigabytes: float) -> Iterator[None]:
        """Within it this process may not hold more than so much; nothing changes on a CPU."""
        if not self.is_cuda:
            yield
            return
        self.tidy()
        total = torch.cuda.get_device_properties(self.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(gigabytes * GB / total, 1.0), self.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)
            self.tidy()


@contextmanager
def _no_more_rows_than(rows: int, module: nn.Module) -> Iterator[None]:
    forward = module.forward

    def limited(sample: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if len(sample) > rows:
            raise torch.OutOfMemoryError(SIMULATED)
        return forward(sample, *arguments, **options)

    with patch.object(module, "forward", limited):
        yield
