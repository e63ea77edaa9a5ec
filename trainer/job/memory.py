"""Training with little memory: how many photos go through the model at a time, and the most that was held."""

import torch

from trainer.config import TrainingConfig
from trainer.out_of_memory import OutOfMemory, free_memory, half


class StepOutOfMemory(OutOfMemory):
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
            StepOutOfMemory: it is one photo at a time already.
        """
        if self.size == 1:
            raise StepOutOfMemory(step, reason, self._config)
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
