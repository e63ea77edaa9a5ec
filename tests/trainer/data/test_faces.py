"""Choosing and cutting photos by faces, with a finder that knows them by their colour."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.trainer.conftest import RESOLUTION, MakeConfig, draw_pass
from trainer.data.cache import build_cache
from trainer.data.faces import FacePhoto, cut_to_face, face_square, find_faces, identity_distances, keep_nearest
from trainer.data.photos import CaptionedPhoto, load_photos, open_face_mask, open_photo
from trainer.data.picture import Box
from trainer.data.views import Views
from trainer.job.job import TrainingJob
from trainer.job.loss import NoiseSchedule, min_snr_weights
from trainer.models.loading import BaseModel


@dataclass(frozen=True)
class RedSquare:
    box: Box
    embedding: NDArray[np.float64]


class RedSquareFinder:
    """A face is what is red; its blue, 0 ... 90, is the angle of its embedding in degrees."""

    def embed(self, images: Sequence[Image.Image]) -> list[RedSquare | None]:
        return [self._find(np.asarray(image, dtype=int)) for image in images]

    def _find(self, pixels: NDArray[np.int_]) -> RedSquare | None:
        rows, columns = np.nonzero(pixels[:, :, 0] > 200)
        if not len(rows):
            return None
        angle = np.radians(np.median(pixels[rows, columns, 2]))
        box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        return RedSquare(tuple(map(int, box)), np.array([np.cos(angle), np.sin(angle)]))  # type: ignore[arg-type]


def photo_with_face(folder: Path, stem: str, face: Box | None, angle: int, size: tuple[int, int] = (300, 200)) -> None:
    picture = Image.new("RGB", size, (0, 90, 0))
    if face is not None:
        x, y, width, height = face
        picture.paste((255, 0, angle), (x, y, x + width, y + height))
    picture.save(folder / f"{stem}.png")


@pytest.fixture
def photos(tmp_path: Path) -> tuple[CaptionedPhoto, ...]:
    """Faces at 10, 20, 30 and 80 degrees and none in d."""
    for stem, angle in (("a", 10), ("b", 80), ("c", 30), ("e", 20)):
        photo_with_face(tmp_path, stem, (200, 40, 40, 50), angle)
    photo_with_face(tmp_path, "d", None, 0)
    return load_photos(tmp_path, caption_template="a photo")


@pytest.mark.parametrize(
    ("size", "face", "margin", "square"),
    [
        ((300, 200), (100, 50, 40, 50), 2, (70, 25, 100, 100)),  # around the middle (120, 75)
        ((300, 200), (0, 0, 40, 50), 2, (0, 0, 100, 100)),  # shifted in from the upper left
        ((300, 200), (260, 150, 40, 50), 2, (200, 100, 100, 100)),  # and from the lower right
        ((300, 200), (100, 50, 40, 50), 10, (20, 0, 200, 200)),  # no larger than the shorter side
        ((300, 200), (-10, 150, 30, 60), 1, (0, 140, 60, 60)),  # a box that reaches out
    ],
)
def test_the_square_lies_around_the_face_and_within_the_photo(
    size: tuple[int, int], face: Box, margin: float, square: Box
) -> None:
    assert face_square(size, face, margin) == square


def test_identity_distances_are_to_the_mean_of_length_one() -> None:
    """Chords: two unit vectors at 0 and 60 degrees are both 30 from their mean, 2 sin 15 = 0.5176."""
    pair = [np.array([1.0, 0.0]), None, np.array([0.5, 3**0.5 / 2])]
    assert identity_distances(pair) == [pytest.approx(0.517638), None, pytest.approx(0.517638)]
    assert identity_distances([None]) == [None]
    assert identity_distances([np.array([1.0, 0.0]), np.array([-1.0, 0.0])]) == [2**0.5, 2**0.5]


def test_the_photos_nearest_to_the_mean_are_kept_in_order(photos: tuple[CaptionedPhoto, ...]) -> None:
    """The mean of 10, 20, 30 and 80 degrees is at about 34: c and e are next to it, then a."""
    faces = find_faces(photos, RedSquareFinder())
    assert [face.face for face in faces] == [(200, 40, 40, 50)] * 3 + [None] + [(200, 40, 40, 50)]
    angles = np.radians([10, 80, 30, 20])
    mean = np.arctan2(np.sin(angles).mean(), np.cos(angles).mean())
    expected = [*(2 * np.sin(abs(angles[:3] - mean) / 2)), None, 2 * np.sin(abs(angles[3] - mean) / 2)]
    assert [face.identity_distance for face in faces] == [
        one if one is None else pytest.approx(one) for one in expected
    ]
    assert [face.photo.path.stem for face in keep_nearest(faces, 2)] == ["c", "e"]
    assert [face.photo.path.stem for face in keep_nearest(faces, 3)] == ["a", "c", "e"]
    with pytest.raises(ValueError, match=r"photos\.nearest is 5, but a face was found in 4 of 5 photos"):
        keep_nearest(faces, 5)


def test_a_photo_is_cut_to_its_face_or_left_alone(photos: tuple[CaptionedPhoto, ...]) -> None:
    faces = find_faces(photos, RedSquareFinder())
    cut = [cut_to_face(face, 1) for face in faces]
    assert [photo.crop for photo in cut] == [(195, 40, 50, 50)] * 3 + [None] + [(195, 40, 50, 50)]
    pixels = np.asarray(open_photo(cut[0], 50))
    assert (pixels[:, 5:45] == (255, 0, 10)).all()
    assert (pixels[:, :5] == (0, 90, 0)).all()
    assert (np.asarray(open_photo(cut[3], 50)) == (0, 90, 0)).all()


def test_boxes_are_in_pixels_of_the_photo_whatever_the_finder_is_shown(tmp_path: Path) -> None:
    photo_with_face(tmp_path, "a", (800, 400, 400, 480), 5, size=(2048, 1024))
    (face,) = find_faces(load_photos(tmp_path, caption_template="a photo"), RedSquareFinder())
    assert face.face is not None
    assert max(abs(one - other) for one, other in zip(face.face, (800, 400, 400, 480), strict=True)) <= 4
    assert isinstance(face, FacePhoto)


def test_a_mask_is_the_share_of_each_place_that_is_face(tmp_path: Path) -> None:
    """A photo of 300 x 200 with a face of 40 x 50 at (200, 40).

    In its middle square (from x = 50), as 4 x 4 cells of 50 pixels, the face is x 150 to 190 and y 40 to 90, hence
    0.8 x 0.2 and 0.8 x 0.8 of two cells. Cut to the face it is 0.8 of the square.
    """
    photo_with_face(tmp_path, "a", (200, 40, 40, 50), 5)
    (face,) = find_faces(load_photos(tmp_path, caption_template="a photo"), RedSquareFinder())
    expected = np.zeros((4, 4))
    expected[0, 3], expected[1, 3] = 0.16, 0.64
    np.testing.assert_allclose(np.asarray(open_face_mask(face.photo, 4)), expected, atol=1e-6)
    np.testing.assert_allclose(np.asarray(open_face_mask(cut_to_face(face, 1), 1)), [[0.8]], atol=1e-6)
    assert not np.asarray(open_face_mask(replace(face.photo, face=None), 4)).any()


@torch.no_grad()
def test_the_mask_is_cached_mirrored_with_its_photo_and_weighs_the_loss(
    base: BaseModel, make_config: MakeConfig, tmp_path: Path
) -> None:
    photo_with_face(tmp_path, "a", (200, 40, 40, 50), 5)
    faces = find_faces(load_photos(tmp_path, caption_template="a photo"), RedSquareFinder())
    views = Views(mirrored=True)
    photos = [face.photo for face in faces]
    cache = build_cache(photos, base, resolution=RESOLUTION, folder=tmp_path / "cache", views=views)
    side = cache.latent_mean.shape[-1]
    mask = torch.from_numpy(np.array(open_face_mask(photos[0], side)))
    assert mask.any()
    assert torch.equal(cache.face_mask, torch.stack([mask, mask.flip(-1)]))
    losses = {}
    for weight in (1.0, 4.0):
        with torch.enable_grad(), TrainingJob(base, cache, make_config(face_loss_weight=weight), views) as job:
            losses[weight] = job.step().loss
    config = make_config(snr_gamma=None)
    shape = tuple(cache.latent_mean.shape[1:])
    draw = draw_pass(config.seed, 0, photos=1, count=2, latent_shape=shape, timesteps=1000)  # type: ignore[arg-type]
    schedule = NoiseSchedule.of(base.scheduler, base.device)
    latents = cache.latent_mean[draw.indices] + cache.latent_std[draw.indices] * draw.latent_noise
    prediction = base.denoiser(
        schedule.add_noise(latents, draw.noise, draw.timesteps),
        draw.timesteps,
        cache.conditioning["text_embeddings"][draw.indices],
    ).sample
    squared = (prediction - schedule.target(latents, draw.noise, draw.timesteps)) ** 2
    weights = 1 + 3 * mask
    by_hand = (squared * weights / weights.mean()).mean((1, 2, 3))
    snr = min_snr_weights(schedule.snr, 5.0, schedule.prediction_type)[draw.timesteps]
    assert losses[4.0] == pytest.approx((snr * by_hand).mean().item(), rel=1e-5)
    assert losses[1.0] == pytest.approx((snr * squared.mean((1, 2, 3))).mean().item(), rel=1e-5)
