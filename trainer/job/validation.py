"""The validation loss: the denoising loss on photos that are not trained on."""

import torch
from torch import Tensor

from trainer.data.bucketed_cache import BucketedCache
from trainer.job.objective import Objective, Predict
from trainer.out_of_memory import OutOfMemoryGuard, free_memory, half

SEED = 0
TIMESTEPS = 8
"""Timesteps of each photo."""
ROWS = 8
"""Rows of one forward pass at most."""
ROWS_A_PHOTO = 2
"""Without gradients two rows take less memory than one with gradients."""


def validation_loss(
    objective: Objective, predict: Predict, reference: BucketedCache, *, micro_batch: int, device: torch.device
) -> float:
    """Unweighted denoising loss; lower is better.

    Noise and timesteps are fixed, eight a photo spread evenly over the noise schedule, and the same in every job, so
    values of different jobs and steps compare. Where memory runs out, fewer rows go through the model at a time, which
    changes rounding only.

    Args:
        objective: of the job.
        predict: asks the model, which is in evaluation mode.
        reference: the encoded photos.
        micro_batch: photos that a forward pass of the training has room for.
        device: of the model.

    Raises:
        torch.OutOfMemoryError: not even one row at a time fits.
    """
    size = min(ROWS, ROWS_A_PHOTO * micro_batch)
    while True:
        loss = None
        with OutOfMemoryGuard() as guard:
            loss = _loss(objective, predict, reference, size, device)
        if loss is not None:
            return loss
        if size == 1:
            raise torch.OutOfMemoryError(f"out of memory with one row at a time in validation ({guard.reason})")
        size = half(size)
        free_memory()


def _loss(objective: Objective, predict: Predict, reference: BucketedCache, size: int, device: torch.device) -> float:
    count = len(reference) * TIMESTEPS
    generator = torch.Generator().manual_seed(SEED)
    order = torch.arange(count, device=device).view(TIMESTEPS, len(reference))
    spread = (order * objective.timesteps + objective.timesteps // 2) // count
    losses: list[Tensor] = []
    first = 0
    for cache in reference.buckets:
        own_spread = spread[:, first : first + len(cache)].flatten()
        first += len(cache)
        # Only the rows at hand are made and go to the device: all of them take more memory than a training step. Their
        # noise is drawn row by row, so that it does not depend on how many are at hand.
        for rows in torch.split(torch.arange(len(own_spread)), size):
            part = cache.rows(rows % len(cache), device)
            noise = torch.stack([torch.randn(cache.latent_shape, generator=generator) for _ in rows]).to(device)
            timesteps = own_spread[rows.to(device)]
            at = torch.arange(len(part), device=device)
            losses.append(
                objective.loss(predict, part, at, part.latent_mean, noise, timesteps, weighted=False) * len(rows)
            )
    return float(torch.stack(losses).sum() / count)
