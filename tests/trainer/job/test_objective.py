"""The loss of two photos of 2 x 2 latents, by hand."""

import pytest
import torch
from torch import Tensor

from tests.support.row_cache import one_a_row
from trainer.config import TrainingConfig
from trainer.data.cache import DataCache
from trainer.job.loss import NoiseSchedule
from trainer.job.objective import Objective

SCHEDULE = NoiseSchedule(signal=torch.tensor([0.8, 0.6]), noise=torch.tensor([0.6, 0.8]), prediction_type="epsilon")
"""Signal-to-noise ratios 16/9 and 9/16: with a gamma of 1 the weights are 9/16 and 1."""

LATENTS = torch.full((2, 1, 2, 2), 10.0)
NOISE = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]], [[[2.0, 2.0], [2.0, 2.0]]]])
"""What a prediction of 0 misses: a mean square of 1/2 in the first photo and of 4 in the second."""
HUBER = ((2**0.5 - 1) + 2 * (5**0.5 - 1)) / 2
"""2 delta (sqrt(d^2 + delta^2) - delta) with delta 1, where d is 1 and 0 in the first photo and 2 in the second."""


@pytest.fixture
def cache() -> DataCache:
    """The left half of the first photo is face."""
    mask = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    return one_a_row(latent_mean=LATENTS, latent_std=torch.zeros_like(LATENTS), face_mask=mask, conditioning={})


def predict_nothing(cache: DataCache, rows: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
    assert times.tolist() == [0, 1]
    torch.testing.assert_close(noisy[0, 0], torch.tensor([[8.6, 8.0], [8.6, 8.0]]))
    torch.testing.assert_close(noisy[1, 0], torch.full((2, 2), 7.6))
    return torch.zeros_like(noisy)


@pytest.mark.parametrize(
    ("settings", "weighted", "expected"),
    [
        ({"snr_gamma": None}, True, (0.5 + 4) / 2),
        ({"snr_gamma": 1.0}, True, (9 / 16 * 0.5 + 4) / 2),
        # Face to rest as 3 to 1, averaging 1: 1.5 and 0.5. The second photo has no face.
        ({"snr_gamma": 1.0, "face_loss_weight": 3.0}, True, (9 / 16 * 0.75 + 4) / 2),
        ({"snr_gamma": None, "loss": "huber", "huber_c": 1.0, "huber_schedule": "constant"}, True, HUBER),
        ({"snr_gamma": 1.0, "face_loss_weight": 3.0, "loss": "huber"}, False, (0.5 + 4) / 2),
    ],
)
def test_each_weight_counts_where_it_should(
    cache: DataCache, settings: dict[str, object], weighted: bool, expected: float
) -> None:
    objective = Objective(SCHEDULE, TrainingConfig(**settings))  # type: ignore[arg-type]
    assert objective.timesteps == 2
    both = torch.tensor([0, 1])
    loss = objective.loss(predict_nothing, cache, both, LATENTS, NOISE, both, weighted=weighted)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
