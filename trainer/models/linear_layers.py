"""CPU tuning: linear layers of frozen models, with and without LoRA, by faster operators than PyTorch and PEFT choose.

PyTorch gives matrix products in float32 to MKL, which leaves half of an AMD processor's vector width unused; oneDNN
does not, but its operator has no gradients, so they are written out here. PEFT adds a LoRA's update by operators of
their own, each with its node in the graph; here base and update are one node. What is computed is the same up to float
rounding.

On one core of that kind the layers are 2.0 times as fast at the sizes of Stable Diffusion 1.5 with 512 pixels, and a
whole step of the demo's small model, where calls cost more than what they compute, is 1.1 times as fast.

Legend: rows = all positions of all photos of a batch, rank = of the update.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLoraLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LARGE = 1 << 20
"""Multiplications of a product from which on oneDNN is the faster; below, its call costs more than it saves."""


class FrozenLinear(nn.Linear):
    """A linear layer whose weights get no gradients."""

    def forward(self, input: Tensor) -> Tensor:
        """As nn.Linear: Float[..., input features] to Float[..., output features]."""
        if _suits(input, self.weight) and input.numel() * self.out_features >= LARGE:
            answer: Tensor = _FrozenLinear.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return answer
        return super().forward(input)


class FrozenLoraLinear(PeftLoraLinear):
    """PEFT's LoRA, without dropout, on a linear layer whose weights get no gradients."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As PEFT's: W x + bias + scaling * B (A x)."""
        base: Any = self.base_layer
        if args or kwargs or self.merged or self.disable_adapters or not _suits(x, base.weight):
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        if down.dtype != torch.float32 or up.dtype != torch.float32:
            return super().forward(x)
        answer: Tensor = _FrozenLoraLinear.apply(  # type: ignore[no-untyped-call]
            x, base.weight, base.bias, down, up, self.scaling[name]
        )
        return answer


def speed_up_linear_layers(module: nn.Module) -> None:
    """Makes frozen layers of `module` those above, in place, where they are what these compute; the rest is left alone.

    Both kinds fall back to what they were for other devices and number formats and under autocast.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for layer in module.modules():
        if type(layer) is nn.Linear and not layer.weight.requires_grad:
            layer.__class__ = FrozenLinear
        elif type(layer) is PeftLoraLinear and _is_plain(layer):
            layer.__class__ = FrozenLoraLinear


def _is_plain(layer: PeftLoraLinear) -> bool:
    """Whether there is one adapter and nothing about it but A, B and a scale."""
    return (
        isinstance(layer.base_layer, nn.Linear)
        and len(layer.lora_A) == 1
        and not layer.lora_variant
        and not any(layer.lora_bias.values())
        and all(isinstance(dropout, nn.Identity) for dropout in layer.lora_dropout.values())
    )


def _suits(values: Tensor, weight: Tensor) -> bool:
    return (
        values.device.type == "cpu"
        and values.dtype == torch.float32
        and weight.dtype == torch.float32
        and not weight.requires_grad
        and not torch.is_autocast_enabled("cpu")
    )


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        context.save_for_backward(weight)
        return _one_dnn(values, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = context.saved_tensors
        return _one_dnn(gradient, weight.t()), None, None


class _FrozenLoraLinear(torch.autograd.Function):
    """With h = scaling * x A^T, y = x W^T + bias + h B^T."""

    @staticmethod
    def forward(
        context: Any, values: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scaling: float
    ) -> Tensor:
        rows = values.reshape(-1, values.shape[-1])
        inner = _product(rows, down).mul_(scaling)
        answer = _product_added(_product(rows, weight, bias), inner, up)
        context.save_for_backward(rows, weight, down, up, inner)
        context.scaling = scaling
        context.shape = values.shape
        return answer.view(*values.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, down, up, inner = context.saved_tensors
        to_values, _, _, to_down, to_up, _ = context.needs_input_grad
        by_row = gradient.reshape(-1, gradient.shape[-1])
        of_inner = _product(by_row, up.t()).mul_(context.scaling)
        of_values = None
        if to_values:
            of_values = _product_added(_product(by_row, weight.t()), of_inner, down.t()).view(context.shape)
        of_down = _product(of_inner.t(), rows.t()) if to_down else None
        of_up = _product(by_row.t(), inner.t()) if to_up else None
        return of_values, None, None, of_down, of_up, None


def _product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A new tensor: Float32[rows, input features] by Float32[output features, input features]^T, and a bias."""
    if len(rows) * weight.numel() >= LARGE:
        return _one_dnn(rows, weight, bias)
    return torch.nn.functional.linear(rows, weight, bias)


def _product_added(to: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """`to`, which is not used afterwards, and the product."""
    if len(rows) * weight.numel() >= LARGE:
        added: Tensor = torch.ops.mkldnn._linear_pointwise.binary(rows, to, weight, None, "add")
        return added
    return to.addmm_(rows, weight.t())


def _one_dnn(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    answer: Tensor = torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")
    return answer
