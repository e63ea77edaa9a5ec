"""What an optimizer step must find as it was, if it is to be done again from its start."""

from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from torch import Tensor, nn


class StepStart:
    """The state of a job between two optimizer steps.

    Gradients are none then and randomness is a function of (seed, step), so only counters are kept at first. Weights
    and moments are copied just before the optimizer moves them, into the room that activations have left.

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
            copies: False for an optimizer whose step cannot fail half way once it has moments for all weights.
        """
        state = self._optimizer.state
        if copies or len(state) < len(self._trained):
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
