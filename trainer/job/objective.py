"""What a job minimises: the denoising loss, with the weights of its timesteps, its error and the faces."""

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.config import TrainingConfig
from trainer.data.cache import DataCache
from trainer.job.loss import NoiseSchedule, denoising_loss, face_weights, huber_thresholds, min_snr_weights

Predict = Callable[[DataCache, Tensor, Tensor, Tensor], Tensor]
"""The model's prediction for rows of a data cache: (cache, Int64[batch] rows, noisy latents, times) to the latents'
shape; times as `NoiseSchedule.times` has them."""


class Objective:
    """The loss of one job on rows of a data cache.

    Args:
        schedule: of the base model; its tables are on the device.
        config: of the job.
    """

    def __init__(self, schedule: NoiseSchedule, config: TrainingConfig) -> None:
        self.schedule = schedule
        self.snr_weights = min_snr_weights(schedule.snr, config.snr_gamma, schedule.prediction_type)
        """Float32[timesteps], see `min_snr_weights`."""
        self._huber_deltas = (
            huber_thresholds(schedule, config.huber_c, config.huber_schedule) if config.loss == "huber" else None
        )
        self._face_loss_weight = config.face_loss_weight

    @property
    def timesteps(self) -> int:
        """Length of the noise schedule."""
        return len(self.snr_weights)

    def loss(
        self,
        predict: Predict,
        cache: DataCache,
        rows: Tensor,
        latents: Tensor,
        noise: Tensor,
        timesteps: Tensor,
        *,
        weighted: bool,
    ) -> Tensor:
        """Denoising loss of a batch, a float32 scalar.

        Args:
            predict: asks the model.
            cache: holds the batch.
            rows: Int64[batch], of the cache.
            latents: Float32[batch, channels, height, width].
            noise: of the same shape.
            timesteps: Int64[batch], of the schedule.
            weighted: False: the plain squared error, in which jobs of other settings compare.
        """
        noisy = self.schedule.add_noise(latents, noise, timesteps)
        target = self.schedule.target(latents, noise, timesteps)
        prediction = predict(cache, rows, noisy, self.schedule.times[timesteps])
        if not weighted:
            return denoising_loss(prediction, target, torch.ones_like(timesteps, dtype=torch.float32))
        deltas = self._huber_deltas[timesteps] if self._huber_deltas is not None else None
        places = face_weights(cache.face_masks_of(rows), self._face_loss_weight) if self._face_loss_weight > 1 else None
        return denoising_loss(prediction, target, self.snr_weights[timesteps], deltas, places=places)
