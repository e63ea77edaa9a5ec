"""Pictures and captions are kept once each, and what is trained is what a copy for every row would give."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.job_state import weights_of
from tests.support.row_cache import one_a_row
from tests.trainer.conftest import RESOLUTION, MakeConfig, write_photo
from trainer.data.bucketed_cache import BucketedCache, build_bucketed_cache
from trainer.data.buckets import AspectBuckets, sort_into_buckets
from trainer.data.cache import DataCache, build_cache
from trainer.data.framing import framing_of
from trainer.data.photos import CaptionedPhoto, load_photos, open_face_mask, open_photo, repeated
from trainer.data.picture import Size
from trainer.data.views import Views
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel

PHOTOS = {
    "copy": (0, "a man, hat, angry, rain", (70, 80)),
    "first": (0, "a man, hat, angry, rain", (70, 80)),
    "tall": (1, "a man", (60, 100)),
    "twin": (0, "a man", (70, 80)),
    "wide": (2, "a man", (100, 60)),
}
"""Seed, caption and size: of the first picture there are three, of the two captions five."""
EVERYTHING: dict[str, Any] = {
    "horizontal_flip": 0.5,
    "caption_dropout": 0.3,
    "caption_shuffle": 0.5,
    "face_loss_weight": 3.0,
    "prior_loss_weight": 0.5,
    "text_encoder_steps": 1,
}
MODES: dict[str, dict[str, Any]] = {
    "plain": {},
    "flip": {"horizontal_flip": 0.5},
    "dropout": {"caption_dropout": 0.5},
    "shuffle": {"caption_shuffle": 0.7},
    "repeats": {},
    "buckets": {"horizontal_flip": 0.5},
    "prior": {"prior_loss_weight": 0.5},
    "face": {"face_loss_weight": 3.0, "horizontal_flip": 0.5},
    "everything": EVERYTHING,
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaptionedPhoto, ...]:
    folder = tmp_path_factory.mktemp("photos")
    for stem, (seed, caption, size) in PHOTOS.items():
        write_photo(folder, stem, seed=seed, caption=caption, size=size)
    return load_photos(folder, minimum_side=32)


@torch.no_grad()
def copied_for_every_row(
    photos: Sequence[CaptionedPhoto], base: BaseModel, size: int | Size, views: Views | None = None
) -> DataCache:
    """Every photo encoded anew for every row."""
    views = views or Views()
    scale = base.vae.config["scaling_factor"]
    rows = []
    for mirrored, number in views.forms():
        for photo in photos:
            pixels = torch.from_numpy(np.array(open_photo(photo, size), dtype=np.float32))
            pixels = (pixels / 127.5 - 1).permute(2, 0, 1)[None]
            posterior = base.vae.encode(pixels.flip(-1) if mirrored else pixels).latent_dist
            height, width = posterior.mean.shape[-2:]
            mask = torch.from_numpy(np.array(open_face_mask(photo, (width, height))))[None]
            tokens = base.tokenize([views.caption(photo.caption, number)])
            rows.append(
                {
                    "latent_mean": posterior.mean * scale,
                    "latent_std": posterior.std * scale,
                    "face_mask": mask.flip(-1) if mirrored else mask,
                    "conditioning": {**tokens, **base.encode(tokens)},
                    "framing": dict(base.describe_framing([framing_of(photo, size, mirrored=mirrored)])),
                }
            )
    tensors: dict[str, Any] = {
        name: torch.cat([row[name] for row in rows]) for name in ("latent_mean", "latent_std", "face_mask")
    }
    for kind in ("conditioning", "framing"):
        tensors[kind] = {name: torch.cat([row[kind][name] for row in rows]) for name in rows[0][kind]}
    return one_a_row(**tensors)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_trained_is_what_a_copy_for_every_row_gives_bit_for_bit(
    base: BaseModel, photos: tuple[CaptionedPhoto, ...], make_config: MakeConfig, tmp_path: Path, mode: str
) -> None:
    config = make_config(steps=2, batch_size=3, seed=5, **MODES[mode])
    views = Views.needed_by([config])
    buckets = AspectBuckets(step=8) if mode in ("buckets", "everything") else None
    used = [replace(photo, face=(5, 8, 20 + number, 30)) for number, photo in enumerate(photos)]
    if mode in ("repeats", "everything"):
        used = list(repeated([replace(photo, repeats=1 + number % 3) for number, photo in enumerate(used)]))
    cache = build_bucketed_cache(
        used, base, resolution=RESOLUTION, folder=tmp_path / "cache", views=views, buckets=buckets
    )
    prior = build_cache(photos[:2], base, resolution=RESOLUTION, folder=tmp_path / "cache")
    by_size = sort_into_buckets(used, buckets, RESOLUTION)
    copies = BucketedCache(
        buckets=tuple(copied_for_every_row(of_size, base, size, views) for size, of_size in by_size.items())
    )
    assert len(copies.buckets) == (3 if buckets else 1)
    trained = []
    for data, class_images in ((cache, prior), (copies, copied_for_every_row(photos[:2], base, RESOLUTION))):
        with TrainingJob(base, data, config, views, class_images) as job:
            losses = [job.step().loss for _ in range(2)]
            trained.append((losses, job.validation_loss(data), weights_of(job)))
    (losses, validation, weights), (expected_losses, expected_validation, expected_weights) = trained
    assert losses == expected_losses
    assert validation == expected_validation
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weight, expected_weights[name]) for name, weight in weights.items())


def test_eight_photos_of_one_caption_flipped_and_without_it_are_sixteen_pictures_and_two_captions(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 rows: on the device and on disk a picture or caption takes room once, and is encoded once."""
    for number in range(8):
        write_photo(tmp_path, f"photo{number}", seed=number, caption="a man with a hat")
    photos = load_photos(tmp_path)
    encoded: list[int] = []
    encode = base.vae.encode

    def count(pixels: Tensor) -> Any:
        encoded.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(base.vae, "encode", count)
    views, folder = Views(mirrored=True, empty_caption=True), tmp_path / "cache"
    cache = build_cache(photos, base, resolution=RESOLUTION, folder=folder, views=views)
    assert len(cache) == 32
    assert encoded == [1] * 16
    rows = cache.rows(torch.arange(32), torch.device("cpu"))
    picture = sum(tensor[0].nbytes for tensor in (rows.latent_mean, rows.latent_std, rows.face_mask))
    caption = sum(tensor[0].nbytes for tensor in rows.conditioning.values())
    numbers = 2 * 32 * torch.int64.itemsize
    assert size_of(rows) == 32 * (picture + caption) + numbers
    assert size_of(cache) == size_of(cache.to(torch.device("cpu"))) == 16 * picture + 2 * caption + numbers
    header = 1024
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16 * picture + 2 * caption + 2 * header
    again = build_cache(
        repeated([replace(each, repeats=9) for each in photos]), base, resolution=RESOLUTION, folder=folder
    )
    assert len(again) == 72
    assert size_of(again) == 8 * picture + caption + 2 * 72 * torch.int64.itemsize
    monkeypatch.setattr(base.vae, "encode", None)
    assert len(build_cache(photos, base, resolution=RESOLUTION, folder=folder)) == 8, "repeats encode nothing again"


def size_of(cache: DataCache) -> int:
    return sum(tensor.nbytes for tensor in cache.tensors().values())
