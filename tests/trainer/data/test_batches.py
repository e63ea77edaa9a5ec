"""The draw of a step: which photos, timesteps and noise, by seed and step alone."""

from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.trainer.conftest import draw_pass
from trainer.config import TrainingConfig
from trainer.data import batches
from trainer.data.batches import (
    BucketShape,
    StepDraw,
    batch_indices,
    draw_passes,
    rows_of_forms,
    stream_seed,
    with_forms,
)
from trainer.data.views import Views

NAMES = ("indices", "timesteps", "latent_noise", "noise")


def draw(seed: int = 5, step: int = 3, count: int = 4) -> StepDraw:
    return draw_pass(seed, step, photos=7, count=count, latent_shape=(4, 8, 8), timesteps=1000)


def indices_of(seed: int, number: int, photos: int, batch_size: int) -> Tensor:
    """A batch of photos of one size."""
    bucket, indices = batch_indices(seed, number, [photos], batch_size)
    assert bucket == 0
    return indices


@pytest.mark.parametrize(("photos", "batch_size"), [(7, 2), (3, 5), (1, 4), (6, 6)])
def test_every_photo_comes_once_an_epoch(photos: int, batch_size: int) -> None:
    steps = 3 * photos
    sequence = torch.cat([indices_of(0, step, photos, batch_size) for step in range(steps)]).tolist()
    for first in range(0, len(sequence), photos):
        assert Counter(sequence[first : first + photos]) == Counter(range(photos))


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    orders = {tuple(indices_of(seed, epoch, 12, 12).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_the_order_does_not_depend_on_how_it_is_cut_into_batches() -> None:
    by_one = torch.cat([indices_of(4, step, 5, 1) for step in range(12)])
    by_three = torch.cat([indices_of(4, step, 5, 3) for step in range(4)])
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


def rows_shown(step: int, indices: Tensor, views: Views = VIEWS, **changes: float) -> Tensor:
    return rows_of_forms(indices, photos=7, views=views, config=TrainingConfig(seed=5, **changes), step=step)  # type: ignore[arg-type]


def test_photos_are_shown_as_they_are_by_default() -> None:
    indices = torch.tensor([3, 0, 6])
    assert torch.equal(rows_shown(0, indices), indices)
    assert torch.equal(rows_shown(0, indices, Views()), indices)


def test_a_certain_form_is_always_shown() -> None:
    """Five captions a side, seven photos a form: mirrored ones begin at row 35."""
    indices = torch.tensor([3, 0, 6])
    assert torch.equal(rows_shown(2, indices, horizontal_flip=1.0), 35 + indices)
    nearly = rows_shown(2, indices, caption_dropout=1 - 1e-9)
    assert torch.equal(nearly, 4 * 7 + indices)


def test_forms_come_as_often_as_asked_for_and_independently() -> None:
    """Three standard errors of 20,000 draws; a dropped caption is in no order."""
    rows = rows_shown(1, torch.full((20_000,), 2), horizontal_flip=0.5, caption_shuffle=0.8, caption_dropout=0.1)
    assert set((rows % 7).tolist()) == {2}
    form = rows // 7
    shares = torch.bincount(form, minlength=10).double() / 20_000
    for side in (shares[:5], shares[5:]):
        expected = [0.5 * 0.9 * 0.2, *[0.5 * 0.9 * 0.8 / 3] * 3, 0.5 * 0.1]
        for found, share in zip(side.tolist(), expected, strict=True):
            assert abs(found - share) < 3 * (share * (1 - share) / 20_000) ** 0.5


def test_the_forms_of_a_step_depend_on_seed_and_step_alone() -> None:
    indices = torch.zeros(64, dtype=torch.int64)
    first = rows_shown(3, indices, horizontal_flip=0.5)
    torch.manual_seed(1)
    assert torch.equal(rows_shown(3, indices, horizontal_flip=0.5), first)
    assert not torch.equal(rows_shown(4, indices, horizontal_flip=0.5), first)


@pytest.fixture
def unshuffled(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every epoch has the photos in their order."""
    batches._epoch_order.cache_clear()
    monkeypatch.setattr(torch, "randperm", lambda count, generator: torch.arange(count))
    yield
    batches._epoch_order.cache_clear()


@pytest.mark.usefixtures("unshuffled")
@pytest.mark.parametrize(
    ("sizes", "batch_size", "expected"),
    [
        # The third of the second bucket waits for the next epoch; after two epochs nothing waits.
        ((2, 3), 2, [(0, [0, 1]), (1, [0, 1]), (0, [0, 1]), (1, [2, 0]), (1, [1, 2]), (0, [0, 1]), (1, [0, 1])]),
        # A bucket of one photo fills a batch of three in the third epoch.
        ((1, 4), 3, [(1, [0, 1, 2]), (1, [3, 0, 1]), (0, [0, 0, 0]), (1, [2, 3, 0]), (1, [1, 2, 3]), (1, [0, 1, 2])]),
        # Seven are more than all photos: none fills up in the first two epochs.
        ((2, 3), 7, [(1, [0, 1, 2, 0, 1, 2, 0]), (0, [0, 1, 0, 1, 0, 1, 0]), (1, [1, 2, 0, 1, 2, 0, 1])]),
    ],
)
def test_batches_fill_up_in_the_order_in_which_photos_come(
    sizes: tuple[int, ...], batch_size: int, expected: list[tuple[int, list[int]]]
) -> None:
    found = [batch_indices(0, number, sizes, batch_size) for number in range(len(expected))]
    assert [(bucket, indices.tolist()) for bucket, indices in found] == expected


@pytest.mark.parametrize(("sizes", "batch_size"), [((7, 2, 4), 3), ((1, 1), 4), ((9, 1, 30), 4), ((5,), 2)])
def test_any_batch_is_what_walking_through_all_epochs_gives(sizes: tuple[int, ...], batch_size: int) -> None:
    """Photos put into their buckets one by one, each shown as often as epochs have gone by but for what waits."""
    everything = [(bucket, photo) for bucket, size in enumerate(sizes) for photo in range(size)]
    waiting: list[list[int]] = [[] for _ in sizes]
    walked = []
    for epoch in range(40):
        generator = torch.Generator().manual_seed(stream_seed(3, "epoch", epoch))
        for number in torch.randperm(len(everything), generator=generator).tolist():
            bucket, photo = everything[number]
            waiting[bucket].append(photo)
            if len(waiting[bucket]) == batch_size:
                walked.append((bucket, waiting[bucket]))
                waiting[bucket] = []
    numbers = range(len(walked))
    for number in reversed(numbers):
        bucket, indices = batch_indices(3, number, sizes, batch_size)
        assert (bucket, indices.tolist()) == walked[number]
    times = Counter((bucket, photo) for bucket, indices in walked for photo in indices)
    times.update((bucket, photo) for bucket, indices in enumerate(waiting) for photo in indices)
    assert times == dict.fromkeys(everything, 40)


@pytest.mark.parametrize(
    ("batch_size", "passes", "latent_shape"), [(2, 3, (4, 8, 8)), (3, 2, (4, 3, 1)), (1, 1, (1, 1, 3))]
)
def test_with_one_bucket_a_draw_is_what_it_was_without(
    batch_size: int, passes: int, latent_shape: tuple[int, int, int]
) -> None:
    """Bit for bit: one sequence of shuffled epochs cut into pieces, then timesteps and two noises in one draw each."""
    count = batch_size * passes
    for step in range(6):
        order = []
        for at in range(step * count, (step + 1) * count):
            generator = torch.Generator().manual_seed(stream_seed(5, "epoch", at // 7))
            order.append(torch.randperm(7, generator=generator).tolist()[at % 7])
        generator = torch.Generator().manual_seed(stream_seed(5, "step", step))
        timesteps = torch.randint(1000, (count,), generator=generator)
        latent_noise, noise = (torch.randn((count, *latent_shape), generator=generator) for _ in range(2))
        bucket = BucketShape(photos=7, latent_shape=latent_shape)
        draws = draw_passes(5, step, buckets=[bucket], batch_size=batch_size, passes=passes, timesteps=1000)
        assert [draw.bucket for draw in draws] == [0] * passes
        for name, expected in zip(NAMES, (torch.tensor(order), timesteps, latent_noise, noise), strict=True):
            assert torch.equal(torch.cat([getattr(draw, name) for draw in draws]), expected)


def test_passes_of_several_buckets_have_their_shapes_and_rows() -> None:
    """Five captions a side: mirrored forms begin at row 10 where there are two photos, at 20 where there are four."""
    buckets = [BucketShape(photos=2, latent_shape=(4, 6, 10)), BucketShape(photos=4, latent_shape=(4, 8, 8))]
    draws = [
        draw
        for step in range(6)
        for draw in draw_passes(1, step, buckets=buckets, batch_size=2, passes=2, timesteps=10)
    ]
    assert {draw.bucket for draw in draws} == {0, 1}
    for draw in draws:
        assert draw.noise.shape == draw.latent_noise.shape == (2, *buckets[draw.bucket].latent_shape)
        assert not torch.equal(draw.noise, draw.latent_noise)
    config = TrainingConfig(horizontal_flip=1.0)
    for draw, seen in zip(draws, with_forms(draws, buckets=buckets, views=VIEWS, config=config, step=0), strict=True):
        assert torch.equal(seen.indices, draw.indices + (20 if draw.bucket else 10))
        assert seen.noise is draw.noise
