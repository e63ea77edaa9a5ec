"""One optimizer step, done again from its start with fewer photos at a time when memory runs out."""

from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor, nn

from trainer.config import TrainingConfig
from trainer.job.memory import MicroBatch, Shortage
from trainer.job.step_start import StepStart
from trainer.job.workers import Workers

ELSEWHERE = "in another worker"

Backward = Callable[[int], Tensor]
"""Forward and backward of a whole step with at most so many photos at a time; the loss over this worker's photos."""


class OptimizerStep:
    """Gradients from a job, the same in all workers, to its optimizer.

    Args:
        accelerator: of the job, with its optimizer prepared.
        optimizer: the plain one.
        weights: all that are trained.
        workers: who does the step together.
        config: of the job.
        micro_batch: how many photos go through the model at a time.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        optimizer: torch.optim.Optimizer,
        weights: Sequence[nn.Parameter],
        *,
        workers: Workers,
        config: TrainingConfig,
        micro_batch: MicroBatch,
    ) -> None:
        self._accelerator = accelerator
        self._optimizer = optimizer
        # Of the plain one only the state is looked at: accelerate's wrapper steps it, scaled where it must be.
        self._prepared = accelerator.prepare_optimizer(optimizer, device_placement=False)
        self._weights = weights
        self._workers = workers
        self._config = config
        self._micro_batch = micro_batch

    def do(self, number: int, backward: Backward) -> Tensor:
        """Does step `number`, from 1, whole; its loss over all workers.

        Raises:
            OutOfMemory: not even one photo at a time fits.
        """
        while True:
            start = StepStart(self._accelerator, self._optimizer, self._weights)
            loss, reason = self._attempt(start, backward)
            if loss is not None:
                return loss
            start.undo()
            self._micro_batch.shrink(number, reason)

    def _attempt(self, start: StepStart, backward: Backward) -> tuple[Tensor | None, str]:
        """The loss; or None and a reason if memory ran out in some worker, which all of them then know.

        No worker waits for another but to agree, and to average gradients when all have theirs.
        """
        with Shortage() as short:
            gathered = self._workers.gather(self._weights, backward(self._micro_batch.size))
        if self._workers.any(bool(short)):
            return None, short.reason or ELSEWHERE
        loss = self._workers.average(self._weights, gathered)
        with Shortage() as short:
            # Fused AdamW allocates nothing but its first moments; yet a worker may have to undo it for another's sake.
            start.keep(copies=self._workers.count > 1 or self._config.optimizer != "adamw")
            self._accelerator.clip_grad_norm_(self._weights, self._config.max_grad_norm)
            self._prepared.step()
        if self._workers.any(bool(short)):
            return None, short.reason or ELSEWHERE
        self._prepared.zero_grad()
        return loss, ""
