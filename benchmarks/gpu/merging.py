"""An adapter that is added into the weights of its layers, and taken out again without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from trainer.adapters.adapter import Adapter


@contextmanager
def merged(adapter: Adapter) -> Iterator[None]:
    """Within it the base's own layers compute W + scale B A; then their weights are put back from a copy.

    PEFT's own way back, W + scale B A - scale B A, does not give the same bits in 16-bit formats.
    """
    layers: list[Any] = [
        module
        for part in adapter.parts
        for module in adapter.base.module(part).modules()
        if isinstance(module, BaseTunerLayer)
    ]
    with torch.no_grad():
        before = [layer.get_base_layer().weight.detach().clone() for layer in layers]
        try:
            for layer in layers:
                layer.merge()
            yield
        finally:
            for layer, weight in zip(layers, before, strict=True):
                layer.merged_adapters.clear()
                layer.get_base_layer().weight.copy_(weight)
