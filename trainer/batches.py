"""Which photos, timesteps and noise each optimizer step sees: functions of (seed, step), resumable without state."""

import hashlib
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor

from trainer.config import TrainingConfig
from trainer.views import Views


@dataclass(frozen=True, eq=False, kw_only=True)
class StepDraw:
    """Everything random about one optimizer step, on the CPU. Legend: count = photos of the step, over all workers."""

    indices: Tensor
    """Int64[count], photos of the data cache, or their rows once it is known in which form each is shown."""
    timesteps: Tensor
    """Int64[count], uniform over the noise schedule."""
    latent_noise: Tensor
    """Float32[count, channels, height, width], standard normal: the sample of the VAE's posterior."""
    noise: Tensor
    """Float32[count, channels, height, width], standard normal: what the UNet is to remove."""

    def __len__(self) -> int:
        return len(self.indices)

    def split(self, size: int) -> "list[StepDraw]":
        """In order, `size` photos each, the last with what is left; nothing is copied."""
        parts = zip(*(torch.split(getattr(self, field.name), size) for field in fields(self)), strict=True)
        names = [field.name for field in fields(self)]
        return [StepDraw(**dict(zip(names, part, strict=True))) for part in parts]


def batch_indices(seed: int, step: int, photos: int, batch_size: int) -> Tensor:
    """Photos of step `step` (from 0): Int64[batch_size], each in 0 ... photos - 1.

    The steps walk through one endless sequence of shuffled epochs, so every photo comes once before any comes twice; an
    epoch's order depends on (seed, epoch) only. A batch may span epochs.
    """
    first = step * batch_size
    positions = range(first, first + batch_size)
    return torch.tensor([_epoch_order(seed, at // photos, photos)[at % photos] for at in positions])


def draw_step(
    seed: int, step: int, *, photos: int, count: int, latent_shape: tuple[int, int, int], timesteps: int
) -> StepDraw:
    """The draw of optimizer step `step` (from 0).

    Args:
        seed: of the job.
        step: from 0.
        photos: number of photos in the data cache.
        count: photos of this step.
        latent_shape: channels, height, width of a latent.
        timesteps: length of the noise schedule.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, "step", step))
    shape = (count, *latent_shape)
    return StepDraw(
        indices=batch_indices(seed, step, photos, count),
        timesteps=torch.randint(timesteps, (count,), generator=generator),
        latent_noise=torch.randn(shape, generator=generator),
        noise=torch.randn(shape, generator=generator),
    )


def shown_rows(indices: Tensor, *, photos: int, views: Views, config: TrainingConfig, step: int) -> Tensor:
    """Rows of the data cache in which step `step` shows the photos `indices`: Int64[count], as `indices` is.

    A function of (config.seed, step), from a stream of its own: photos, timesteps and noise are what they are without.
    """
    generator = torch.Generator().manual_seed(stream_seed(config.seed, "views", step))
    flip, shuffle, order, drop = torch.rand((4, len(indices)), generator=generator)
    caption = torch.where(shuffle < config.caption_shuffle, (order * views.tag_orders).long(), 0)
    caption = torch.where(drop < config.caption_dropout, views.tag_orders, caption)
    form = (flip < config.horizontal_flip) * views.captions + caption
    rows: Tensor = form * photos + indices
    return rows


def stream_seed(seed: int, stream: str, index: int) -> int:
    """Seed in 0 ... 2**63 - 1 of the `index`-th generator of a named stream; independent for different arguments."""
    digest = hashlib.sha256(f"{seed}/{stream}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@lru_cache(maxsize=8)
def _epoch_order(seed: int, epoch: int, photos: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(stream_seed(seed, "epoch", epoch))
    return tuple(torch.randperm(photos, generator=generator).tolist())
