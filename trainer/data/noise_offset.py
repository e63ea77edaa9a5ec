"""Noise with an offset of its own in every channel, so that a model learns pictures brighter and darker than usual."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from trainer.data.batches import StepDraw, stream_seed


def offset_noise(draws: Sequence[StepDraw], amount: float, *, seed: int, step: int) -> tuple[StepDraw, ...]:
    """`draws` with noise + amount * delta, delta standard normal and the same all over a channel of a photo's noise.

    (Guttenberg 2023, https://www.crosslabs.org/blog/diffusion-with-offset-noise.) A function of seed and step, from a
    stream of its own: everything else about the draw stays as it is.

    Args:
        draws: of the forward passes of the step.
        amount: at least 0; 0 changes nothing, 0.05 to 0.1 are usual.
        seed: of the job.
        step: from 0.
    """
    if amount == 0:
        return tuple(draws)
    generator = torch.Generator().manual_seed(stream_seed(seed, "noise offset", step))
    counts = [len(draw.noise) for draw in draws]
    delta = torch.randn((sum(counts), draws[0].noise.shape[1], 1, 1), generator=generator)
    return tuple(
        replace(draw, noise=draw.noise + amount * of_pass)
        for draw, of_pass in zip(draws, torch.split(delta, counts), strict=True)
    )
