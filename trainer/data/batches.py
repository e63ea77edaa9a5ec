"""Which photos, timesteps and noise each optimizer step sees.

All of it is a function of (seed, step), so a training resumes without any state of a random generator.
"""

import hashlib
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from trainer.config import TrainingConfig
from trainer.data.views import Views


@dataclass(frozen=True, kw_only=True)
class BucketShape:
    """What a draw needs to know of the photos of one size."""

    photos: int
    """At least 1; each counts once however many forms of it there are."""
    latent_shape: tuple[int, int, int]
    """Channels, height, width."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StepDraw:
    """Everything random about one forward pass of a step, on the CPU. Legend: count = its photos, over all ranks."""

    bucket: int
    """Number of the bucket that all its photos belong to, from 0."""
    indices: Tensor
    """Int64[count], photos of the bucket; after `with_forms` rows of its data cache."""
    timesteps: Tensor
    """Int64[count], uniform over the length of the noise schedule; which of its timesteps each stands for says
    `trainer.job.loss.NoiseSchedule.density`."""
    latent_noise: Tensor
    """Float32[count, channels, height, width], standard normal: the sample of the VAE's posterior."""
    noise: Tensor
    """Float32[count, channels, height, width], standard normal: what the denoiser is to remove."""

    def __len__(self) -> int:
        return len(self.indices)


def batch_indices(seed: int, number: int, sizes: Sequence[int], batch_size: int) -> tuple[int, Tensor]:
    """The `number`-th batch (from 0): its bucket and Int64[batch_size] photos of it, each in 0 ... sizes[bucket] - 1.

    The photos of all buckets together come in one endless sequence of shuffled epochs, whose order depends on (seed,
    epoch) only. Each waits until `batch_size` photos of its bucket have come; these are then the next batch. So every
    photo comes once an epoch and every batch is full: photos that do not fill a batch wait for those of the next epoch,
    none is left out and none comes more often for it. A bucket of fewer photos than a batch fills one every few epochs,
    with some of them twice in it. Where there is one bucket, its batches cut the sequence into pieces.

    Args:
        seed: of the job.
        number: from 0.
        sizes: photos of each bucket, at least 1.
        batch_size: photos of a batch.
    """
    photos = sum(sizes)

    def filled(epochs: int) -> int:
        return sum(epochs * size // batch_size for size in sizes)

    # Whole epochs are counted, not walked through: the batch fills up in the one before which no more are full.
    beyond = (number + 1 + len(sizes)) * batch_size // photos + 1
    epoch = bisect_right(range(beyond + 1), number, key=filled) - 1
    full = [epoch * size // batch_size for size in sizes]
    waiting = [epoch * size % batch_size for size in sizes]
    bucket = 0
    for bucket in _epoch_order(seed, epoch, tuple(sizes)).buckets:
        waiting[bucket] += 1
        if waiting[bucket] == batch_size:
            if sum(full) == number:
                break
            full[bucket] += 1
            waiting[bucket] = 0
    size, first = sizes[bucket], full[bucket] * batch_size
    positions = range(first, first + batch_size)
    orders = [_epoch_order(seed, at // size, tuple(sizes)).photos[bucket] for at in positions]
    return bucket, torch.tensor([order[at % size] for order, at in zip(orders, positions, strict=True)])


def draw_passes(
    seed: int, step: int, *, buckets: Sequence[BucketShape], batch_size: int, passes: int, timesteps: int
) -> tuple[StepDraw, ...]:
    """The draws of the forward passes of optimizer step `step` (from 0), each of photos of one bucket.

    Args:
        seed: of the job.
        step: from 0.
        buckets: of the data, at least one.
        batch_size: photos of a forward pass.
        passes: forward passes of the step.
        timesteps: length of the noise schedule.
    """
    generator = torch.Generator().manual_seed(stream_seed(seed, "step", step))
    sizes = [bucket.photos for bucket in buckets]
    batches = [batch_indices(seed, step * passes + number, sizes, batch_size) for number in range(passes)]
    shapes = [(batch_size, *buckets[bucket].latent_shape) for bucket, _ in batches]
    drawn = zip(
        batches,
        torch.split(torch.randint(timesteps, (passes * batch_size,), generator=generator), batch_size),
        _normal(shapes, generator),
        _normal(shapes, generator),
        strict=True,
    )
    return tuple(
        StepDraw(bucket=bucket, indices=indices, timesteps=at, latent_noise=latent_noise, noise=noise)
        for (bucket, indices), at, latent_noise, noise in drawn
    )


def with_forms(
    draws: Sequence[StepDraw], *, buckets: Sequence[BucketShape], views: Views, config: TrainingConfig, step: int
) -> tuple[StepDraw, ...]:
    """The draws of a step with rows of the buckets' data caches in the place of photos (see `rows_of_forms`)."""
    rows = rows_of_forms(
        torch.cat([draw.indices for draw in draws]),
        photos=torch.cat([torch.full_like(draw.indices, buckets[draw.bucket].photos) for draw in draws]),
        views=views,
        config=config,
        step=step,
    )
    by_pass = torch.split(rows, [len(draw.indices) for draw in draws])
    return tuple(replace(draw, indices=of_pass) for draw, of_pass in zip(draws, by_pass, strict=True))


def rows_of_forms(indices: Tensor, *, photos: int | Tensor, views: Views, config: TrainingConfig, step: int) -> Tensor:
    """Rows of the data cache that hold the photos `indices` in the forms that step `step` draws: Int64[count].

    A function of (config.seed, step), from a stream of its own: photos, timesteps and noise are what they are without.

    Args:
        indices: Int64[count].
        photos: in the data cache, or Int64[count]: in that of each index.
        views: the forms that the data cache holds.
        config: how often each form comes.
        step: from 0.
    """
    generator = torch.Generator().manual_seed(stream_seed(config.seed, "views", step))
    flip, shuffle, order, drop = torch.rand((4, len(indices)), generator=generator)
    other = 1 + (order * (views.tag_orders - 1)).long()  # never the written order, which is number 0
    caption = torch.where(shuffle < config.caption_shuffle, other, 0)
    caption = torch.where(drop < config.caption_dropout, views.tag_orders, caption)
    form = (flip < config.horizontal_flip) * views.captions + caption
    rows: Tensor = form * photos + indices
    return rows


def offset_noise(draws: Sequence[StepDraw], amount: float, *, seed: int, step: int) -> tuple[StepDraw, ...]:
    """`draws` with noise + amount * delta, so that a model learns pictures brighter and darker than usual.

    delta is standard normal and the same all over a channel of a photo's noise (Guttenberg 2023,
    https://www.crosslabs.org/blog/diffusion-with-offset-noise). A function of (seed, step), from a stream of its own:
    everything else about the draw stays as it is.

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


def stream_seed(seed: int, stream: str, index: int) -> int:
    """Seed in 0 ... 2**63 - 1 of the `index`-th generator of a named stream; independent for different arguments."""
    digest = hashlib.sha256(f"{seed}/{stream}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, kw_only=True)
class _EpochOrder:
    """The order in which an epoch's photos come."""

    buckets: tuple[int, ...]
    """The bucket of each."""
    photos: tuple[tuple[int, ...], ...]
    """By bucket: its photos, numbered from 0."""


@lru_cache(maxsize=8)
def _epoch_order(seed: int, epoch: int, sizes: tuple[int, ...]) -> _EpochOrder:
    generator = torch.Generator().manual_seed(stream_seed(seed, "epoch", epoch))
    # Photos are numbered through all buckets.
    ends = list(accumulate(sizes))
    order = torch.randperm(ends[-1], generator=generator).tolist()
    buckets = tuple(bisect_right(ends, photo) for photo in order)
    photos: list[list[int]] = [[] for _ in sizes]
    for photo, bucket in zip(order, buckets, strict=True):
        photos[bucket].append(photo - ends[bucket] + sizes[bucket])
    return _EpochOrder(buckets=buckets, photos=tuple(map(tuple, photos)))


def _normal(shapes: Sequence[tuple[int, ...]], generator: torch.Generator) -> list[Tensor]:
    """Standard normal tensors; those of one shape hold what one draw of all of them would."""
    counts = [math.prod(shape) for shape in shapes]
    numbers = torch.split(torch.randn(sum(counts), generator=generator), counts)
    return [of_shape.view(shape) for of_shape, shape in zip(numbers, shapes, strict=True)]
