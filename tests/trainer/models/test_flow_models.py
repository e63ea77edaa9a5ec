"""Stable Diffusion 3 and Flux behind the interface of a base model, on tiny random ones, against plain diffusers."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, FluxPipeline
from scipy.special import expit
from scipy.stats import norm
from torch import Tensor

from evaluation.config import GenerationConfig, SamplerName
from evaluation.generate import generate_images, noise_generator
from tests.support.job_state import weights_of
from tests.support.tiny_models import (
    CAPTIONS,
    EVERY_LAYER,
    RESOLUTION,
    encode_photos,
    write_flux,
    write_stable_diffusion_3,
)
from tests.trainer.conftest import MakeConfig, draw_pass, write_photo
from trainer.adapters.adapter import attach_adapter, check_no_adapter
from trainer.config import TrainingConfig
from trainer.data.cache import DataCache, build_cache
from trainer.data.class_images import draw_class_images
from trainer.data.photos import load_photos, open_photo
from trainer.data.prior_config import PriorConfig
from trainer.job.job import TrainingJob
from trainer.job.loss import NoiseSchedule, huber_thresholds, min_snr_weights
from trainer.models.flow_model import FlowModel
from trainer.models.flux import Flux
from trainer.models.loading import BaseModel, load_base_model, set_threads
from trainer.models.stable_diffusion_3 import StableDiffusion3

CPU = torch.device("cpu")
WRITE: dict[type[BaseModel], Callable[[Path], Path]] = {StableDiffusion3: write_stable_diffusion_3, Flux: write_flux}


@pytest.fixture(scope="module", params=[StableDiffusion3, Flux], ids=lambda family: family.__name__)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FlowModel:
    set_threads(1)
    base = load_base_model(WRITE[request.param](tmp_path_factory.mktemp("models") / "model"), device="cpu")
    assert type(base) is request.param
    assert isinstance(base, FlowModel)
    return base


@pytest.fixture
def base(loaded: FlowModel) -> Iterator[FlowModel]:
    """The shared model; a test that leaves an adapter in it fails."""
    yield loaded
    check_no_adapter(loaded)


@pytest.fixture(scope="module")
def cache(loaded: FlowModel, tmp_path_factory: pytest.TempPathFactory) -> DataCache:
    return encode_photos(loaded, tmp_path_factory.mktemp("photos"))


@pytest.fixture
def make_config(make_config: MakeConfig) -> MakeConfig:
    """Of a family without adapters on text encoders."""

    def make(**changes: object) -> TrainingConfig:
        return make_config(**{"text_encoder_learning_rate": None, **changes})

    return make


def encode_prompt(base: FlowModel, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Embeddings and pooled embeddings as the pipeline makes them."""
    pipeline: Any = base.pipeline()
    with torch.no_grad():
        if isinstance(base, Flux):
            embeddings, pooled, _ = pipeline.encode_prompt(captions, captions, device=CPU)
        else:
            embeddings, _, pooled, _ = pipeline.encode_prompt(
                captions, captions, captions, device=CPU, do_classifier_free_guidance=False
            )
    return embeddings, pooled


@torch.no_grad()
def plain_forward(base: FlowModel, noisy: Tensor, sigmas: Tensor, captions: list[str]) -> Tensor:
    """The transformer called as its pipeline calls it."""
    embeddings, pooled = encode_prompt(base, captions)
    transformer = base.denoiser
    if isinstance(base, StableDiffusion3):
        answer: Tensor = transformer(
            hidden_states=noisy,
            timestep=sigmas * 1000,
            encoder_hidden_states=embeddings,
            pooled_projections=pooled,
        ).sample
        return answer
    count, channels, height, width = noisy.shape
    packed = transformer(
        hidden_states=FluxPipeline._pack_latents(noisy, count, channels, height, width),
        timestep=sigmas,
        guidance=torch.ones(count),
        pooled_projections=pooled,
        encoder_hidden_states=embeddings,
        txt_ids=torch.zeros(embeddings.shape[1], 3),
        img_ids=FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, CPU, torch.float32),
    ).sample
    unpacked: Tensor = FluxPipeline._unpack_latents(packed, height * 8, width * 8, 8)
    return unpacked


def test_captions_are_encoded_as_diffusers_does(base: FlowModel, cache: DataCache) -> None:
    embeddings, pooled = encode_prompt(base, list(CAPTIONS))
    torch.testing.assert_close(cache.conditioning["text_embeddings"], embeddings, rtol=0, atol=1e-6)
    torch.testing.assert_close(cache.conditioning["pooled_embeddings"], pooled, rtol=0, atol=1e-6)
    ids = {"input_ids", "input_ids_2"} | ({"input_ids_3"} if isinstance(base, StableDiffusion3) else set())
    assert cache.conditioning.keys() == {*ids, "text_embeddings", "pooled_embeddings"}
    assert cache.latent_mean.shape == (4, 16, 16, 16)


def test_latents_have_the_vae_s_shift_and_scale(base: FlowModel, cache: DataCache, tmp_path: Path) -> None:
    write_photo(tmp_path, "photo", seed=0)
    (photo,) = load_photos(tmp_path)
    pixels = torch.from_numpy(np.array(open_photo(photo, RESOLUTION), dtype=np.float32)).permute(2, 0, 1)[None]
    with torch.no_grad():
        mean = base.vae.encode(pixels / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(cache.latent_mean[:1], (mean - 0.0609) * 1.5305, rtol=0, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_s_loss_is_that_of_a_plain_forward(
    base: FlowModel, cache: DataCache, make_config: MakeConfig, checkpointing: bool
) -> None:
    """x_t = (1 - sigma) x_0 + sigma epsilon, answered by epsilon - x_0, logit-normal in time, then shifted."""
    config = make_config(batch_size=3, gradient_checkpointing=checkpointing)
    draw = draw_pass(config.seed, 0, photos=4, count=3, latent_shape=(16, 16, 16), timesteps=1000)
    latents = cache.latent_mean[draw.indices] + cache.latent_std[draw.indices] * draw.latent_noise
    quantiles = expit(norm.ppf((draw.timesteps.numpy() + 0.5) / 1000))
    at = torch.from_numpy((quantiles * 1000).astype(int))
    sigmas = FlowMatchEulerDiscreteScheduler.from_config(base.scheduler.config).sigmas.flip(0)[at]
    mixed = sigmas.view(-1, 1, 1, 1)
    noisy = (1 - mixed) * latents + mixed * draw.noise
    answer = plain_forward(base, noisy, sigmas, [CAPTIONS[index] for index in draw.indices.tolist()])
    expected = ((answer - (draw.noise - latents)) ** 2).mean().item()
    with TrainingJob(base, cache, config) as job:
        assert base.denoiser.is_gradient_checkpointing is checkpointing
        assert job.step().loss == pytest.approx(expected, rel=1e-5)
    assert base.denoiser.is_gradient_checkpointing is False


def test_the_flow_s_schedule_by_hand() -> None:
    """Of 1000 timesteps number 499 lies half-way; a shift of 3 moves it to 3 / 2 / (1 + 2 / 2) = 3 / 4."""
    plain = NoiseSchedule.of(FlowMatchEulerDiscreteScheduler(), CPU)
    shifted = NoiseSchedule.of(FlowMatchEulerDiscreteScheduler(shift=3.0), CPU)
    dynamic = NoiseSchedule.of(FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True), CPU)
    assert plain.prediction_type == "flow"
    for schedule, half in ((plain, 0.5), (shifted, 0.75), (dynamic, 0.5)):
        assert schedule.noise[499].item() == pytest.approx(half)
        assert schedule.signal[499].item() == pytest.approx(1 - half)
        assert schedule.times[499].item() == pytest.approx(1000 * half)
        assert (schedule.noise[-1].item(), schedule.signal[-1].item()) == (1, 0)
    picture, noise = torch.full((1, 16, 2, 2), 3.0), torch.full((1, 16, 2, 2), -1.0)
    middle = torch.tensor([499])
    noisy, target = plain.add_noise(picture, noise, middle), plain.target(picture, noise, middle)
    assert torch.allclose(noisy, torch.ones(1))
    assert torch.equal(target, torch.full((1, 16, 2, 2), -4.0))
    assert torch.allclose(noisy - 0.5 * target, picture)
    # Of the noise drawn with location 0 and scale 1, norm.cdf(log(1 / 3)) = 13.6 % lies below a quarter of the path.
    assert (plain.density < 250).float().mean().item() == pytest.approx(0.136, abs=1e-6)
    assert (plain.density >= 750).float().mean().item() == pytest.approx(0.136, abs=1e-6)
    assert plain.density[499:501].tolist() == [499, 500]
    assert torch.equal(shifted.density, plain.density)
    # Neither minimum SNR nor offsets; pseudo-Huber's threshold follows noise over signal, infinite at the end.
    assert torch.equal(min_snr_weights(plain.snr, 5.0, "flow"), torch.ones(1000))
    deltas = huber_thresholds(plain, 0.1, "snr")
    assert deltas[499].item() == pytest.approx(0.1 + 0.9 / 4)
    assert deltas[-1].item() == pytest.approx(0.1)


def test_only_the_transformer_learns_and_the_loss_falls(
    base: FlowModel, cache: DataCache, make_config: MakeConfig
) -> None:
    x, times = torch.ones(1, 16, 16, 16), torch.tensor([500.0])
    conditioning = cache.conditioning_of(torch.tensor([0]))
    with torch.no_grad():
        before = base.predict(x, times, conditioning)
    config = make_config(steps=12, batch_size=4, learning_rate=2e-2, targets=EVERY_LAYER)
    with TrainingJob(base, cache, config) as job:
        assert job.adapter.parts == ("transformer",)
        assert job.step().learning_rates == {"transformer": 0.02}
        first, start = job.validation_loss(cache), weights_of(job)
        while not job.finished:
            job.step()
        assert job.validation_loss(cache) < 0.95 * first
        # What the text asks in the last block of Stable Diffusion 3 is not read by anything.
        unread = {"transformer.transformer_blocks.1.attn.add_q_proj.lora_B.default.weight"}
        same = {name for name, weight in weights_of(job).items() if torch.equal(weight, start[name])}
        assert same == (unread if isinstance(base, StableDiffusion3) else set())
    with torch.no_grad():
        assert torch.equal(base.predict(x, times, conditioning), before)


def test_a_resumed_job_equals_an_unbroken_one_bit_for_bit(
    base: FlowModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path
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


def test_the_adapted_layers(base: FlowModel, make_config: MakeConfig) -> None:
    """As diffusers' training scripts choose them, by name."""
    own, text = ("to_q", "to_k", "to_v", "to_out.0"), ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    first = {f"transformer_blocks.0.attn.{name}" for name in own + text}
    if isinstance(base, Flux):
        attention = first | {f"single_transformer_blocks.0.attn.{name}" for name in own[:3]}
        feed_forward = {f"transformer_blocks.0.{ff}.net.{layer}" for ff in ("ff", "ff_context") for layer in LAYERS}
    else:
        attention = first | {f"transformer_blocks.0.attn2.{name}" for name in own}
        attention |= {f"transformer_blocks.1.attn.{name}" for name in own + text[:3]}  # its text goes nowhere further
        feed_forward = {f"transformer_blocks.{block}.ff.net.{layer}" for block in range(2) for layer in LAYERS}
        feed_forward |= {f"transformer_blocks.0.ff_context.net.{layer}" for layer in LAYERS}
    for targets, expected in (("attention", attention), (EVERY_LAYER, attention | feed_forward)):
        adapter = attach_adapter(base, make_config(targets=targets))
        try:
            names = {name.split(".lora_")[0] for name in adapter.state_dict("transformer")}
        finally:
            adapter.detach()
        assert names == expected


LAYERS = ("0.proj", "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": "dora"}, r"adapter is 'dora', for which no file of .* is known .* choose one of 'lora', 'rslora'"),
        ({"adapter": "lokr"}, "adapter is 'lokr'"),
        ({"adapter": "loha"}, "adapter is 'loha'"),
        (
            {"text_encoder_rank": 8},
            r"text_encoder_rank is 8 and would change nothing, since the text encoders of .* leave",
        ),
        ({"text_encoder_alpha": 8.0}, r"text_encoder_alpha is 8.0 and would change nothing"),
        ({"text_encoder_steps": 2}, r"text_encoder_steps is 2 and would change nothing"),
        ({"noise_offset": 0.05}, r"noise_offset is 0\.05, but the flow of .* starts from plain noise .* set it to 0"),
        ({"text_encoder_learning_rate": 1e-4}, r"text_encoder_learning_rate is 0\.0001, but .* set it to null or 0"),
    ],
)
def test_what_makes_no_sense_for_a_flow_is_refused(
    base: FlowModel, cache: DataCache, make_config: MakeConfig, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingJob(base, cache, make_config(**changes))


def test_a_scheduler_of_another_kind_is_refused(base: FlowModel, make_config: MakeConfig) -> None:
    other = replace(base, scheduler=FlowMatchHeunDiscreteScheduler())
    with pytest.raises(
        ValueError, match=r"is a FlowMatchHeunDiscreteScheduler, .* its FlowMatchEulerDiscreteScheduler"
    ):
        other.check(make_config())


@pytest.mark.parametrize("scheduler", ["as-is", "dpmsolver++"])
def test_images_are_those_of_the_pipeline_itself_whatever_the_sampler(base: FlowModel, scheduler: SamplerName) -> None:
    pipeline: Any = base.pipeline()
    config = GenerationConfig(steps=3, guidance_scale=3.0, resolution=32, batch_size=2, scheduler=scheduler)
    made = generate_images(pipeline, CAPTIONS[:2], [1, 2], config)
    assert made[0].size == (32, 32)
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
    assert np.asarray(made[0]).std() > 0


def test_a_negative_prompt_steers_stable_diffusion_3_and_is_refused_of_flux(base: FlowModel) -> None:
    config = GenerationConfig(steps=2, guidance_scale=3.0, resolution=32, batch_size=1, negative_prompt="a dog")
    if isinstance(base, Flux):
        with pytest.raises(ValueError, match="negative_prompt is 'a dog', but Flux is guided without one"):
            generate_images(base.pipeline(), CAPTIONS[:1], [1], config)
        return
    (with_it,) = generate_images(base.pipeline(), CAPTIONS[:1], [1], config)
    (without,) = generate_images(base.pipeline(), CAPTIONS[:1], [1], replace(config, negative_prompt=""))
    assert not np.array_equal(np.asarray(with_it), np.asarray(without))


def test_captions_may_be_as_long_as_t5_reads(base: FlowModel, tmp_path: Path) -> None:
    """CLIP here reads 24 tokens, T5 256 or 512 letters with an end; class images' prompts as well."""
    limit = 512 if isinstance(base, Flux) else 256
    write_photo(tmp_path, "photo", seed=0, caption="a" * (limit - 2))
    build_cache(load_photos(tmp_path), base, resolution=RESOLUTION, folder=tmp_path / "cache")
    prior = PriorConfig(prompt="a" * (limit - 2), images=1, steps=1, batch_size=1)
    assert len(draw_class_images(prior, base, resolution=RESOLUTION, folder=tmp_path / "cache")) == 1
    with pytest.raises(ValueError, match=rf"has {limit + 1} tokens, .* text encoder reads {limit}: shorten it"):
        draw_class_images(
            PriorConfig(prompt="a" * (limit - 1), images=1), base, resolution=RESOLUTION, folder=tmp_path / "cache"
        )
    write_photo(tmp_path, "photo", seed=0, caption="a" * (limit - 1))
    with pytest.raises(ValueError, match=rf"more tokens than the {limit} that .* photo\.png \({limit + 1}\)"):
        build_cache(load_photos(tmp_path), base, resolution=RESOLUTION, folder=tmp_path / "cache")


def test_a_model_without_t5_is_refused(base: FlowModel, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(base.folder, copy)
    last = "text_encoder_2" if isinstance(base, Flux) else "text_encoder_3"
    shutil.rmtree(copy / last)
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, last: [None, None]}))
    with pytest.raises(ValueError, match=rf"{last}.config\.json cannot be read .*put back what is missing"):
        load_base_model(copy, device="cpu")
