"""An adapter added into the weights of its layers while images are drawn, and taken out again without a trace.

Drawn that way, images cost what the base model's do, and an adapter draws the same whether it is still in training or
was loaded from its file: there is one rounding, that of W + scale B A to the base's number format.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from trainer.adapters.adapter import ADAPTER_NAME, Adapter


@contextmanager
def drawing_weights(adapter: Adapter) -> Iterator[None]:
    """Within it the base draws with the adapter: merged where the base's format is shorter than the adapter's.

    A base in float32 is left as it is: there the adapter's layers round no worse.
    """
    if adapter.base.dtype == torch.float32:
        yield
        return
    with merged(adapter):
        yield


@contextmanager
def merged(adapter: Adapter) -> Iterator[None]:
    """Within it the base's own layers compute with the adapter's update, at the strength that is set.

    The sum is computed in float32 and rounded once, layer by layer in the weights' own memory. The weights are put back
    from a copy in main memory: PEFT's way back, W + s B A - s B A, does not give the same bits in 16-bit formats.
    """
    layers: list[Any] = [
        module
        for part in adapter.parts
        for module in adapter.base.module(part).modules()
        if isinstance(module, BaseTunerLayer)
    ]
    kept: list[tuple[Any, Tensor, Tensor]] = []
    try:
        with torch.no_grad(), _exact_products():
            for layer in layers:
                weight = layer.get_base_layer().weight
                place = weight.data
                kept.append((weight, place, place.to("cpu", copy=True)))
                weight.data = place.to(torch.float32, copy=True)
                layer.merge(adapter_names=[ADAPTER_NAME])
                place.copy_(weight.data)
                weight.data = place
        yield
    finally:
        for layer in layers:
            layer.merged_adapters.clear()
        for weight, place, original in kept:
            weight.data = place.copy_(original)


@contextmanager
def _exact_products() -> Iterator[None]:
    """Within it matrix products of float32 are not rounded to TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
