"""The denoising loss, its schedule and its weights, worked by hand and against diffusers."""

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.training_utils import compute_snr

from trainer.config import HuberSchedule
from trainer.job.loss import (
    NoiseSchedule,
    PredictionType,
    denoising_loss,
    face_weights,
    huber_thresholds,
    min_snr_weights,
    pseudo_huber,
)
from trainer.models.loading import BaseModel

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("prediction_type", "gamma", "expected"),
    [  # at signal-to-noise ratios 20, 5, 1 and 0
        ("epsilon", 5.0, [5 / 20, 1, 1, 1]),
        ("epsilon", 1.0, [1 / 20, 1 / 5, 1, 1]),
        ("v_prediction", 5.0, [5 / 21, 5 / 6, 1 / 2, 0]),
        ("v_prediction", 1.0, [1 / 21, 1 / 6, 1 / 2, 0]),
        ("epsilon", None, [1, 1, 1, 1]),
        ("v_prediction", None, [1, 1, 1, 1]),
    ],
)
def test_min_snr_weights_worked_by_hand(
    prediction_type: PredictionType, gamma: float | None, expected: list[float]
) -> None:
    snr = torch.tensor([20.0, 5.0, 1.0, 0.0], dtype=torch.float64)
    weights = min_snr_weights(snr, gamma, prediction_type)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)


def test_the_loss_worked_by_hand() -> None:
    """Squared errors 1 and 9 (each over every element) weighted 0.5 and 2 average to 9.25."""
    target = torch.zeros(2, 4, 3, 5)
    prediction = torch.stack([torch.ones(4, 3, 5), torch.full((4, 3, 5), -3.0)])
    assert denoising_loss(prediction, target, torch.tensor([0.5, 2.0])).item() == 9.25


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("rescale", [False, True])
def test_noising_and_targets_are_those_of_diffusers(prediction_type: str, rescale: bool) -> None:
    oracle = DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        rescale_betas_zero_snr=rescale,
    )
    schedule = NoiseSchedule.of(oracle, CPU)
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 6, 4, 8, 8, generator=generator)
    timesteps = torch.tensor([0, 1, 250, 500, 750, 999])
    oracle_target = noise if prediction_type == "epsilon" else oracle.get_velocity(latents, noise, timesteps)
    noisy = oracle.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(schedule.add_noise(latents, noise, timesteps), noisy, rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.target(latents, noise, timesteps), oracle_target, rtol=0, atol=1e-6)
    torch.testing.assert_close(schedule.snr[timesteps], compute_snr(oracle, timesteps))


def test_the_demo_model_s_schedule_follows_its_config(base: BaseModel) -> None:
    schedule = NoiseSchedule.of(base.scheduler, CPU)
    assert schedule.prediction_type == base.scheduler.config["prediction_type"]
    assert len(schedule.signal) == base.scheduler.config["num_train_timesteps"]


def test_a_model_that_predicts_the_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="prediction type is 'sample'"):
        NoiseSchedule.of(DDPMScheduler(prediction_type="sample"), CPU)


def test_pseudo_huber_worked_by_hand() -> None:
    """2 x 3 x (sqrt(4^2 + 3^2) - 3) = 12; the square near 0; 2 delta |difference| - 2 delta^2 far away."""
    difference = torch.tensor([4.0, -4.0, 1e-3, 3e4], dtype=torch.float64)
    expected = torch.tensor([12.0, 12.0, 1e-6, 6 * 3e4 - 18], dtype=torch.float64)
    actual = pseudo_huber(difference, torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-13)


def test_each_photo_has_its_own_delta_and_weight() -> None:
    prediction = torch.full((2, 4, 3, 3), 4.0)
    loss = denoising_loss(prediction, torch.zeros_like(prediction), torch.tensor([1.0, 0.5]), torch.tensor([3.0, 7.5]))
    assert loss.item() == pytest.approx((12 + 0.5 * 15) / 2)  # 2 x 7.5 x (8.5 - 7.5) = 15


@pytest.mark.parametrize(
    ("kind", "expected"),
    [  # at a signal of 1 (no noise) and of 0.6 with noise 0.8, timesteps 0 and 1 of 2
        ("constant", [0.25, 0.25]),
        ("exponential", [1.0, 0.5]),
        ("snr", [1.0, 0.25 + 0.75 * (0.6 / 1.4) ** 2]),
    ],
)
def test_huber_thresholds_worked_by_hand(kind: HuberSchedule, expected: list[float]) -> None:
    schedule = NoiseSchedule(signal=torch.tensor([1.0, 0.6]), noise=torch.tensor([0.0, 0.8]), prediction_type="epsilon")
    torch.testing.assert_close(huber_thresholds(schedule, 0.25, kind), torch.tensor(expected), rtol=1e-6, atol=0)


def test_a_face_counts_more_and_the_weights_of_a_photo_average_one() -> None:
    """Weight 3 on a quarter of the places: 3 / 1.5 = 2 there and 1 / 1.5 elsewhere; without a face 1."""
    mask = torch.zeros(2, 2, 2)
    mask[0, 0, 1] = 1
    places = face_weights(mask, 3.0)
    torch.testing.assert_close(places[0, 0], torch.tensor([[2 / 3, 2], [2 / 3, 2 / 3]]))
    assert torch.equal(places[1, 0], torch.ones(2, 2))
    prediction = torch.zeros(2, 4, 2, 2)
    target = torch.tensor([[1.0, 3.0], [0.0, 0.0]]).expand(2, 4, 2, 2)
    # (1 x 2/3 + 9 x 2) / 4 with a face, (1 + 9) / 4 without
    expected = (2 * (2 / 3 + 18) / 4 + 5 * 10 / 4) / 2
    loss = denoising_loss(prediction, target, torch.tensor([2.0, 5.0]), places=places)
    assert loss.item() == pytest.approx(expected)


def test_a_face_counts_more_in_a_pseudo_huber_loss_too() -> None:
    """Errors of 4 under a delta of 3 are 12 each, of 0 nothing; the place of the one weighs 2, of the other 2 / 3."""
    mask = torch.zeros(1, 2, 2)
    mask[0, 0, 1] = 1
    prediction = torch.zeros(1, 4, 2, 2)
    prediction[:, :, 0, 1] = 4
    prediction[:, :, 1, 0] = -4
    loss = denoising_loss(
        prediction,
        torch.zeros_like(prediction),
        torch.tensor([0.5]),
        torch.tensor([3.0]),
        places=face_weights(mask, 3.0),
    )
    assert loss.item() == pytest.approx(0.5 * (12 * 2 + 12 * 2 / 3) / 4)
