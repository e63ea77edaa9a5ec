"""The batches of each optimizer step on the device: photos, and class images beside them where a job has some.

Legend: batch = photos of one forward pass on this rank.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import TrainingConfig
from trainer.data.batches import StepDraw, draw_passes, offset_noise, stream_seed, with_forms
from trainer.data.bucketed_cache import BucketedCache
from trainer.data.cache import DataCache
from trainer.data.prior import draw_class_step
from trainer.data.views import Views
from trainer.job.identity import Inputs
from trainer.job.ranks import Ranks


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """What one forward pass trains on; all tensors are on the device."""

    cache: DataCache
    rows: Tensor
    """Int64[batch], of the cache."""
    timesteps: Tensor
    """Int64[batch], of the noise schedule."""
    latent_noise: Tensor
    """Float32[batch, channels, height, width]: the sample of the VAE's posterior."""
    noise: Tensor
    """Float32[batch, channels, height, width]: what the denoiser is to remove."""

    def __len__(self) -> int:
        return len(self.rows)

    def latents(self) -> Tensor:
        """Float32[batch, channels, height, width], the sampled latents."""
        return self.cache.latents_of(self.rows, self.latent_noise)

    def split(self, size: int) -> "list[Batch]":
        """In order, `size` photos each, the last with what is left; nothing is copied."""
        names = ("rows", "timesteps", "latent_noise", "noise")
        parts = zip(*(torch.split(getattr(self, name), size) for name in names), strict=True)
        return [Batch(cache=self.cache, **dict(zip(names, part, strict=True))) for part in parts]


class StepBatches:
    """This rank's share of what each step trains on, a function of (config.seed, step).

    Args:
        cache: the training photos.
        views: the forms of each photo that `cache` holds.
        prior: the class images; None: none are learnt.
        config: of the job.
        ranks: who shares a batch.
        density: Int64[timesteps] on the device, see `trainer.job.loss.NoiseSchedule.density`.
    """

    def __init__(
        self,
        cache: BucketedCache,
        views: Views,
        prior: DataCache | None,
        *,
        config: TrainingConfig,
        ranks: Ranks,
        density: Tensor,
    ) -> None:
        self.inputs: Inputs = cache.inputs or cache.sha256
        """The training photos, as a saved state knows them."""
        self.class_inputs: Inputs | None = (prior.inputs or prior.sha256) if prior is not None else None
        """The class images likewise; None without a prior."""
        self.tag_orders = views.tag_orders
        self._device = density.device
        self._caches = cache.to(self._device).buckets
        self._buckets = cache.bucket_shapes(views)
        self._views = views
        self._prior = prior.to(self._device) if prior is not None else None
        self._config = config
        self._density = density
        self._rank = ranks.rank
        share = ranks.share_of(config.batch_size)
        self._share = slice(ranks.rank * share, (ranks.rank + 1) * share)

    def photos(self, step: int) -> Iterator[Batch]:
        """The photos of each forward pass of optimizer step `step`, from 0."""
        config = self._config
        draws = draw_passes(
            config.seed,
            step,
            buckets=self._buckets,
            batch_size=config.batch_size,
            passes=config.gradient_accumulation_steps,
            timesteps=len(self._density),
        )
        draws = offset_noise(draws, config.noise_offset, seed=config.seed, step=step)
        draws = with_forms(draws, buckets=self._buckets, views=self._views, config=config, step=step)
        return self._on_device(draws, self._caches)

    def class_images(self, step: int) -> Iterator[Batch]:
        """The class images that go with each forward pass of optimizer step `step`, from 0; nothing without a prior."""
        if self._prior is None:
            return iter(())
        draws = draw_class_step(self._config, step, self._prior, timesteps=len(self._density))
        return self._on_device(draws, [self._prior])

    @contextmanager
    def dropout_randomness(self, step: int) -> Iterator[None]:
        """Within it dropout draws from a seed of `step` and this rank; the process's own generators are put back."""
        if not self._config.dropout:
            yield
            return
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(stream_seed(self._config.seed, f"dropout/{self._rank}", step))
            yield

    def _on_device(self, draws: Sequence[StepDraw], caches: Sequence[DataCache]) -> Iterator[Batch]:
        for draw in draws:
            yield Batch(
                cache=caches[draw.bucket],
                rows=self._to_device(draw.indices[self._share]),
                timesteps=self._density[self._to_device(draw.timesteps[self._share])],
                latent_noise=self._to_device(draw.latent_noise[self._share]),
                noise=self._to_device(draw.noise[self._share]),
            )

    def _to_device(self, tensor: Tensor) -> Tensor:
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)
