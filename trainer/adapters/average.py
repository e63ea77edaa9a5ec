"""The running average of an adapter's weights, which is what is evaluated and exported where a job keeps one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """An exponential moving average beside live weights, with which it can change places.

    After optimizer step s the average moves towards the weights by 1 - min(decay, s / (9 + s)): early on it forgets the
    start values fast. The first step copies.

    Args:
        weights: the live weights by name.
        decay: in (0, 1); 0.999 remembers about the last thousand steps.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], decay: float) -> None:
        self._weights = dict(weights)
        self._aside = {name: weight.detach().clone() for name, weight in weights.items()}
        self._decay = decay
        self._applied = False

    @property
    def trained(self) -> Mapping[str, Tensor]:
        """The weights that the optimizer moves, whichever are in place."""
        return self._aside if self._applied else self._weights

    @property
    def average(self) -> Mapping[str, Tensor]:
        """The averaged weights, whichever are in place."""
        return self._weights if self._applied else self._aside

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after optimizer step `step`, from 1."""
        decay = min(self._decay, step / (9 + step)) if step > 1 else 0.0
        for name, average in self._aside.items():
            average.lerp_(self._weights[name], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the model computes with the average; further calls inside change nothing."""
        if self._applied:
            yield
            return
        self._exchange()
        self._applied = True
        try:
            yield
        finally:
            self._exchange()
            self._applied = False

    @torch.no_grad()
    def restore(self, trained: Mapping[str, Tensor]) -> None:
        """The weights now in place become the average, and `trained` takes their place.

        Raises:
            ValueError: names or shapes differ.
        """
        shapes = {name: weight.shape for name, weight in self._weights.items()}
        if {name: weight.shape for name, weight in trained.items()} != shapes:
            raise ValueError("the trained weights do not fit the adapter's; use another checkpoint")
        for name, weight in self._weights.items():
            self._aside[name].copy_(weight)
            weight.copy_(trained[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, weight in self._weights.items():
            kept = weight.clone()
            weight.copy_(self._aside[name])
            self._aside[name].copy_(kept)
