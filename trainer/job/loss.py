"""The denoising objective: noising, the target of the prediction, and the min-SNR weights of its squared error."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from trainer.config import HuberSchedule

PredictionType = Literal["epsilon", "v_prediction", "flow"]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The path from a picture to noise, x_t = signal_t * x_0 + noise_t * epsilon, as tables over the timesteps t."""

    signal: Tensor
    """Float32[timesteps], sqrt(alpha_bar_t) of a diffusion, 1 - sigma_t of a flow."""
    noise: Tensor
    """Float32[timesteps], sqrt(1 - alpha_bar_t) of a diffusion, sigma_t of a flow; rises with the timestep."""
    prediction_type: PredictionType

    @classmethod
    def of(cls, scheduler: ConfigMixin, device: torch.device) -> "NoiseSchedule":
        """The schedule that a pipeline's sampler describes: a flow's with its shift, if that is fixed.

        Raises:
            ValueError: the model predicts something other than the noise or the velocity.
        """
        if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            sigmas = type(scheduler).from_config(scheduler.config).sigmas.float().flip(0)
            return cls(signal=(1 - sigmas).to(device), noise=sigmas.to(device), prediction_type="flow")
        reference = DDPMScheduler.from_config(scheduler.config)
        prediction_type = reference.config.prediction_type
        if prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(
                f"the base model's prediction type is {prediction_type!r}; "
                "use a model that predicts 'epsilon' or 'v_prediction'"
            )
        cumulative = reference.alphas_cumprod.float()
        return cls(
            signal=cumulative.sqrt().to(device),
            noise=(1 - cumulative).sqrt().to(device),
            prediction_type=prediction_type,
        )

    @property
    def snr(self) -> Tensor:
        """Float32[timesteps], the signal-to-noise ratio (signal_t / noise_t) ** 2."""
        return (self.signal / self.noise) ** 2

    @cached_property
    def times(self) -> Tensor:
        """[timesteps], the denoiser's input of time: the timestep, Int64; for a flow sigma_t in timesteps, Float32."""
        count = len(self.noise)
        return self.noise * count if self.prediction_type == "flow" else torch.arange(count, device=self.noise.device)

    @cached_property
    def density(self) -> Tensor:
        """Int64[timesteps], the timestep that is trained on where the uniform draw over all timesteps is t.

        t itself for a diffusion. For a flow its quantile of the logit-normal density, in which the middle of the path
        comes more often (Esser et al. 2024, https://arxiv.org/abs/2403.03206, section 3.1: location 0, scale 1).
        """
        count = len(self.noise)
        drawn = torch.arange(count, device=self.noise.device)
        if self.prediction_type != "flow":
            return drawn
        quantiles: Tensor = torch.special.ndtri((drawn.double() + 0.5) / count).sigmoid()
        return (quantiles * count).long()

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t of the same shape as `latents` [batch, channels, height, width]; `timesteps` is Int64[batch]."""
        return _per_image(self.signal, timesteps) * latents + _per_image(self.noise, timesteps) * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the denoiser should predict.

        Epsilon, the velocity v = signal_t * epsilon - noise_t * x_0, or of a flow epsilon - x_0 (Liu et al. 2022,
        https://arxiv.org/abs/2209.03003), which it follows from noise to the picture in the reverse direction.
        """
        if self.prediction_type == "flow":
            return noise - latents
        if self.prediction_type == "epsilon":
            return noise
        return _per_image(self.signal, timesteps) * noise - _per_image(self.noise, timesteps) * latents


def min_snr_weights(snr: Tensor, gamma: float | None, prediction_type: PredictionType) -> Tensor:
    """Weight of the squared error at each signal-to-noise ratio (Hang et al. 2023, https://arxiv.org/abs/2303.09556).

    min(SNR, gamma) / SNR when the model predicts the noise epsilon and min(SNR, gamma) / (SNR + 1) when it predicts the
    velocity v; both weigh the error of the implied x_0 by min(SNR, gamma). With gamma None every weight is 1, and for a
    flow, whose density of timesteps takes the place of weights.

    Args:
        snr: Float[timesteps], at least 0.
        gamma: above 0, or None.
        prediction_type: what the model predicts.
    """
    if gamma is None or prediction_type == "flow":
        return torch.ones_like(snr)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1)  # the same quotient, and 1 rather than 0 / 0 where SNR is 0
    return snr.clamp(max=gamma) / (snr + 1)


def huber_thresholds(schedule: NoiseSchedule, c: float, kind: HuberSchedule) -> Tensor:
    """Float32[timesteps], the error delta_t at which the pseudo-Huber loss turns linear.

    (Khrapov et al. 2024, https://arxiv.org/abs/2403.16728.) "constant" is c everywhere. The others fall from 1 where
    there is no noise to c where there is most: "exponential" as c ** (t / T), "snr" as c + (1 - c) / (1 + sigma_t) ** 2
    with sigma_t the noise relative to the signal.

    Args:
        schedule: of the model.
        c: above 0, below 1 unless constant.
        kind: one of the three.
    """
    if kind == "constant":
        return torch.full_like(schedule.signal, c)
    if kind == "exponential":
        timesteps = torch.arange(len(schedule.signal), device=schedule.signal.device)
        return torch.exp(timesteps * (math.log(c) / len(schedule.signal)))
    return c + (1 - c) / (1 + schedule.noise / schedule.signal) ** 2


def pseudo_huber(difference: Tensor, delta: Tensor) -> Tensor:
    """2 delta (sqrt(difference ** 2 + delta ** 2) - delta): the square near 0, 2 delta |difference| far from it.

    Args:
        difference: Float32[batch, channels, height, width].
        delta: Float32[batch, 1, 1, 1], above 0.
    """
    return 2 * delta * ((difference.square() + delta.square()).sqrt() - delta)


def face_weights(mask: Tensor, weight: float) -> Tensor:
    """Weight of the error at each place: `weight` on the face to 1 elsewhere, scaled to average 1 over a photo.

    Args:
        mask: Float32[batch, height, width] in [0, 1], how much of each place is face.
        weight: at least 1.

    Returns:
        Float32[batch, 1, height, width].
    """
    weights = 1 + (weight - 1) * mask
    return (weights / weights.mean((1, 2), keepdim=True))[:, None]


def denoising_loss(
    prediction: Tensor,
    target: Tensor,
    weights: Tensor,
    huber_delta: Tensor | None = None,
    *,
    places: Tensor | None = None,
) -> Tensor:
    """Mean over the batch of weight * mean error, a float32 scalar; the error is squared, or pseudo-Huber.

    Args:
        prediction: Float[batch, channels, height, width].
        target: of the same shape.
        weights: Float32[batch].
        huber_delta: Float32[batch], see `pseudo_huber`; None for the squared error.
        places: Float32[batch, 1, height, width], weights within each photo that average 1; None weighs all alike.
    """
    difference = prediction.float() - target.float()
    error = difference.square() if huber_delta is None else pseudo_huber(difference, huber_delta.view(-1, 1, 1, 1))
    if places is not None:
        error = error * places
    return (weights * error.flatten(1).mean(1)).mean()


def _per_image(table: Tensor, timesteps: Tensor) -> Tensor:
    return table[timesteps].view(-1, 1, 1, 1)
