"""The validation loss takes a few rows at a time: what it holds, and that the answer does not depend on it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.row_cache import one_a_row
from trainer.config import TrainingConfig
from trainer.data.bucketed_cache import BucketedCache
from trainer.data.cache import DataCache
from trainer.job.loss import NoiseSchedule
from trainer.job.objective import Objective
from trainer.job.validation import validation_loss

CPU = torch.device("cpu")


def reference(photos: int) -> BucketedCache:
    """Two sizes of latents, of which neither is a multiple of the 16 numbers that torch draws together."""
    caches = []
    for height in (3, 5):
        latents = torch.randn((photos, 4, height, 5), generator=torch.Generator().manual_seed(height))
        caches.append(
            one_a_row(latent_mean=latents, latent_std=latents, face_mask=latents[:, 0], conditioning={"a": latents})
        )
    return BucketedCache(buckets=tuple(caches))


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_only_the_rows_of_a_forward_pass_are_held_and_their_number_changes_nothing(
    micro_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = NoiseSchedule(
        signal=torch.linspace(1, 0, 1000), noise=torch.linspace(0, 1, 1000), prediction_type="epsilon"
    )
    objective = Objective(schedule, TrainingConfig())
    held: list[int] = []
    drawn: list[int] = []
    randn = torch.randn

    def noted(shape: tuple[int, ...], **options: Any) -> Tensor:
        made = randn(shape, **options)
        drawn.append(made.numel())
        return made

    def predict(cache: DataCache, rows: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        held.append(len(cache))
        assert rows.tolist() == list(range(len(noisy)))
        return noisy * 0.5 + cache.conditioning["a"] * times.view(-1, 1, 1, 1) / 1000

    photos = reference(7)
    monkeypatch.setattr(BucketedCache, "to", lambda *arguments: pytest.fail("all of it was moved"))
    expected = validation_loss(objective, predict, photos, micro_batch=4, device=CPU)
    assert set(held) == {8}
    held.clear()
    monkeypatch.setattr(torch, "randn", noted)
    loss = validation_loss(objective, predict, photos, micro_batch=micro_batch, device=CPU)
    assert max(held) == 2 * micro_batch
    assert sum(held) == 2 * 7 * 8
    assert set(drawn) == {60, 100}, "the noise of a row"
    assert loss == pytest.approx(expected, rel=1e-6)
