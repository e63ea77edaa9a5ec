"""One optimizer step, done again from its start with fewer photos at a time when memory runs out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from diffusers.optimization import get_scheduler
from torch import Tensor, nn

from trainer.adapters.adapter import Adapter
from trainer.config import TrainingConfig
from trainer.job.memory import MicroBatch
from trainer.job.optimizer import make_optimizer
from trainer.job.ranks import Ranks
from trainer.models.base_model import Part
from trainer.out_of_memory import OutOfMemoryGuard

ELSEWHERE = "in another process"

Backward = Callable[[int], Tensor]
"""Forward and backward of a whole step with at most so many photos at a time; the loss over this rank's photos."""


class OptimizerStep:
    """The optimizer of a job and its learning rates; its steps are the same in all ranks.

    Args:
        accelerator: of the job.
        adapter: what is trained.
        config: of the job.
        ranks: who does the step together.
        micro_batch: how many photos go through the model at a time.

    Raises:
        ValueError: the optimizer does not run on this device or is not installed.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        adapter: Adapter,
        config: TrainingConfig,
        *,
        ranks: Ranks,
        micro_batch: MicroBatch,
    ) -> None:
        self.weights = [weight for part in adapter.parts for weight in adapter.parameters(part)]
        """All that are trained."""
        self.finite = torch.ones(2, dtype=torch.bool, device=adapter.base.device)
        """On the device: whether the losses of all steps so far were finite, and the gradients."""
        self.optimizer = make_optimizer(
            config.optimizer,
            [(adapter.parameters(part), config.learning_rate_of(part)) for part in adapter.parts],
            weight_decay=config.weight_decay,
            device=adapter.base.device,
        )
        """The plain one; accelerate's wrapper steps it, scaled where it must be."""
        # Accelerate's scheduler wrapper would step once per process, the plain one steps once per optimizer step.
        self.lr_scheduler = get_scheduler(
            "constant_with_warmup" if config.lr_scheduler == "constant" else config.lr_scheduler,
            self.optimizer,
            num_warmup_steps=config.lr_warmup_steps,
            num_training_steps=config.steps,
            num_cycles=config.lr_cycles,
        )
        self._adapter = adapter
        self._accelerator = accelerator
        self._prepared = accelerator.prepare_optimizer(self.optimizer, device_placement=False)
        self._ranks = ranks
        self._config = config
        self._micro_batch = micro_batch

    def begin(self, step: int) -> dict[str, float]:
        """Prepares optimizer step `step`, from 0: the rates that it uses, by part of the adapter.

        A part that has taken its last step has the rate 0 and gets no gradients.
        """
        rates = zip(self._adapter.parts, self.lr_scheduler.get_last_lr(), strict=True)
        return {str(part): float(rate) if self._learns(part, step) else 0.0 for part, rate in rates}

    def do(self, number: int, backward: Backward) -> Tensor:
        """Does step `number`, from 1, whole; its loss over all ranks.

        Raises:
            OutOfMemory: not even one photo at a time fits.
        """
        # Accelerate keeps this number in state of the whole process, which another job may have changed since.
        self._accelerator.gradient_accumulation_steps = self._config.gradient_accumulation_steps
        while True:
            start = StepStart(self._accelerator, self.optimizer, self.weights)
            loss, reason = self._attempt(start, backward)
            if loss is not None:
                self.lr_scheduler.step()
                return loss
            start.undo()
            self._micro_batch.shrink(number, reason)

    def _learns(self, part: Part, step: int) -> bool:
        learns = self._config.trains_at(part, step)
        for weight in self._adapter.parameters(part) if self._config.text_encoder_steps is not None else ():
            weight.requires_grad_(learns)
        return learns

    def _attempt(self, start: "StepStart", backward: Backward) -> tuple[Tensor | None, str]:
        """The loss; or None and a reason if memory ran out in some rank, which all of them then know.

        No rank waits for another except to agree, and to average gradients when all have theirs.
        """
        with OutOfMemoryGuard() as guard:
            gathered = self._ranks.gather(self.weights, backward(self._micro_batch.size))
        if self._ranks.any(bool(guard)):
            return None, guard.reason or ELSEWHERE
        loss = self._ranks.average(self.weights, gathered)
        with OutOfMemoryGuard() as guard:
            # Fused AdamW allocates nothing but its first moments; yet a rank may have to undo a step that failed in
            # another.
            start.keep(copies=self._ranks.count > 1 or self._config.optimizer != "adamw")
            norm = self._accelerator.clip_grad_norm_(self.weights, self._config.max_grad_norm)
            self._prepared.step()
        if self._ranks.any(bool(guard)):
            return None, guard.reason or ELSEWHERE
        self._prepared.zero_grad()
        # A scaler leaves out a step whose gradients are not finite.
        self.finite &= torch.stack([loss, norm if self._accelerator.scaler is None else loss]).isfinite()
        return loss, ""


class StepStart:
    """The state of a job between two optimizer steps, to begin a step again from.

    There are no gradients then and randomness is a function of (seed, step), so only counters are kept at first.
    Weights and moments are copied just before the optimizer moves them, into the memory that activations have left.

    Args:
        accelerator: of the job.
        optimizer: the plain one.
        weights: all that are trained.
    """

    def __init__(
        self, accelerator: Accelerator, optimizer: torch.optim.Optimizer, weights: Sequence[nn.Parameter]
    ) -> None:
        self._accelerator = accelerator
        self._optimizer = optimizer
        self._trained = weights
        self._counter, self._synchronises = accelerator.step, accelerator.sync_gradients
        self._weights: list[Tensor] = []
        self._moments: dict[Tensor, dict[str, Any]] | None = None
        self._groups: list[dict[str, Any]] = []
        self._scaler: dict[str, Any] | None = None
        self._with_moments: frozenset[Tensor] | None = None

    def keep(self, *, copies: bool) -> None:
        """Call before the optimizer's step.

        Args:
            copies: False for an optimizer whose step cannot fail half way once it has moments for all weights that
                have a gradient; others, such as those of a part that has taken its last step, never get any.
        """
        state = self._optimizer.state
        if copies or any(weight.grad is not None and weight not in state for weight in self._trained):
            moments = {weight: {name: _copy(value) for name, value in own.items()} for weight, own in state.items()}
            self._weights = [weight.detach().clone() for weight in self._trained]
            self._groups = [
                {name: _copy(value) for name, value in group.items() if name != "params"}
                for group in self._optimizer.param_groups
            ]
            scaler = self._accelerator.scaler
            self._scaler = scaler.state_dict() if scaler is not None else None
            self._moments = moments
        self._with_moments = frozenset(state)

    @torch.no_grad()
    def undo(self) -> None:
        """Puts everything back; the gradients are dropped."""
        self._accelerator.step = self._counter
        self._accelerator.sync_gradients = self._synchronises
        self._optimizer.zero_grad(set_to_none=True)
        scaler = self._accelerator.scaler
        if scaler is not None:
            scaler._per_optimizer_states.clear()  # else it refuses to unscale gradients a second time
        state = self._optimizer.state
        if self._with_moments is not None:
            for weight in [weight for weight in state if weight not in self._with_moments]:
                del state[weight]
        if self._moments is None:
            return
        state.update(self._moments)
        for weight, kept in zip(self._trained, self._weights, strict=True):
            weight.copy_(kept)
        for group, values in zip(self._optimizer.param_groups, self._groups, strict=True):
            group.update(values)
        if scaler is not None and self._scaler:
            scaler.load_state_dict(self._scaler)


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value
