"""The training job: what a step does, on the demo's base model."""

import math
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.job_state import watch_gradients
from tests.trainer.conftest import FULL, MakeConfig, UnetOutput, draw_pass
from trainer.data.cache import DataCache
from trainer.job.job import TrainingDiverged, TrainingJob
from trainer.job.loss import NoiseSchedule, denoising_loss, min_snr_weights
from trainer.models.loading import BaseModel


def test_a_step_does_what_the_formulas_say(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    """The first loss, from the draw of step 0, the posterior's sample, diffusers' noising and the weights by hand."""
    config = make_config(batch_size=3, snr_gamma=5.0)
    channels, height, width = cache.latent_mean.shape[1:]
    shape = (channels, height, width)
    draw = draw_pass(config.seed, 0, photos=len(cache), count=3, latent_shape=shape, timesteps=1000)
    latents = cache.latent_mean[draw.indices] + cache.latent_std[draw.indices] * draw.latent_noise
    oracle = DDPMScheduler.from_config(base.scheduler.config)
    noisy = oracle.add_noise(latents, draw.noise, draw.timesteps)
    with torch.no_grad():
        embeddings = base.text_encoder(cache.conditioning["input_ids"][draw.indices])[0]
        prediction = base.denoiser(noisy, draw.timesteps, embeddings).sample
    snr = oracle.alphas_cumprod[draw.timesteps] / (1 - oracle.alphas_cumprod[draw.timesteps])
    errors = ((prediction - draw.noise) ** 2).mean(dim=(1, 2, 3))
    expected = (torch.minimum(snr, torch.tensor(5.0)) / snr * errors).mean()
    with TrainingJob(base, cache, config) as job:
        report = job.step()
    assert report.step == 1
    assert report.loss == pytest.approx(expected.item(), rel=1e-5)


def test_the_cached_embeddings_stand_in_for_an_untrained_text_encoder(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    for rate in (1e-4, 0.0):
        with TrainingJob(base, cache, make_config(text_encoder_learning_rate=rate)) as job:
            if rate == 0:
                monkeypatch.setattr(base.text_encoder, "forward", lambda *_, **__: pytest.fail("encoded a caption"))
            losses.append(job.step().loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_training_lowers_the_loss_on_the_training_photos(
    base: BaseModel, cache: DataCache, make_config: MakeConfig
) -> None:
    with TrainingJob(base, cache, make_config(steps=12, learning_rate=1e-2, targets=FULL)) as job:
        before = job.validation_loss(cache)
        while not job.finished:
            job.step()
        assert job.step_count == 12
        assert job.validation_loss(cache) < 0.9 * before
        with pytest.raises(RuntimeError, match="finished at step 12"):
            job.step()


def test_the_two_learning_rates_reach_their_own_weights(
    base: BaseModel, cache: DataCache, make_config: MakeConfig
) -> None:
    """Adam's first step moves a weight that starts at 0 (every B) by its learning rate, whatever the gradient."""
    config = make_config(learning_rate=2e-3, text_encoder_learning_rate=5e-5, lr_scheduler="constant")
    with TrainingJob(base, cache, config) as job:
        assert job.step().learning_rates == {"unet": 2e-3, "text_encoder": 5e-5}
        for part, rate in zip(base.parts, (2e-3, 5e-5), strict=True):
            moved = [weight for name, weight in job.adapter.named_parameters(part).items() if ".lora_B." in name]
            assert max(weight.abs().max().item() for weight in moved) == pytest.approx(rate, rel=1e-3)
        groups = job._optimizer_step.optimizer.param_groups
        assert [group["lr"] for group in groups] == [2e-3, 5e-5]
        assert [list(map(id, group["params"])) for group in groups] == [
            list(map(id, job.adapter.parameters(part))) for part in base.parts
        ]


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        ("constant", lambda progress: 1.0),
        ("cosine", lambda progress: 0.5 * (1 + math.cos(math.pi * progress))),
        ("cosine_with_restarts", lambda progress: 0.5 * (1 + math.cos(math.pi * (2 * progress % 1)))),
    ],
)
def test_the_schedule_moves_once_an_optimizer_step(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, schedule: str, factor: Callable[[float], float]
) -> None:
    """Two warm-up steps, four steps of schedule, two cycles; two forward passes a step change nothing."""
    config = make_config(
        lr_scheduler=schedule,
        lr_cycles=2,
        lr_warmup_steps=2,
        steps=6,
        gradient_accumulation_steps=2,
        batch_size=1,
    )
    expected = [0, 0.5] + [factor(step / 4) for step in range(4)]
    with TrainingJob(base, cache, config) as job:
        rates = [job.step().learning_rates for _ in range(6)]
    assert [rate["unet"] for rate in rates] == pytest.approx([1e-3 * value for value in expected])
    assert [rate["text_encoder"] for rate in rates] == pytest.approx([1e-4 * value for value in expected])


def test_two_accumulated_photos_are_a_batch_of_two(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    losses, gradients = [], []
    for batch_size, accumulation in ((4, 1), (2, 2), (1, 4)):
        config = make_config(batch_size=batch_size, gradient_accumulation_steps=accumulation)
        with TrainingJob(base, cache, config) as job:
            seen = watch_gradients(job)
            losses.append([job.step().loss for _ in range(2)])
        assert len(seen) == 2
        gradients.append(seen[0])
    for other in (1, 2):
        assert losses[other] == pytest.approx(losses[0], rel=1e-4)
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradients[other][name], gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("limit", [1e-3, math.inf])
def test_gradients_of_both_parts_are_clipped_together(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, limit: float
) -> None:
    with TrainingJob(base, cache, make_config(max_grad_norm=limit)) as job:
        seen = watch_gradients(job)
        job.step()
        count = sum(len(job.adapter.parameters(part)) for part in base.parts)
    assert len(seen[0]) == count
    norm = math.sqrt(sum(gradient.double().square().sum().item() for gradient in seen[0].values()))
    if limit == math.inf:
        assert norm > 2e-3
    else:
        assert norm == pytest.approx(limit, rel=1e-3)


def test_dropout_is_a_function_of_seed_and_step(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    runs = []
    for disturbance in range(2):
        with TrainingJob(base, cache, make_config(dropout=0.5)) as job:
            torch.manual_seed(disturbance)
            state = torch.get_rng_state()
            runs.append([job.step().loss for _ in range(3)])
            assert torch.equal(torch.get_rng_state(), state)
    with TrainingJob(base, cache, make_config()) as job:
        undropped = [job.step().loss for _ in range(3)]
    assert runs[0] == runs[1]
    assert runs[0][0] == undropped[0]  # B is still 0, so what A drops does not show
    assert runs[0][2] != undropped[2]


def test_evaluation_sees_the_adapter_without_dropout_or_gradients(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, unet_output: UnetOutput
) -> None:
    untouched = unet_output(base)
    with TrainingJob(base, cache, make_config(dropout=0.5)) as job:
        job.step()
        with job.evaluation_mode():
            assert not torch.is_grad_enabled()
            first, second = unet_output(base), unet_output(base)
        assert torch.is_grad_enabled()
        assert torch.equal(first, second)
        assert not torch.equal(first, untouched)
        assert not torch.equal(unet_output(base), unet_output(base))
    assert torch.equal(unet_output(base), untouched)


def test_validation_loss_worked_out_beside_it(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    """Five photos, eight timesteps each, evenly over 1,000: 12, 37, ... 987."""
    rows = torch.arange(40)
    noise = torch.randn((40, *cache.latent_mean.shape[1:]), generator=torch.Generator().manual_seed(0))
    timesteps = rows * 25 + 12
    schedule = NoiseSchedule.of(base.scheduler, base.device)
    noisy = schedule.add_noise(cache.latent_mean[rows % 5], noise, timesteps)
    with torch.no_grad():
        prediction = base.denoiser(noisy, timesteps, cache.conditioning["text_embeddings"][rows % 5]).sample
    expected = denoising_loss(
        prediction, schedule.target(cache.latent_mean[rows % 5], noise, timesteps), torch.ones(40)
    )
    values = []
    for seed, rate in ((0, 1e-4), (1, 0.0)):
        config = make_config(seed=seed, text_encoder_learning_rate=rate, snr_gamma=1.0)
        with TrainingJob(base, cache, config) as job:
            values.append(job.validation_loss(cache))
            assert job.validation_loss(cache) == values[-1]
    assert values == pytest.approx([expected.item()] * 2, rel=1e-5)


def test_divergence_is_reported_and_not_saved(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: object
) -> None:
    broken = replace(cache, latent_mean=torch.full_like(cache.latent_mean, math.nan))
    with TrainingJob(base, broken, make_config()) as job:
        with pytest.raises(TrainingDiverged, match="not finite at step 1; use a lower learning rate") as caught:
            job.step()
        assert caught.value.step == 1
        with pytest.raises(TrainingDiverged):
            job.save(tmp_path / "checkpoint")  # type: ignore[operator]
    assert os.listdir(tmp_path) == []  # type: ignore[call-overload] # noqa: PTH208


class Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operators whose name holds one of the texts."""

    def __init__(self, *texts: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.texts = texts
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
        name = str(function)
        self.count += any(text in name for text in self.texts)
        return function(*arguments, **(keywords or {}))


SYNCHRONISATIONS = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select")
"""Operators that would make the host wait for a GPU."""


def test_a_step_reads_one_number_from_the_device(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    """On a CPU the loss is checked at every step, which is this one reading; a GPU is read every 25th step."""
    with TrainingJob(base, cache, make_config(gradient_accumulation_steps=2)) as job:
        job.step()
        with Calls(*SYNCHRONISATIONS) as mode:
            report = job.step()
        assert mode.count == 1
        with Calls(*SYNCHRONISATIONS) as mode:
            assert math.isfinite(report.loss)
        assert mode.count == 1


def test_attention_is_one_operator_there_and_one_back(
    base: BaseModel, cache: DataCache, make_config: MakeConfig
) -> None:
    """Of the UNet's seven transformer blocks two each, and of the text encoder's two layers, adapted as they are."""
    with TrainingJob(base, cache, make_config()) as job, Calls("_scaled_dot_product") as calls:
        job.step()
    assert calls.count == 2 * (2 * 7 + 2)


def test_weights_of_the_loss_are_min_snr(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    schedule = NoiseSchedule.of(base.scheduler, base.device)
    for gamma in (5.0, None):
        with TrainingJob(base, cache, make_config(snr_gamma=gamma)) as job:
            expected = min_snr_weights(schedule.snr, gamma, schedule.prediction_type)
            assert torch.equal(job._objective.snr_weights, expected)
