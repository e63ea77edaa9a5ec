"""The optimizers that a job may choose, and their exact state as plain tensors and numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from prodigyopt import Prodigy
from torch import Tensor, nn
from transformers.optimization import Adafactor

from trainer.config import OptimizerName


@dataclass(frozen=True, eq=False, kw_only=True)
class OptimizerState:
    """All that an optimizer remembers between steps, by the names of the weights."""

    tensors: dict[str, Tensor]
    """On the CPU, under `weight name.moment`."""
    numbers: dict[str, dict[str, float]]
    """Per weight, for optimizers that count steps in plain numbers."""
    groups: list[dict[str, Any]]
    """Per group of weights: learning rate, betas, and what the method estimates for all of them together."""


def make_optimizer(
    name: OptimizerName,
    weights: Sequence[tuple[Sequence[nn.Parameter], float]],
    *,
    weight_decay: float,
    device: torch.device,
) -> torch.optim.Optimizer:
    """An optimizer over groups of weights, each with its learning rate.

    - "adamw": AdamW (Loshchilov and Hutter 2017, https://arxiv.org/abs/1711.05101) as one fused operation.
    - "adamw_8bit": the same with moments in blocks of 8 bits (Dettmers et al. 2021, https://arxiv.org/abs/2110.02861).
    - "adafactor": rows and columns of the second moment only (Shazeer and Stern 2018, https://arxiv.org/abs/1804.04235),
      at the given rate: no relative steps, no scaling by the weights' size, updates clipped at a root mean square of 1.
    - "prodigy": estimates the step size (Mishchenko and Defazio 2023, https://arxiv.org/abs/2306.06101), which the rate
      only multiplies; with Adam's bias correction, safe under warm-up. It reads two numbers a weight from the device.

    Args:
        name: which one.
        weights: groups of weights; Prodigy estimates one step size over all of them.
        weight_decay: decoupled, at least 0.
        device: that the weights are on.

    Raises:
        ValueError: the optimizer does not run on this device or is not installed.
    """
    groups: list[dict[str, Any]] = [{"params": list(group), "lr": rate} for group, rate in weights]
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=weight_decay, fused=True)
        case "adamw_8bit":
            return _adamw_8bit(groups, weight_decay, device)
        case "adafactor":
            return Adafactor(  # type: ignore[no-untyped-call]
                groups,
                lr=groups[0]["lr"],
                scale_parameter=False,
                relative_step=False,
                warmup_init=False,
                clip_threshold=1.0,
                weight_decay=weight_decay,
            )
        case "prodigy":
            # Told for the whole of the optimizer, it prints a line about the decay.
            decayed = [{**group, "weight_decay": weight_decay} for group in groups]
            prodigy: torch.optim.Optimizer = Prodigy(
                decayed, decouple=True, use_bias_correction=True, safeguard_warmup=True
            )
            return prodigy


def read_state(optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter]) -> OptimizerState:
    """A copy of the state of `optimizer`, whose weights are known by the names in `weights`."""
    held = {name: optimizer.state[weight] for name, weight in weights.items() if weight in optimizer.state}
    return OptimizerState(
        tensors={
            f"{name}.{moment}": value.detach().cpu().contiguous()
            for name, state in held.items()
            for moment, value in state.items()
            if isinstance(value, Tensor)
        },
        numbers={
            name: numbers
            for name, state in held.items()
            if (numbers := {moment: value for moment, value in state.items() if not isinstance(value, Tensor)})
        },
        groups=[{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups],
    )


def write_state(optimizer: torch.optim.Optimizer, weights: Mapping[str, nn.Parameter], state: OptimizerState) -> None:
    """Puts a state that `read_state` gave (lists for its tuples will do) into an optimizer of the same making."""
    moments: dict[torch.Tensor, dict[str, Any]] = {
        weights[name]: dict(numbers) for name, numbers in state.numbers.items()
    }
    for key, value in state.tensors.items():
        name, moment = key.rsplit(".", 1)
        # AdamW keeps its step count in float32 on the CPU unless fused on a GPU; either way beside the moments.
        moments.setdefault(weights[name], {})[moment] = value.to(weights[name].device)
    # What can fail, such as finding room on the device, is done.
    optimizer.state.clear()
    optimizer.state.update(moments)
    for group, saved in zip(optimizer.param_groups, state.groups, strict=True):
        group.update({name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()})


def _adamw_8bit(groups: list[dict[str, Any]], weight_decay: float, device: torch.device) -> torch.optim.Optimizer:
    if device.type != "cuda":
        raise ValueError(f"optimizer is 'adamw_8bit', which needs a CUDA device, not {device}; choose 'adamw'")
    try:
        from bitsandbytes.optim import AdamW8bit  # an extra that only a GPU has a use for
    except ImportError as error:
        raise ValueError(
            "optimizer is 'adamw_8bit', which needs bitsandbytes; install likeness[gpu] or choose 'adamw'"
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(groups, weight_decay=weight_decay)
    return optimizer
