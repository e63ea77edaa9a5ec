"""Models and optimizers that run out of memory, by allocators that refuse more than so many photos at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 1.00 GiB"


def lack() -> None:
    raise torch.OutOfMemoryError(MESSAGE)


@contextmanager
def forward_holds(base: BaseModel, most: int) -> Iterator[None]:
    """Within it a training forward pass of more than `most` photos runs out of memory."""

    def check(module: Any, arguments: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled() and len(arguments[0]) > most:
            lack()

    hook = base.denoiser.register_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def backward_holds(base: BaseModel, most: int) -> Iterator[None]:
    """Within it the backward pass of more than `most` photos runs out of memory half way."""

    def check(module: Any, arguments: tuple[Any, ...], output: Tensor) -> None:
        def fail(gradient: Tensor) -> None:
            if len(gradient) > most:
                lack()

        if torch.is_grad_enabled():
            output.register_hook(fail)  # type: ignore[no-untyped-call]

    hook = base.denoiser.mid_block.register_forward_hook(check)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def optimizer_holds(job: TrainingJob, most: int) -> Iterator[None]:
    """Within it the optimizer runs out of memory after its step, while more than `most` photos are trained at once."""

    def check(*arguments: Any) -> None:
        if job.micro_batch > most:
            lack()

    hook = job._optimizer_step.optimizer.register_step_post_hook(check)
    try:
        yield
    finally:
        hook.remove()
