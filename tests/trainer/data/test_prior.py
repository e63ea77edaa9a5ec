"""The loss on class images beside that on the photos."""

from pathlib import Path

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from tests.support.job_state import watch_gradients, weights_of
from tests.trainer.conftest import RESOLUTION, MakeConfig, draw_pass, write_photo
from tests.trainer.job.test_resume import groups_of, optimizer_state, run
from trainer.config import TrainingConfig
from trainer.data.batches import stream_seed
from trainer.data.cache import DataCache, build_cache
from trainer.data.photos import load_photos
from trainer.data.prior import build_prior_cache, draw_class_step
from trainer.data.prior_config import PriorConfig
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel


@pytest.fixture(scope="module")
def prior(loaded_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> DataCache:
    """Three encoded class images."""
    folder = tmp_path_factory.mktemp("men")
    for number in range(3):
        write_photo(folder, f"man{number}", seed=100 + number, caption=f"a man, number {number}")
    return build_cache(load_photos(folder), loaded_base, resolution=RESOLUTION, folder=folder / "cache")


def plain_loss(base: BaseModel, cache: DataCache, config: TrainingConfig, seed: int) -> Tensor:
    """The first step's loss on a cache, drawn by `seed`: diffusers' noising, min-SNR with gamma 5, all in one batch."""
    channels, height, width = cache.latent_mean.shape[1:]
    shape = (channels, height, width)
    count = config.photos_per_step
    draw = draw_pass(seed, 0, photos=len(cache), count=count, latent_shape=shape, timesteps=1000)
    latents = cache.latent_mean[draw.indices] + cache.latent_std[draw.indices] * draw.latent_noise
    oracle = DDPMScheduler.from_config(base.scheduler.config)
    noisy = oracle.add_noise(latents, draw.noise, draw.timesteps)
    embeddings = base.text_encoder(cache.conditioning["input_ids"][draw.indices])[0]
    prediction = base.denoiser(noisy, draw.timesteps, embeddings).sample
    snr = oracle.alphas_cumprod[draw.timesteps] / (1 - oracle.alphas_cumprod[draw.timesteps])
    errors = ((prediction - draw.noise) ** 2).mean(dim=(1, 2, 3))
    loss: Tensor = (torch.minimum(snr, torch.tensor(5.0)) / snr * errors).mean()
    return loss


@pytest.mark.parametrize(("batch_size", "accumulation"), [(4, 1), (2, 2)])
def test_loss_and_gradients_are_those_of_two_terms(
    base: BaseModel,
    cache: DataCache,
    prior: DataCache,
    make_config: MakeConfig,
    batch_size: int,
    accumulation: int,
) -> None:
    """Loss on the photos + weight * loss on the class images, UNet and text encoder, however it is accumulated."""
    config = make_config(
        batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        prior_loss_weight=0.7,
        max_grad_norm=float("inf"),
    )
    with TrainingJob(base, cache, config, prior=prior) as job:
        names = list(weights_of(job))
        weights = [weight for part in job.adapter.parts for weight in job.adapter.parameters(part)]
        terms = [
            plain_loss(base, cache, config, config.seed),
            plain_loss(base, prior, config, stream_seed(config.seed, "prior", 0)),
        ]
        expected = terms[0] + 0.7 * terms[1]
        gradients = torch.autograd.grad(expected, weights)
        seen = watch_gradients(job)
        loss = job.step().loss
    assert terms[0].item() != pytest.approx(terms[1].item(), rel=0.01)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert len(seen) == 1
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(seen[0][name.split(".", 1)[1]], gradient, rtol=1e-3, atol=1e-6)


def test_a_weight_of_0_is_the_job_without(
    base: BaseModel, cache: DataCache, prior: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Bit for bit, and each goes on from the other's checkpoint."""
    outcomes = []
    for given in (None, prior):
        with TrainingJob(base, cache, make_config(dropout=0.1), prior=given) as job:
            reports = run(job, 3)
            outcomes.append((reports, weights_of(job), optimizer_state(job)))
            job.save(tmp_path / f"{given is None}")
    (reports, weights, moments), (other_reports, other_weights, other_moments) = outcomes
    assert reports == other_reports
    assert weights.keys() == other_weights.keys()
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)
    for one, other in zip(moments, other_moments, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    with TrainingJob(base, cache, make_config(dropout=0.1), prior=prior) as job:
        job.restore(tmp_path / "True")
        assert job.step_count == 3


def test_a_resumed_job_equals_the_uninterrupted_one_bit_for_bit(
    base: BaseModel, cache: DataCache, prior: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        prior_loss_weight=0.5,
        dropout=0.2,
        noise_offset=0.1,
        loss="huber",
        batch_size=1,
        gradient_accumulation_steps=2,
        text_encoder_steps=4,
    )
    with TrainingJob(base, cache, config, prior=prior) as job:
        whole = run(job, 6)
        weights, moments, groups = weights_of(job), optimizer_state(job), groups_of(job)
    with TrainingJob(base, cache, config, prior=prior) as job:
        first = run(job, 3)
        job.save(tmp_path / "checkpoint")
        job.step()
    torch.manual_seed(999)
    with TrainingJob(base, cache, config, prior=prior) as job:
        job.restore(tmp_path / "checkpoint")
        assert first + run(job, 3) == whole
        resumed = weights_of(job)
        assert resumed.keys() == weights.keys()
        assert all(torch.equal(weights[name], resumed[name]) for name in weights)
        for one, other in zip(optimizer_state(job), moments, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)
        assert groups_of(job) == groups


def test_a_checkpoint_of_other_class_images_is_refused(
    base: BaseModel, cache: DataCache, prior: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(prior_loss_weight=1.0)
    with TrainingJob(base, cache, config, prior=prior) as job:
        job.step()
        job.save(tmp_path / "checkpoint")
    with (
        TrainingJob(base, cache, config, prior=cache) as job,
        pytest.raises(ValueError, match=r"another job: class image man0\.png \(used there, missing here\)"),
    ):
        job.restore(tmp_path / "checkpoint")


def test_a_weight_without_class_images_is_refused_with_the_remedy(
    base: BaseModel, cache: DataCache, make_config: MakeConfig
) -> None:
    with pytest.raises(ValueError, match=r"prior_loss_weight is 1.0, but there are no class images; give photos.prior"):
        TrainingJob(base, cache, make_config(prior_loss_weight=1.0))


def test_class_images_come_in_epochs_of_their_own(prior: DataCache, make_config: MakeConfig) -> None:
    """As many as there are photos, each once before any comes twice; a function of seed and step."""
    config = make_config(batch_size=1, gradient_accumulation_steps=3, prior_loss_weight=1.0)

    def drawn(config: TrainingConfig, step: int) -> dict[str, Tensor]:
        """All forward passes of a step, one after the other."""
        passes = draw_class_step(config, step, prior, timesteps=1000)
        return {name: torch.cat([getattr(each, name) for each in passes]) for name in ("indices", "timesteps", "noise")}

    draws = [drawn(config, step) for step in range(4)]
    assert [sorted(draw["indices"].tolist()) for draw in draws] == [[0, 1, 2]] * 4
    again = drawn(config, 3)
    assert all(torch.equal(draws[3][name], again[name]) for name in again)
    assert not torch.equal(draws[2]["noise"], draws[3]["noise"])
    other = drawn(make_config(batch_size=3, seed=1), 3)
    assert not torch.equal(draws[3]["noise"], other["noise"])
    photos = draw_pass(config.seed, 0, photos=3, count=3, latent_shape=prior.latent_shape, timesteps=1000)
    assert not torch.equal(draws[0]["noise"], photos.noise)
    assert not torch.equal(draws[0]["timesteps"], photos.timesteps)


def test_drawn_and_supplied_class_images_are_encoded_alike(base: BaseModel, tmp_path: Path) -> None:
    drawn = PriorConfig(prompt="a photo of a man", images=2, steps=2)
    cache = build_prior_cache(drawn, (), base, resolution=RESOLUTION, folder=tmp_path / "cache")
    encoded = {path.name for path in (tmp_path / "cache").glob("*.safetensors")}
    (images,) = (tmp_path / "cache").glob("class-images-*")
    assert len(list((tmp_path / "cache").iterdir())) == len(encoded) + 1 == 3
    assert sorted(path.name for path in images.iterdir()) == [".locks", "00000.png", "00001.png"]
    supplied = load_photos(images, minimum_side=8, caption_template="a photo of a man")
    prior = PriorConfig(prompt="a photo of a man", folder=images)
    again = build_prior_cache(prior, supplied, base, resolution=RESOLUTION, folder=tmp_path / "other")
    assert again.sha256 == cache.sha256
    assert [(each.name, each.sha256) for each in cache.inputs] == [
        (f"0000{seed}.png", images.name) for seed in range(2)
    ], "known by what they are drawn from, for pixels differ between machines"
    assert [each.sha256 for each in again.inputs] == [photo.sha256 for photo in supplied]
    assert {path.name for path in (tmp_path / "other").iterdir()} == encoded
