"""How the ranks of a job share the batches of a step."""

import pytest
import torch

from tests.support.row_cache import one_a_row
from trainer.config import TrainingConfig
from trainer.data.bucketed_cache import BucketedCache
from trainer.data.cache import DataCache
from trainer.data.views import Views
from trainer.job.ranks import Ranks
from trainer.job.step_batches import Batch, StepBatches

CONFIG = TrainingConfig(batch_size=4, gradient_accumulation_steps=2, noise_offset=0.1, dropout=0.5, seed=3)
NAMES = ("rows", "timesteps", "latent_noise", "noise")


def data(photos: int) -> DataCache:
    latents = torch.zeros(photos, 4, 2, 2)
    return one_a_row(latent_mean=latents, latent_std=latents, face_mask=latents[:, 0], conditioning={})


def batches_of(rank: int, count: int, prior: DataCache | None = None) -> StepBatches:
    ranks = Ranks()
    ranks.rank, ranks.count = rank, count
    cache = BucketedCache.of(data(5))
    return StepBatches(cache, Views(), prior, config=CONFIG, ranks=ranks, density=torch.arange(1000))


@pytest.mark.parametrize("kind", ["photos", "class_images"])
def test_the_shares_of_two_ranks_are_the_batch_of_one(kind: str) -> None:
    prior = data(3)
    whole, *halves = (
        list(getattr(batches_of(rank, count, prior), kind)(7)) for rank, count in ((0, 1), (0, 2), (1, 2))
    )
    assert [len(batch) for batch in whole] == [4, 4]
    for batch, first, second in zip(whole, *halves, strict=True):
        for name in NAMES:
            assert torch.equal(getattr(batch, name), torch.cat([getattr(first, name), getattr(second, name)]))


def test_without_class_images_there_are_no_batches_of_them() -> None:
    batches = batches_of(0, 1)
    assert list(batches.class_images(0)) == []
    assert batches.class_inputs is None


def test_dropout_differs_between_ranks_and_leaves_the_process_s_generator_alone() -> None:
    before = torch.get_rng_state()
    drawn = []
    for rank, step in ((0, 1), (1, 1), (0, 2), (0, 1)):
        with batches_of(rank, 2).dropout_randomness(step):
            drawn.append(torch.rand(()).item())
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(drawn)) == 3
    assert drawn[3] == drawn[0]


def test_a_batch_splits_in_order() -> None:
    noise = torch.randn(5, 4, 2, 2)
    batch = Batch(cache=data(5), rows=torch.arange(5), timesteps=torch.arange(5) * 7, latent_noise=noise, noise=-noise)
    parts = batch.split(2)
    assert [len(part) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part.noise for part in parts]), -noise)
    assert parts[2].rows.tolist() == [4]
    assert parts[1].timesteps.tolist() == [14, 21]
    assert parts[0].latent_noise.data_ptr() == noise.data_ptr(), "nothing is copied"
