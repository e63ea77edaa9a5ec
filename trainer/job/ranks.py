"""The processes (ranks) of one worker, which train a job together: what they average and what they agree on."""

from collections.abc import Sequence

import torch
import torch.distributed
from torch import Tensor, nn


class Ranks:
    """All processes of the initialised torch.distributed group; without one, this process alone.

    The group has to serve tensors on the CPU, too: by gloo alone, or on GPUs by "cpu:gloo,cuda:nccl".
    """

    def __init__(self) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.count = torch.distributed.get_world_size() if distributed else 1
        self.rank = torch.distributed.get_rank() if distributed else 0
        """Number of this process, from 0."""

    def share_of(self, batch_size: int) -> int:
        """How many photos of a forward pass are this process's.

        Raises:
            ValueError: they cannot be shared evenly.
        """
        if batch_size % self.count:
            raise ValueError(
                f"batch_size is {batch_size}, which {self.count} processes cannot share evenly; "
                f"make it a multiple of {self.count}"
            )
        return batch_size // self.count

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in some process; each must ask."""
        if self.count == 1:
            return flag
        # On the CPU, where only the processes meet: agreeing on the device would make every step wait for it.
        raised = torch.tensor(int(flag))
        torch.distributed.all_reduce(raised, op=torch.distributed.ReduceOp.MAX)
        return bool(raised)

    def gather(self, weights: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Float32[all gradients + 1] to hand to `average`; a process alone has nothing to share but the loss.

        It is apart from `average` because it allocates: what may fail comes before the processes wait for each other.
        """
        gradients = [weight.grad.flatten() for weight in weights if weight.grad is not None] if self.count > 1 else []
        return torch.cat([*gradients, loss.view(1)])

    def average(self, weights: Sequence[nn.Parameter], gathered: Tensor) -> Tensor:
        """Averages all gradients in place and returns the averaged loss: every process sees the same divergence."""
        if self.count == 1:
            return gathered[-1]
        torch.distributed.all_reduce(gathered)
        gathered /= self.count
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        parts = torch.split(gathered, [*(gradient.numel() for gradient in gradients), 1])
        for gradient, averaged in zip(gradients, parts, strict=False):
            gradient.copy_(averaged.view_as(gradient))
        return gathered[-1]
