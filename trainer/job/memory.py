"""Running out of memory: how it is noticed, what is freed, and what the user is told."""

from types import TracebackType
from typing import Self

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size  # type: ignore[import-untyped]

from trainer.config import TrainingConfig

REASON_LENGTH = 160


class OutOfMemory(RuntimeError):  # noqa: N818 - a state of the job, as much as an error
    """Not even one photo at a time fits into memory; the job cannot continue. All ranks of a job raise it together."""

    def __init__(self, step: int, reason: str, config: TrainingConfig) -> None:
        checkpointing = [] if config.gradient_checkpointing else ["set training.gradient_checkpointing to true"]
        remedies = [
            *checkpointing,
            f"lower training.resolution ({config.resolution}) or rank ({config.rank})",
            "let fewer seats share a GPU (seats.count, seats.gpus_per_worker)",
        ]
        super().__init__(
            f"out of memory at step {step} with a single photo in a forward pass ({reason}); {', or '.join(remedies)}"
        )
        self.step = step


class OutOfMemoryGuard:
    """A block that may run out of memory: that error is caught and noted, every other error goes through.

    The error is let go at once, for its traceback holds all that the block had allocated. The guard is true in a
    condition if memory ran out.
    """

    def __init__(self) -> None:
        self.reason = ""
        """First line of the allocator's message; empty if there was enough memory."""

    def __bool__(self) -> bool:
        return bool(self.reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None or not is_out_of_memory(error):
            return False
        self.reason = (str(error).strip() or type(error).__name__).splitlines()[0][:REASON_LENGTH]
        return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator of the device or the CPU had not enough memory.

    By PyTorch's own error, or by accelerate's list of messages.
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or bool(should_reduce_batch_size(error))


def free_memory() -> None:
    """Frees what nothing holds any more, the allocator's own reserve included; waits for the device."""
    clear_device_cache(garbage_collection=True)


def half(size: int) -> int:
    """Half of a number of photos, rounded up: 3 is halved to 2, 2 to 1."""
    return (size + 1) // 2


class MicroBatch:
    """How many photos go through the model at a time, on this rank; it only ever shrinks.

    Args:
        size: at the start, at least 1.
        config: of the job, for the remedies in messages.
    """

    def __init__(self, size: int, config: TrainingConfig) -> None:
        if size < 1:
            raise ValueError(f"micro_batch is {size}; at least one photo goes through the model at a time")
        self.size = size
        self.remarks: list[str] = []
        """What a user should know of it."""
        self._config = config

    def shrink(self, step: int, reason: str) -> None:
        """Memory ran out in optimizer step `step`: half as many from here on.

        Raises:
            OutOfMemory: it is one photo at a time already.
        """
        if self.size == 1:
            raise OutOfMemory(step, reason, self._config)
        before, self.size = self.size, half(self.size)
        self.remarks.append(
            f"out of memory at step {step} with {before} photos in a forward pass: "
            f"from there on {self.size} at a time, gradients accumulated"
        )
        free_memory()


class PeakMemory:
    """The most that the tensors of this process have held on a device while a job trained.

    Args:
        device: only CUDA's allocator counts; elsewhere nothing is known.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None
        self._bytes = 0

    def begin(self) -> None:
        """Training begins, or continues after something else."""
        if self._device is not None:
            torch.cuda.reset_peak_memory_stats(self._device)

    def pause(self) -> None:
        """What follows is not training."""
        if self._device is not None:
            self._bytes = max(self._bytes, torch.cuda.max_memory_allocated(self._device))

    @property
    def bytes(self) -> int | None:
        """Until the last pause; None if nothing is known."""
        return self._bytes or None
