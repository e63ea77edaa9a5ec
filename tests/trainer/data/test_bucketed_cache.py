"""Photos of several shapes from the file to the adapter: cached by bucket, trained on, validated and resumed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.job_state import weights_of
from tests.trainer.conftest import RESOLUTION, MakeConfig, write_photo
from trainer.adapters.adapter_files import read_adapter_file
from trainer.data.batches import draw_passes
from trainer.data.bucketed_cache import BucketedCache, build_bucketed_cache
from trainer.data.buckets import AspectBuckets
from trainer.data.cache import DataCache, build_cache
from trainer.data.photos import CaptionedPhoto, load_photos, open_photo
from trainer.data.views import Views
from trainer.job.job import TrainingJob
from trainer.job.loss import NoiseSchedule, denoising_loss
from trainer.models.loading import BaseModel

BUCKETS = AspectBuckets(step=8)
SHAPES = {"a": (100, 60), "b": (60, 100), "c": (64, 64), "d": (150, 90), "e": (60, 120), "f": (64, 70), "g": (90, 90)}
"""Two wide, two tall and three nearly square ones: 40 x 24, 24 x 40 and 32 x 32 pixels, in latents a quarter."""
LATENTS = [(10, 6), (8, 8), (6, 10)]
"""Heights and widths by bucket."""
BOTH_SIDES = Views(mirrored=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaptionedPhoto, ...]:
    folder = tmp_path_factory.mktemp("shapes")
    for seed, (stem, size) in enumerate(SHAPES.items()):
        write_photo(folder, stem, seed=seed, caption=f"a man, number {seed}", size=size)
    return load_photos(folder, minimum_side=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cached")


@pytest.fixture(scope="module")
def build(loaded_base: BaseModel, photos: tuple[CaptionedPhoto, ...], folder: Path) -> Callable[..., BucketedCache]:
    def make(views: Views | None = None) -> BucketedCache:
        return build_bucketed_cache(
            photos, loaded_base, resolution=RESOLUTION, folder=folder, views=views, buckets=BUCKETS
        )

    return make


@pytest.fixture(scope="module")
def mixed(build: Callable[..., BucketedCache]) -> BucketedCache:
    return build()


@torch.no_grad()
def test_each_bucket_holds_its_photos_as_the_model_sees_them(
    base: BaseModel, photos: tuple[CaptionedPhoto, ...], build: Callable[..., BucketedCache]
) -> None:
    cache = build(BOTH_SIDES)
    assert len(cache) == 14
    assert [bucket.latent_shape for bucket in cache.buckets] == [(4, height, width) for height, width in LATENTS]
    assert [shape.photos for shape in cache.bucket_shapes(BOTH_SIDES)] == [2, 3, 2]
    scale = base.vae.config["scaling_factor"]
    for bucket, stems, size in zip(cache.buckets, ("be", "cfg", "ad"), ((24, 40), (32, 32), (40, 24)), strict=True):
        for row, stem in enumerate(stems):
            (photo,) = (photo for photo in photos if photo.path.stem == stem)
            pixels = torch.from_numpy(np.array(open_photo(photo, size))).permute(2, 0, 1)[None] / 127.5 - 1
            for seen, at in ((pixels, row), (pixels.flip(-1), len(stems) + row)):
                mean = base.vae.encode(seen).latent_dist.mean[0] * scale
                torch.testing.assert_close(bucket.latent_mean[at], mean, rtol=0, atol=1e-6)
            embeddings, _ = base.pipeline().encode_prompt(photo.caption, torch.device("cpu"), 1, False)
            torch.testing.assert_close(bucket.conditioning["text_embeddings"][row], embeddings[0], rtol=0, atol=1e-6)


def test_a_face_s_mask_has_the_latents_shape_and_is_mirrored_with_them(
    base: BaseModel, photos: tuple[CaptionedPhoto, ...], tmp_path: Path
) -> None:
    """The upper left quarter of 100 x 60 is that of 10 x 6; of a tall photo's neighbour nothing."""
    views = Views(mirrored=True)
    faces = [replace(photo, face=(0, 0, 50, 30) if photo.path.stem == "a" else None) for photo in photos[:2]]
    cache = build_bucketed_cache(
        faces, base, resolution=RESOLUTION, folder=tmp_path, views=views, buckets=AspectBuckets(step=8)
    )
    tall, wide = cache.buckets
    expected = torch.zeros(6, 10)
    expected[:3, :5] = 1
    assert torch.equal(wide.face_mask, torch.stack([expected, expected.flip(-1)]))
    assert not tall.face_mask.any()
    assert tall.face_mask.shape == (2, 10, 6)


def test_buckets_are_encoded_once_and_a_square_one_is_the_file_without_buckets(
    base: BaseModel,
    photos: tuple[CaptionedPhoto, ...],
    folder: Path,
    mixed: BucketedCache,
    build: Callable[..., BucketedCache],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object) -> None:
        raise AssertionError("the VAE was asked to encode")

    monkeypatch.setattr(base.vae, "encode", fail)
    assert build().sha256 == mixed.sha256
    square = [photo for photo in photos if photo.path.stem in "cfg"]
    alone = build_bucketed_cache(square, base, resolution=RESOLUTION, folder=folder)
    cache = build_cache(square, base, resolution=RESOLUTION, folder=folder)
    assert alone.sha256 == cache.sha256 == mixed.buckets[1].sha256
    assert BucketedCache.of(cache).sha256 == cache.sha256
    assert BucketedCache.of(mixed) is mixed


def test_long_captions_of_all_buckets_are_named_before_anything_is_encoded(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, (stem, size) in enumerate({"tall": (60, 100), "wide": (100, 60)}.items()):
        write_photo(tmp_path, stem, seed=seed, caption="man " * base.tokenizer.model_max_length, size=size)
    monkeypatch.setattr(base.vae, "encode", None)
    with pytest.raises(ValueError, match=r"tall\.png \(\d+\), wide\.png \(\d+\); shorten them"):
        build_bucketed_cache(
            load_photos(tmp_path, minimum_side=32),
            base,
            resolution=RESOLUTION,
            folder=tmp_path / "cache",
            buckets=BUCKETS,
        )
    with pytest.raises(ValueError, match="there are no photos"):
        build_bucketed_cache([], base, resolution=RESOLUTION, folder=tmp_path)


def test_a_step_on_two_shapes_has_the_loss_of_plain_forwards(
    base: BaseModel, mixed: BucketedCache, make_config: MakeConfig
) -> None:
    """Seed 3 begins with tall and wide photos; the loss is the mean of two passes through diffusers' UNet."""
    config = make_config(seed=3, batch_size=2, gradient_accumulation_steps=2, snr_gamma=None)
    shapes = mixed.bucket_shapes(Views())
    draws = draw_passes(3, 0, buckets=shapes, batch_size=2, passes=2, timesteps=1000)
    assert {draw.bucket for draw in draws} == {0, 2}
    schedule = NoiseSchedule.of(base.scheduler, base.device)
    losses = []
    for draw in draws:
        bucket = mixed.buckets[draw.bucket]
        latents = bucket.latent_mean[draw.indices] + bucket.latent_std[draw.indices] * draw.latent_noise
        noisy = schedule.add_noise(latents, draw.noise, draw.timesteps)
        with torch.no_grad():
            prediction = base.denoiser(
                noisy, draw.timesteps, bucket.conditioning["text_embeddings"][draw.indices]
            ).sample
        assert prediction.shape == (2, *bucket.latent_shape)
        losses.append(((prediction - schedule.target(latents, draw.noise, draw.timesteps)) ** 2).mean())
    with TrainingJob(base, mixed, config) as job:
        assert job.step().loss == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


@torch.no_grad()
def test_validation_loss_counts_every_photo_alike(
    base: BaseModel, mixed: BucketedCache, make_config: MakeConfig
) -> None:
    """Seven photos at eight timesteps each, 56 spread evenly; noise is drawn bucket by bucket."""
    schedule = NoiseSchedule.of(base.scheduler, base.device)
    generator = torch.Generator().manual_seed(0)
    losses, first = [], 0
    for bucket in mixed.buckets:
        at = torch.tensor([turn * 7 + first + photo for turn in range(8) for photo in range(len(bucket))])
        photos = at % 7 - first
        first += len(bucket)
        timesteps = (at * 1000 + 500) // 56
        noise = torch.randn((len(at), *bucket.latent_shape), generator=generator)
        latents = bucket.latent_mean[photos]
        prediction = base.denoiser(
            schedule.add_noise(latents, noise, timesteps), timesteps, bucket.conditioning["text_embeddings"][photos]
        ).sample
        target = schedule.target(latents, noise, timesteps)
        losses.append(denoising_loss(prediction, target, torch.ones(len(at))) * len(at))
    with TrainingJob(base, mixed, make_config()) as job:
        assert job.validation_loss(mixed) == pytest.approx(sum(losses).item() / 56, rel=1e-5)  # type: ignore[union-attr]


def test_a_job_on_several_shapes_resumes_bit_for_bit(
    base: BaseModel, build: Callable[..., BucketedCache], make_config: MakeConfig, tmp_path: Path
) -> None:
    """Everything that draws is on: forms, dropout, noise offset, the face's weight, two passes a step."""
    cache = build(BOTH_SIDES)
    config = make_config(
        steps=8,
        gradient_accumulation_steps=2,
        batch_size=2,
        horizontal_flip=0.5,
        dropout=0.1,
        noise_offset=0.1,
        face_loss_weight=2.0,
    )
    with TrainingJob(base, cache, config, BOTH_SIDES) as job:
        losses = []
        for step in range(8):
            if step == 3:
                job.save(tmp_path / "state")
            losses.append(job.step().loss)
        weights = weights_of(job)
    torch.manual_seed(9)
    with TrainingJob(base, build(BOTH_SIDES), config, BOTH_SIDES) as job:
        job.restore(tmp_path / "state")
        assert [job.step().loss for _ in range(5)] == losses[3:]
        assert all(torch.equal(weight, weights[name]) for name, weight in weights_of(job).items())


def test_a_state_of_other_buckets_is_refused(
    base: BaseModel, mixed: BucketedCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    with TrainingJob(base, mixed, make_config()) as job:
        job.save(tmp_path / "state")
    fewer = BucketedCache(buckets=mixed.buckets[1:])
    told = r"another job: b\.png \(used there, missing here\), e\.png \(used there, missing here\);"
    with TrainingJob(base, fewer, make_config()) as job, pytest.raises(ValueError, match=told):
        job.restore(tmp_path / "state")


def test_one_bucket_trains_as_the_data_cache_in_it(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    written: list[dict[str, Tensor]] = []
    same: list[DataCache | BucketedCache] = [cache, BucketedCache(buckets=(cache,))]
    for number, data in enumerate(same):
        with TrainingJob(base, data, make_config(steps=3, gradient_accumulation_steps=2)) as job:
            for _ in range(3):
                job.step()
            job.save(tmp_path / str(number))
        written.append(read_adapter_file(tmp_path / str(number) / "pytorch_lora_weights.safetensors")[0])
    assert written[0].keys() == written[1].keys()
    assert all(torch.equal(tensor, written[1][name]) for name, tensor in written[0].items())
