from collections import Counter

import pytest
import torch
from torch import Tensor

from trainer.batches import StepDraw, batch_indices, draw_step, shown_rows, stream_seed
from trainer.config import TrainingConfig
from trainer.views import Views

NAMES = ("indices", "timesteps", "latent_noise", "noise")


def draw(seed: int = 5, step: int = 3, count: int = 4) -> StepDraw:
    return draw_step(seed, step, photos=7, count=count, latent_shape=(4, 8, 8), timesteps=1000)


@pytest.mark.parametrize(("photos", "batch_size"), [(7, 2), (3, 5), (1, 4), (6, 6)])
def test_every_photo_comes_once_an_epoch(photos: int, batch_size: int) -> None:
    steps = 3 * photos
    sequence = torch.cat([batch_indices(0, step, photos, batch_size) for step in range(steps)]).tolist()
    for first in range(0, len(sequence), photos):
        assert Counter(sequence[first : first + photos]) == Counter(range(photos))


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    orders = {tuple(batch_indices(seed, epoch, 12, 12).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_does_not_depend_on_how_it_is_cut_into_batches() -> None:
    by_one = torch.cat([batch_indices(4, step, 5, 1) for step in range(12)])
    by_three = torch.cat([batch_indices(4, step, 5, 3) for step in range(4)])
    assert torch.equal(by_one, by_three)


def test_a_draw_is_a_function_of_seed_and_step() -> None:
    torch.manual_seed(0)
    first = draw()
    torch.manual_seed(1)
    again = draw()
    for name in NAMES:
        assert torch.equal(getattr(first, name), getattr(again, name))
    for other in (draw(step=4), draw(seed=6)):
        assert not any(torch.equal(getattr(first, name), getattr(other, name)) for name in NAMES)


def test_a_draw_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draw()
    assert torch.equal(torch.get_rng_state(), before)


def test_draws_are_standard_normal_and_uniform() -> None:
    """Three standard errors: 20,000 photos and 5.12 million numbers for each noise."""
    large = draw(count=20_000)
    for noise in (large.latent_noise, large.noise):
        assert abs(noise.mean().item()) < 3 / noise.numel() ** 0.5
        assert abs(noise.var().item() - 1) < 3 * (2 / noise.numel()) ** 0.5
    correlation = (large.latent_noise * large.noise).mean().item()
    assert abs(correlation) < 3 / large.noise.numel() ** 0.5
    assert (large.timesteps.min().item(), large.timesteps.max().item()) == (0, 999)
    assert abs(large.timesteps.float().mean().item() - 499.5) < 3 * (1e6 / 12 / 20_000) ** 0.5


def test_streams_have_seeds_of_their_own() -> None:
    seeds = {stream_seed(seed, stream, index) for seed in range(5) for stream in "ab" for index in range(5)}
    assert len(seeds) == 50
    assert all(0 <= seed < 2**63 for seed in seeds)


VIEWS = Views(mirrored=True, tag_orders=4, empty_caption=True)


def shown(step: int, indices: Tensor, views: Views = VIEWS, **changes: float) -> Tensor:
    return shown_rows(indices, photos=7, views=views, config=TrainingConfig(seed=5, **changes), step=step)  # type: ignore[arg-type]


def test_photos_are_shown_as_they_are_by_default() -> None:
    indices = torch.tensor([3, 0, 6])
    assert torch.equal(shown(0, indices), indices)
    assert torch.equal(shown(0, indices, Views()), indices)


def test_a_certain_form_is_always_shown() -> None:
    """Five captions a side, seven photos a form: mirrored ones begin at row 35."""
    indices = torch.tensor([3, 0, 6])
    assert torch.equal(shown(2, indices, horizontal_flip=1.0), 35 + indices)
    nearly = shown(2, indices, caption_dropout=1 - 1e-9)
    assert torch.equal(nearly, 4 * 7 + indices)


def test_forms_come_as_often_as_asked_for_and_independently() -> None:
    """Three standard errors of 20,000 draws; a dropped caption is in no order."""
    rows = shown(1, torch.full((20_000,), 2), horizontal_flip=0.5, caption_shuffle=0.8, caption_dropout=0.1)
    assert set((rows % 7).tolist()) == {2}
    form = rows // 7
    shares = torch.bincount(form, minlength=10).double() / 20_000
    for side in (shares[:5], shares[5:]):
        expected = [0.5 * 0.9 * (0.2 + 0.8 / 4), *[0.5 * 0.9 * 0.2] * 3, 0.5 * 0.1]
        for found, share in zip(side.tolist(), expected, strict=True):
            assert abs(found - share) < 3 * (share * (1 - share) / 20_000) ** 0.5


def test_the_forms_of_a_step_depend_on_seed_and_step_alone() -> None:
    indices = torch.zeros(64, dtype=torch.int64)
    first = shown(3, indices, horizontal_flip=0.5)
    torch.manual_seed(1)
    assert torch.equal(shown(3, indices, horizontal_flip=0.5), first)
    assert not torch.equal(shown(4, indices, horizontal_flip=0.5), first)
