"""The photos section of a configuration reaches the photos that a search trains on."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.config import FaceConfig
from search.config.sections import PhotosConfig
from search.photos.split import read_split
from trainer.data.photos import PhotoFolderError

DEMO = Path(__file__).resolve().parents[3] / "demo"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four noise photos of 80 x 70 pixels without captions."""
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (70, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


def test_template_and_trigger_make_the_captions(folder: Path) -> None:
    split = read_split(
        PhotosConfig(folder=folder, trigger="ohwx", caption_template="a photo of {trigger} woman"), FaceConfig()
    )
    captions = {photo.caption for photo in (*split.training, *split.reference)}
    assert captions == {"a photo of ohwx woman"}
    assert (len(split.training), len(split.reference)) == (2, 2)


def test_without_a_template_missing_captions_are_refused(folder: Path) -> None:
    with pytest.raises(
        PhotoFolderError, match=r"(?s)4 problems.*has no caption; write .* or set photos.caption_template"
    ):
        PhotosConfig(folder=folder).load()


def test_the_pixel_limit_is_the_configurations(folder: Path) -> None:
    with pytest.raises(PhotoFolderError, match=r"0.png: has too many pixels \(80x70 = 5,600; the limit is 5,000\)"):
        PhotosConfig(folder=folder, caption_template="a photo", maximum_pixels=5000).load()


def test_repeats_reach_the_photos(folder: Path) -> None:
    photos = PhotosConfig(folder=folder, caption_template="a photo", repeats={"[01].png": 4}).load()
    assert [photo.repeats for photo in photos] == [4, 4, 1, 1]


def test_photos_are_chosen_by_their_faces_and_cut_to_them() -> None:
    """The face model of the demo on its photos."""
    photos = PhotosConfig(folder=DEMO / "photos", face_crop=1.5, nearest=4)
    split = read_split(photos, FaceConfig(recognizer="Dlib", detector="dlib"))
    kept = (*split.training, *split.reference)
    assert len(kept) == 4
    for photo in kept:
        assert photo.crop is not None
        x, y, width, height = photo.crop
        assert width == height
        with Image.open(photo.path) as picture:
            assert 0 <= x <= x + width <= picture.width
            assert 0 <= y <= y + height <= picture.height
            assert width < picture.width


def test_faces_are_found_for_the_loss_when_asked_for() -> None:
    photos = PhotosConfig(folder=DEMO / "photos")
    faces = FaceConfig(recognizer="Dlib", detector="dlib")
    split = read_split(photos, faces, find_faces=True)
    assert all(photo.face is not None and photo.crop is None for photo in split.training)
    assert all(photo.face is None for photo in read_split(photos, faces).training)
