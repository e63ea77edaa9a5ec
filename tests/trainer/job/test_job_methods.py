"""What a job makes of the numeric methods that its config names."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from tests.support.job_state import watch_gradients, weights_of
from tests.trainer.conftest import MakeConfig, draw_pass
from trainer.data.batches import offset_noise, stream_seed
from trainer.data.cache import DataCache
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel


def test_offset_and_huber_do_what_the_formulas_say(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    """The first loss, written out: offset noise is what is added and what is to be found; delta from sigma."""
    config = make_config(batch_size=3, snr_gamma=None, noise_offset=0.3, loss="huber", huber_c=0.2)
    channels, height, width = cache.latent_mean.shape[1:]
    draw = draw_pass(config.seed, 0, photos=len(cache), count=3, latent_shape=(channels, height, width), timesteps=1000)
    generator = torch.Generator().manual_seed(stream_seed(config.seed, "noise offset", 0))
    noise = draw.noise + 0.3 * torch.randn((3, channels, 1, 1), generator=generator)
    latents = cache.latent_mean[draw.indices] + cache.latent_std[draw.indices] * draw.latent_noise
    oracle = DDPMScheduler.from_config(base.scheduler.config)
    with torch.no_grad():
        noisy = oracle.add_noise(latents, noise, draw.timesteps)
        embeddings = base.text_encoder(cache.conditioning["input_ids"][draw.indices])[0]
        difference = base.denoiser(noisy, draw.timesteps, embeddings).sample - noise
    signal = oracle.alphas_cumprod[draw.timesteps]
    delta = (0.2 + 0.8 / (1 + ((1 - signal) / signal).sqrt()) ** 2).view(3, 1, 1, 1)
    expected = (2 * delta * ((difference**2 + delta**2).sqrt() - delta)).mean()
    with TrainingJob(base, cache, config) as job:
        assert job.step().loss == pytest.approx(expected.item(), rel=1e-5)


def test_an_offset_is_the_same_all_over_a_channel_and_changes_nothing_else() -> None:
    draw = draw_pass(1, 4, photos=7, count=5, latent_shape=(4, 3, 2), timesteps=10)
    (moved,) = offset_noise([draw], 0.5, seed=1, step=4)
    offset = moved.noise - draw.noise
    torch.testing.assert_close(offset, offset[:, :, :1, :1].expand_as(offset), rtol=0, atol=1e-6)
    assert len(set(offset[:, :, 0, 0].flatten().tolist())) == 20
    for name in ("indices", "timesteps", "latent_noise"):
        assert torch.equal(getattr(moved, name), getattr(draw, name))
    assert torch.equal(offset_noise([draw], 0.5, seed=1, step=4)[0].noise, moved.noise)
    assert not torch.equal(offset_noise([draw], 0.5, seed=1, step=5)[0].noise, moved.noise)
    assert offset_noise([draw], 0, seed=1, step=4) == (draw,)


def test_checkpointed_gradients_are_the_kept_ones(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    """Dropout included: what is computed again drops what was dropped."""
    gradients = []
    for checkpointing in (False, True):
        with TrainingJob(base, cache, make_config(gradient_checkpointing=checkpointing, dropout=0.2)) as job:
            assert base.denoiser.is_gradient_checkpointing is checkpointing
            seen = watch_gradients(job)
            job.step()
            job.step()
            gradients.append(seen[1])
    assert base.denoiser.is_gradient_checkpointing is False
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "prodigy"])
def test_the_text_encoder_stops_where_it_is_told_to(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, optimizer: str
) -> None:
    config = make_config(
        text_encoder_steps=2, optimizer=optimizer, text_encoder_learning_rate=None, lr_scheduler="constant"
    )
    moved, rates = [], []
    with TrainingJob(base, cache, config) as job:
        for _ in range(4):
            before = weights_of(job)
            rates.append(job.step().learning_rates)
            after = weights_of(job)
            changed = {name for name in before if not torch.equal(before[name], after[name])}
            moved.append({part for part in base.parts if any(name.startswith(f"{part}.") for name in changed)})
    assert moved == [set(base.parts), set(base.parts), {"unet"}, {"unet"}]
    assert rates == [{"unet": 1e-3, "text_encoder": 1e-3}] * 2 + [{"unet": 1e-3, "text_encoder": 0.0}] * 2
