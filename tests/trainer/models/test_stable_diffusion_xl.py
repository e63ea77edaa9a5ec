"""SDXL behind the interface of a base model, on a tiny random one, against plain calls of diffusers."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors.torch import load_file
from torch import Tensor

from evaluation.config import GenerationConfig
from evaluation.generate import generate_images, noise_generator
from tests.support.job_state import weights_of
from tests.support.tiny_models import CAPTIONS, EVERY_LAYER, RESOLUTION, encode_photos, write_stable_diffusion_xl
from tests.trainer.adapters.test_adapter import EVERYTHING, TEXT, layer_names, randomise
from tests.trainer.conftest import MakeConfig, draw_pass, write_photo
from tests.trainer.original_layout import published_unet_names
from trainer.adapters.adapter import attach_adapter, check_no_adapter
from trainer.adapters.adapter_files import WEIGHTS_FILE, load_adapter, read_adapter_file, save_adapter
from trainer.adapters.kohya import export_kohya
from trainer.config import TrainingConfig
from trainer.data.batches import draw_passes
from trainer.data.bucketed_cache import build_bucketed_cache
from trainer.data.buckets import AspectBuckets
from trainer.data.cache import DataCache, build_cache
from trainer.data.photos import load_photos
from trainer.data.views import Views
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel, load_base_model, set_threads
from trainer.models.stable_diffusion_xl import StableDiffusionXL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stable_diffusion_xl(tmp_path_factory.mktemp("models") / "xl")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> StableDiffusionXL:
    set_threads(1)
    base = load_base_model(folder, device="cpu")
    assert isinstance(base, StableDiffusionXL)
    return base


@pytest.fixture
def base(loaded: StableDiffusionXL) -> Iterator[StableDiffusionXL]:
    """The shared model; a test that leaves an adapter in it fails."""
    yield loaded
    check_no_adapter(loaded)


@pytest.fixture(scope="module")
def cache(loaded: StableDiffusionXL, tmp_path_factory: pytest.TempPathFactory) -> DataCache:
    """Four encoded photos, 70 pixels wide and 80 high."""
    return encode_photos(loaded, tmp_path_factory.mktemp("photos"))


@torch.no_grad()
def answer(base: StableDiffusionXL) -> Tensor:
    """What encoders and UNet make of fixed captions and noise, through diffusers' own encode_prompt."""
    generator = torch.Generator().manual_seed(7)
    sample = torch.randn(2, 4, 8, 8, generator=generator)
    embeddings, _, pooled, _ = base.pipeline().encode_prompt(
        list(CAPTIONS[:2]), device=torch.device("cpu"), do_classifier_free_guidance=False
    )
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)}
    tensor: Tensor = base.unet(sample, torch.tensor([30, 700]), embeddings, added_cond_kwargs=added).sample
    return tensor


def test_captions_are_encoded_as_diffusers_does_and_sizes_kept(base: StableDiffusionXL, cache: DataCache) -> None:
    embeddings, _, pooled, _ = base.pipeline().encode_prompt(
        list(CAPTIONS), device=torch.device("cpu"), do_classifier_free_guidance=False
    )
    torch.testing.assert_close(cache.conditioning["text_embeddings"], embeddings, rtol=0, atol=1e-6)
    torch.testing.assert_close(cache.conditioning["pooled_embeddings"], pooled, rtol=0, atol=1e-6)
    # A photo of 70 x 80: 5 of its rows fall away above the square, 5 * 32 / 70 = 2.3 of the scaled ones.
    assert cache.framing["time_ids"].tolist() == [[80, 70, 2, 0, 32, 32]] * 4
    assert cache.framing.keys() == {"time_ids"}
    assert cache.conditioning.keys() == {"input_ids", "input_ids_2", "text_embeddings", "pooled_embeddings"}


def test_each_form_of_a_cut_photo_is_told_its_own_framing(base: StableDiffusionXL, tmp_path: Path) -> None:
    """Of a photo of 70 x 80 a square of 40 from (10, 20): scaled by 32 / 40, and 20 pixels lie to its right."""
    write_photo(tmp_path, "cut", seed=1, caption="a man, a hat")
    write_photo(tmp_path, "whole", seed=2, caption="a man")
    cut, whole = load_photos(tmp_path)
    whole_cache = build_cache(
        (replace(cut, crop=(10, 20, 40, 40), face=(10, 20, 20, 40)), whole),
        base,
        resolution=RESOLUTION,
        folder=tmp_path / "cache",
        views=Views(mirrored=True, empty_caption=True),
    )
    cached = whole_cache.rows(torch.arange(8), torch.device("cpu"))
    plain, mirrored, centre = [80, 70, 16, 8, 32, 32], [80, 70, 16, 16, 32, 32], [80, 70, 2, 0, 32, 32]
    assert cached.framing["time_ids"].tolist() == [plain, centre] * 2 + [mirrored, centre] * 2
    half = torch.cat([torch.ones(16, 8), torch.zeros(16, 8)], dim=1)
    none = torch.zeros(16, 16)
    assert torch.equal(cached.face_mask, torch.stack([half, none] * 2 + [half.flip(-1), none] * 2))
    empty, pooled = cached.conditioning["text_embeddings"], cached.conditioning["pooled_embeddings"]
    assert torch.equal(empty[2], empty[3])
    assert torch.equal(pooled[2], pooled[7])
    assert not torch.equal(pooled[0], pooled[2])
    assert torch.equal(cached.conditioning["input_ids_2"][0], cached.conditioning["input_ids_2"][4])


def test_a_tall_and_a_wide_photo_are_told_their_framing_and_trained_on(
    base: StableDiffusionXL, make_config: MakeConfig, tmp_path: Path
) -> None:
    """60 x 120 for 24 x 40 is 24 x 48 with 4 rows cut away at the top, the wide one its mirror across the diagonal."""
    for seed, (stem, size) in enumerate({"tall": (60, 120), "wide": (120, 60)}.items()):
        write_photo(tmp_path, stem, seed=seed, caption=CAPTIONS[seed], size=size)
    buckets = AspectBuckets(step=8)
    photos = load_photos(tmp_path, minimum_side=32)
    mixed = build_bucketed_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / "cache", buckets=buckets)
    ids = [[120.0, 60, 4, 0, 40, 24], [60.0, 120, 0, 4, 24, 40]]
    assert [bucket.framing["time_ids"].tolist() for bucket in mixed.buckets] == [[ids[0]], [ids[1]]]
    config = make_config(batch_size=1, gradient_accumulation_steps=2, snr_gamma=None)
    shapes = mixed.bucket_shapes(Views())
    losses = []
    for draw in draw_passes(config.seed, 0, buckets=shapes, batch_size=1, passes=2, timesteps=1000):
        bucket = mixed.buckets[draw.bucket]
        latents = bucket.latent_mean + bucket.latent_std * draw.latent_noise
        noisy = DDPMScheduler.from_config(base.scheduler.config).add_noise(latents, draw.noise, draw.timesteps)
        with torch.no_grad():
            embeddings, _, pooled, _ = base.pipeline().encode_prompt(
                CAPTIONS[draw.bucket], device=torch.device("cpu"), do_classifier_free_guidance=False
            )
            added = {"text_embeds": pooled, "time_ids": torch.tensor([ids[draw.bucket]])}
            prediction = base.unet(noisy, draw.timesteps, embeddings, added_cond_kwargs=added).sample
        losses.append(((prediction - draw.noise) ** 2).mean())
    with TrainingJob(base, mixed, config) as job:
        assert job.step().loss == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


@pytest.mark.parametrize("text_encoder_learning_rate", [0.0, 1e-4])
def test_a_step_s_loss_is_that_of_a_plain_forward(
    base: StableDiffusionXL, cache: DataCache, make_config: MakeConfig, text_encoder_learning_rate: float
) -> None:
    config = make_config(batch_size=3, snr_gamma=None, text_encoder_learning_rate=text_encoder_learning_rate)
    draw = draw_pass(config.seed, 0, photos=4, count=3, latent_shape=(4, 16, 16), timesteps=1000)
    latents = cache.latent_mean[draw.indices] + cache.latent_std[draw.indices] * draw.latent_noise
    noisy = DDPMScheduler.from_config(base.scheduler.config).add_noise(latents, draw.noise, draw.timesteps)
    with torch.no_grad():
        embeddings, _, pooled, _ = base.pipeline().encode_prompt(
            [CAPTIONS[at] for at in draw.indices.tolist()],
            device=torch.device("cpu"),
            do_classifier_free_guidance=False,
        )
        added = {"text_embeds": pooled, "time_ids": torch.tensor([[80.0, 70, 2, 0, 32, 32]] * 3)}
        prediction = base.unet(noisy, draw.timesteps, embeddings, added_cond_kwargs=added).sample
    with TrainingJob(base, cache, config) as job:
        assert job.step().loss == pytest.approx(((prediction - draw.noise) ** 2).mean().item(), rel=1e-5)


def test_all_three_parts_learn_and_the_loss_falls(
    base: StableDiffusionXL, cache: DataCache, make_config: MakeConfig
) -> None:
    before = answer(base)
    config = make_config(
        steps=30, batch_size=4, learning_rate=3e-3, text_encoder_learning_rate=3e-3, targets=EVERY_LAYER
    )
    with TrainingJob(base, cache, config) as job:
        assert job.adapter.parts == ("unet", "text_encoder", "text_encoder_2")
        assert job.step().learning_rates == dict.fromkeys(job.adapter.parts, 0.003)
        first, start = job.validation_loss(cache), weights_of(job)
        while not job.finished:
            job.step()
        assert job.validation_loss(cache) < first
        changed = {name for name, weight in weights_of(job).items() if not torch.equal(weight, start[name])}
        assert changed == start.keys(), "no weight is there that never learns"
        assert not any("text_encoder.encoder.layers.2." in name for name in start), "it comes after all that is read"
    assert torch.equal(answer(base), before)


def test_a_resumed_job_equals_an_unbroken_one_bit_for_bit(
    base: StableDiffusionXL, cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    config: TrainingConfig = make_config(steps=4, dropout=0.1)
    with TrainingJob(base, cache, config) as job:
        losses = [job.step().loss for _ in range(4)]
        expected = weights_of(job)
    with TrainingJob(base, cache, config) as job:
        assert [job.step().loss for _ in range(2)] == losses[:2]
        job.save(tmp_path / "state")
    with TrainingJob(base, cache, config) as job:
        job.restore(tmp_path / "state")
        assert [job.step().loss for _ in range(2)] == losses[2:]
        resumed = weights_of(job)
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("text_encoder_learning_rate", [0.0, 1e-4])
def test_files_for_diffusers_and_kohya_load_through_diffusers_to_the_same_effect(
    base: StableDiffusionXL, make_config: MakeConfig, tmp_path: Path, text_encoder_learning_rate: float
) -> None:
    before = answer(base)
    adapter = attach_adapter(
        base, make_config(targets=EVERY_LAYER, text_encoder_learning_rate=text_encoder_learning_rate)
    )
    try:
        randomise(adapter)
        adapted = answer(base)
        save_adapter(adapter, tmp_path)
    finally:
        adapter.detach()
    assert (adapted - before).abs().max() > 1e-3
    kohya = export_kohya(tmp_path, tmp_path / "person.safetensors")
    for file in (tmp_path / WEIGHTS_FILE, kohya):
        pipeline: Any = base.pipeline()
        pipeline.load_lora_weights(file)
        try:
            assert (answer(base) - adapted).abs().max() < 2e-6
        finally:
            pipeline.unload_lora_weights()
    loaded = load_adapter(base, tmp_path)
    try:
        assert loaded.parts == (base.parts if text_encoder_learning_rate else ("unet",))
        assert (answer(base) - adapted).abs().max() < 2e-6
    finally:
        loaded.detach()
    assert torch.equal(answer(base), before)


def test_an_adapter_of_layers_that_nothing_reads_loads_as_it_is(
    base: StableDiffusionXL, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs, and earlier versions of this one, adapt the first encoder's last layer, too."""
    with monkeypatch.context() as earlier:
        earlier.setattr(StableDiffusionXL, "text_encoder_targets", BaseModel.text_encoder_targets)
        adapter = attach_adapter(base, make_config())
    names = adapter.state_dict("text_encoder").keys()
    save_adapter(adapter, tmp_path)
    adapter.detach()
    loaded = load_adapter(base, tmp_path)
    try:
        assert loaded.state_dict("text_encoder").keys() == names
        assert any("encoder.layers.2." in name for name in names)
    finally:
        loaded.detach()


def test_kohya_s_keys_are_the_unet_s_published_names_and_name_both_text_encoders(
    base: StableDiffusionXL, make_config: MakeConfig, tmp_path: Path
) -> None:
    published = published_unet_names(base.unet)
    layers = {
        f"lora_unet_{published[f'{name}.weight'].removesuffix('.weight').replace('.', '_')}"
        for name in layer_names(base.unet, EVERYTHING)
    }
    for prefix, encoder in (("lora_te1", base.text_encoder), ("lora_te2", base.text_encoder_2)):
        names = {name.removeprefix("text_model.") for name in layer_names(encoder, TEXT)}
        if prefix == "lora_te1":  # whose last layer comes after all that SDXL reads
            names = {name for name in names if not name.startswith("encoder.layers.2.")}
        layers |= {f"{prefix}_text_model_{name.replace('.', '_')}" for name in names}
    adapter = attach_adapter(base, make_config(targets=EVERY_LAYER))
    try:
        save_adapter(adapter, tmp_path)
    finally:
        adapter.detach()
    kohya = export_kohya(tmp_path, tmp_path / "person.safetensors")
    assert read_adapter_file(kohya)[1]["ss_base_model_version"] == "sdxl_base_v1-0"
    written = load_file(kohya)
    assert written.keys() == {
        f"{layer}.{name}" for layer in layers for name in ("lora_down.weight", "lora_up.weight", "alpha")
    }


def test_images_are_those_of_the_pipeline_itself(base: StableDiffusionXL) -> None:
    pipeline: Any = base.pipeline()
    config = GenerationConfig(steps=3, guidance_scale=3.0, resolution=32, batch_size=2, scheduler="as-is")
    made = generate_images(pipeline, CAPTIONS[:2], [1, 2], config)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        list(CAPTIONS[:2]),
        generator=[noise_generator(*pair) for pair in zip(CAPTIONS[:2], (1, 2), strict=True)],
        num_inference_steps=3,
        guidance_scale=3.0,
        height=32,
        width=32,
    ).images
    for image, other in zip(made, expected, strict=True):
        assert np.abs(np.asarray(image, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


def test_the_hash_covers_the_second_encoder(base: BaseModel, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert load_base_model(tmp_path / "copy", device="cpu").sha256 == base.sha256
    config = tmp_path / "copy" / "text_encoder_2" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert load_base_model(tmp_path / "copy", device="cpu").sha256 != base.sha256
