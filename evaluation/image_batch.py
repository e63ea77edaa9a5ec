"""How many images are made at once: as many as configured, fewer where memory would not hold them."""

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size  # type: ignore[import-untyped]

Item = TypeVar("Item")


class MemoryCount(Protocol):
    """Counts the bytes that tensors hold on one device."""

    def begin(self) -> int:
        """Bytes held now; the peak is looked for from here on."""

    def peak(self) -> int:
        """The most bytes held at any moment since `begin`."""


class CudaMemory:
    """The count of CUDA's allocator.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def begin(self) -> int:
        """See `MemoryCount`."""
        torch.cuda.reset_peak_memory_stats(self._device)
        return torch.cuda.memory_allocated(self._device)

    def peak(self) -> int:
        """See `MemoryCount`."""
        return torch.cuda.max_memory_allocated(self._device)


class ImageBatch:
    """The size of the batches in which one job makes its images. It changes speed and memory, not the images.

    It starts as configured, and is halved for good whenever memory runs out. Where memory is counted and a budget is
    set (what training has held at its peak, say), it starts with one image and grows as far as the budget is sure to
    last: with twice the images every tensor is at most twice as large, so if b images took m bytes beyond what was held
    before, b * room / m of them stay within the room.

    Args:
        most: images at once as configured, at least 1.
        memory: counts bytes; None where nobody does, as on a CPU.
    """

    def __init__(self, most: int, memory: MemoryCount | None = None) -> None:
        self.size = most
        self.remarks: list[str] = []
        """What a user should know of it."""
        self._most = most
        self._memory = memory
        self._budget: int | None = None

    def stay_within(self, budget: int | None) -> None:
        """Make images without holding more than `budget` bytes at any moment, if one image at a time can; None: without
        such a limit."""
        if self._memory is None or budget is None:
            return
        if self._budget is None:
            self.size = 1
        self._budget = budget

    def make(self, count: int, draw: Callable[[int, int], list[Item]]) -> list[Item]:
        """All `count` images, in order.

        Args:
            count: how many.
            draw: makes the images from the first number up to the second, without it; called again, with fewer, where
                it ran out of memory.

        Raises:
            ValueError: not even one image fits into memory.
        """
        made: list[Item] = []
        while len(made) < count:
            stop = min(len(made) + self.size, count)
            lack = ""
            try:
                made += self._drawn(len(made), stop, draw)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                lack = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
            # Only here, where the error and what it held is gone.
            if lack:
                self._halve(stop - len(made), lack)
        return made

    def _drawn(self, start: int, stop: int, draw: Callable[[int, int], list[Item]]) -> list[Item]:
        if self._memory is None or self._budget is None:
            return draw(start, stop)
        held, count = self._memory.begin(), stop - start
        images = draw(start, stop)
        taken = max(self._memory.peak() - held, 1)
        fitting = max(count * (self._budget - held) // taken, 1)
        if fitting < count:
            self.size = fitting
        else:
            self.size = min(max(self.size, fitting), self._most)
        return images

    def _halve(self, failed: int, reason: str) -> None:
        if failed == 1:
            raise ValueError(
                f"out of memory with a single image at a time ({reason}); lower evaluation.generation.resolution, or "
                "let fewer seats share a GPU (seats.count, seats.gpus_per_worker)"
            )
        self.size = self._most = (failed + 1) // 2
        self.remarks.append(f"out of memory with {failed} images at once: from there on {self.size} at a time")
        clear_device_cache(garbage_collection=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator, of the device or of the CPU, had not enough: PyTorch's own error, or by accelerate's list
    of messages."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(should_reduce_batch_size(error))
