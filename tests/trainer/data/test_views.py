"""The forms in which a photo is shown: mirrored, without caption, with its tags shuffled."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.job_state import weights_of
from tests.trainer.conftest import RESOLUTION, MakeConfig, MakePhotos, write_photo
from trainer.config import TrainingConfig
from trainer.data.batches import rows_of_forms
from trainer.data.cache import build_cache
from trainer.data.photos import load_photos, open_photo
from trainer.data.views import TAG_ORDERS, Views, reorder_tags
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel

ALL = Views(mirrored=True, tag_orders=TAG_ORDERS, empty_caption=True)


def test_forms_are_listed_side_by_side_with_the_plain_one_first() -> None:
    assert Views().forms() == [(False, 0)]
    assert Views(mirrored=True).forms() == [(False, 0), (True, 0)]
    assert Views(mirrored=True, empty_caption=True).forms() == [(False, 0), (False, 1), (True, 0), (True, 1)]
    assert len(ALL.forms()) == 2 * (TAG_ORDERS + 1)


def test_tags_change_places_behind_the_first() -> None:
    caption = "a photo of sks man, angry, gray background, hat, beard"
    orders = [reorder_tags(caption, number) for number in range(TAG_ORDERS)]
    assert orders[0] == caption
    assert len(set(orders)) == TAG_ORDERS
    for order in orders:
        first, *others = order.split(", ")
        assert first == "a photo of sks man"
        assert sorted(others) == ["angry", "beard", "gray background", "hat"]
    assert reorder_tags("a photo of sks, smiling", 3) == "a photo of sks, smiling"
    assert ALL.caption(caption, TAG_ORDERS) == ""


@pytest.mark.parametrize(
    ("tags", "orders"),
    [
        (("hat",), 1),  # nothing to change places with
        (("hat", "beach"), 2),
        (("hat", "hat"), 1),
        (("hat", "hat", "beach"), 3),
        (("hat", "beach", "dusk"), 4),  # of six
        (("hat", "hat", "hat", "hat", "beach", "hat"), 4),  # of six
        (tuple("abcdefghij"), 4),
    ],
)
def test_every_order_but_the_first_is_another_one(tags: tuple[str, ...], orders: int) -> None:
    """As many as there are, up to four, whatever the caption says; where there are fewer, they come again."""
    for person in ("a man", "a woman", "sks", "a photo of sks man", "anna smiling", "x"):
        caption = ", ".join([person, *tags])
        shown = [reorder_tags(caption, number) for number in range(TAG_ORDERS)]
        assert shown[0] == caption
        assert len(set(shown)) == orders
        assert (caption in shown[1:]) is (orders == 1)
        for order in shown:
            first, *others = order.split(", ")
            assert (first, sorted(others)) == (person, sorted(tags))
    assert reorder_tags(caption, 1) == reorder_tags(caption, 1)


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_the_probability_is_that_of_another_order(probability: float) -> None:
    caption = "a man, hat, beach"
    views, config = Views(tag_orders=TAG_ORDERS), TrainingConfig(caption_shuffle=probability)
    rows = rows_of_forms(torch.zeros(20_000, dtype=torch.int64), photos=1, views=views, config=config, step=0)
    other = [views.caption(caption, row) != caption for row in rows.tolist()]
    assert abs(sum(other) / len(other) - probability) < 3 * (probability * (1 - probability) / 20_000) ** 0.5 + 1e-9


def test_what_any_job_shows_is_needed() -> None:
    plain = TrainingConfig()
    assert Views.needed_by([plain]) == Views()
    assert Views.needed_by([plain, TrainingConfig(horizontal_flip=0.5)]) == Views(mirrored=True)
    assert Views.needed_by([TrainingConfig(caption_dropout=0.1), plain]) == Views(empty_caption=True)
    assert Views.needed_by([TrainingConfig(caption_shuffle=1.0)]) == Views(tag_orders=TAG_ORDERS)


@torch.no_grad()
def test_a_cache_holds_every_form_as_the_model_sees_it(base: BaseModel, tmp_path: Path) -> None:
    for number in range(2):
        write_photo(tmp_path, f"photo{number}", seed=number, caption=f"a man, number {number}, angry, hat")
    photos = load_photos(tmp_path)
    cache = build_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / "cache", views=ALL)
    assert len(cache) == 2 * len(ALL.forms())
    plain = build_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / "cache")
    rows = cache.rows(torch.arange(len(cache)), torch.device("cpu"))
    assert all(torch.equal(tensor, rows.tensors()[name][:2]) for name, tensor in plain.tensors().items())
    scale = base.vae.config["scaling_factor"]
    for row, (mirrored, number) in enumerate(ALL.forms()):
        for at, photo in enumerate(photos):
            pixels = torch.from_numpy(np.array(open_photo(photo, RESOLUTION))).permute(2, 0, 1)[None] / 127.5 - 1
            seen = pixels.flip(-1) if mirrored else pixels
            mean = base.vae.encode(seen).latent_dist.mean[0] * scale
            torch.testing.assert_close(rows.latent_mean[2 * row + at], mean, rtol=0, atol=1e-6)
            text = ALL.caption(photo.caption, number)
            embeddings, _ = base.pipeline().encode_prompt(text, torch.device("cpu"), 1, False)
            torch.testing.assert_close(
                rows.conditioning["text_embeddings"][2 * row + at], embeddings[0], rtol=0, atol=1e-6
            )


def test_a_job_trains_on_the_form_that_it_shows_and_resumes_exactly(
    base: BaseModel, make_photos: MakePhotos, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Always mirrored: as a job whose photos are the mirrored ones. Then all by chance, killed at step 2 of 4."""
    photos = load_photos(make_photos(3), trigger="sks")
    cache = build_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / "cache", views=ALL)
    captions = ALL.captions
    only_mirrored = cache.rows(torch.arange(3 * captions, 3 * captions + 3), torch.device("cpu"))
    with TrainingJob(base, cache, make_config(horizontal_flip=1.0), ALL) as job:
        loss = job.step().loss
    with TrainingJob(base, only_mirrored, make_config()) as job:
        assert job.step().loss == loss
    config = make_config(steps=4, horizontal_flip=0.5, caption_shuffle=0.5, caption_dropout=0.5)
    with TrainingJob(base, cache, config, ALL) as job:
        losses = []
        for step in range(4):
            if step == 2:
                job.save(tmp_path / "state")
            losses.append(job.step().loss)
        weights = weights_of(job)
    with TrainingJob(base, cache, config, ALL) as job:
        job.restore(tmp_path / "state")
        assert [job.step().loss for _ in range(2)] == losses[2:]
        assert all(torch.equal(weight, weights[name]) for name, weight in weights_of(job).items())


def test_a_job_whose_forms_were_not_encoded_is_refused(
    base: BaseModel, make_photos: MakePhotos, make_config: MakeConfig, tmp_path: Path
) -> None:
    cache = build_cache(load_photos(make_photos(2), "sks"), base, resolution=RESOLUTION, folder=tmp_path / "cache")
    with pytest.raises(ValueError, match="horizontal_flip, caption_dropout is above 0, but the photos were encoded"):
        TrainingJob(base, cache, make_config(horizontal_flip=0.5, caption_dropout=0.1))
