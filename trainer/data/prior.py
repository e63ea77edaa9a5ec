"""Prior preservation (DreamBooth, Ruiz et al. 2022, arXiv:2208.12242): class images encoded, and when each comes.

A step's loss is that on the photos plus prior_loss_weight times that on as many class images. Both are weighed alike by
timestep (min-SNR) and error (Huber), so that a weight of 1 means the same at every snr_gamma. diffusers' DreamBooth
script for LoRA treats both alike, too, for it weighs neither; its script for SDXL gives min-SNR weights to photos only.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from trainer.config import TrainingConfig
from trainer.data.batches import BucketShape, StepDraw, draw_passes, offset_noise, stream_seed
from trainer.data.cache import DataCache, build_cache
from trainer.data.class_images import draw_class_images
from trainer.data.photos import CaptionedPhoto
from trainer.data.prior_config import PriorConfig
from trainer.models.base_model import BaseModel


def build_prior_cache(
    prior: PriorConfig,
    supplied: Sequence[CaptionedPhoto],
    base: BaseModel,
    *,
    resolution: int,
    folder: Path,
    on_drawn: Callable[[int, int], None] = lambda done, count: None,
) -> DataCache:
    """The class images, drawn if need be, encoded as they are: neither mirrored nor with other captions.

    Args:
        prior: what class images there are.
        supplied: those of its folder (`trainer.data.class_photos`); drawn where it names none.
        base: carries no adapter.
        resolution: side of the square crop, and of images that are drawn, in pixels.
        folder: of the data cache; drawn images lie in it.
        on_drawn: see `trainer.data.class_images.draw_class_images`.

    Raises:
        ValueError: a caption is longer than the text encoder reads.
    """
    if prior.folder is not None:
        return build_cache(supplied, base, resolution=resolution, folder=folder)
    images = draw_class_images(prior, base, resolution=resolution, folder=folder, on_drawn=on_drawn)
    cache = build_cache(images, base, resolution=resolution, folder=folder)
    # Drawn again elsewhere, their last bits differ; which image each is follows from its folder and name.
    inputs = (replace(each, sha256=image.path.parent.name) for each, image in zip(cache.inputs, images, strict=True))
    return replace(cache, inputs=tuple(inputs))


def draw_class_step(config: TrainingConfig, step: int, prior: DataCache, *, timesteps: int) -> tuple[StepDraw, ...]:
    """Class images, timesteps and noise of optimizer step `step` (from 0), as many in each forward pass as photos.

    A function of (config.seed, step), from streams of its own: the photos' draw is what it is without.

    Args:
        config: of the job.
        step: from 0.
        prior: the encoded class images.
        timesteps: length of the noise schedule.
    """
    seed = stream_seed(config.seed, "prior", 0)
    draws = draw_passes(
        seed,
        step,
        buckets=[BucketShape(photos=len(prior), latent_shape=prior.latent_shape)],
        batch_size=config.batch_size,
        passes=config.gradient_accumulation_steps,
        timesteps=timesteps,
    )
    return offset_noise(draws, config.noise_offset, seed=seed, step=step)
