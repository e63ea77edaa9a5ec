"""Thumbnails: small pictures, and no more than it may hold."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from search.report.gallery import Thumbnails


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def opened(address: str) -> Image.Image:
    kind, data = address.split(",", 1)
    assert kind == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_pictures_are_squares_side_by_side_and_never_enlarged() -> None:
    strip = Thumbnails().add([Image.new("RGB", (200, 100), "red"), Image.new("RGB", (100, 300), "blue")])
    assert strip is not None
    assert (strip.count, strip.width, strip.height) == (2, 192, 96)
    picture = opened(strip.address)
    assert picture.size == (192, 96)
    assert np.asarray(picture.convert("RGB"))[48, [20, 170]].argmax(axis=1).tolist() == [0, 2]
    small = Thumbnails().add([noise(10, 10)])
    assert small is not None
    assert (small.width, small.height) == (10, 10)


def test_no_metadata_goes_along() -> None:
    photo = noise(96, 96)
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    photo.info["exif"] = exif.tobytes()
    strip = Thumbnails().add([photo])
    assert strip is not None
    assert not opened(strip.address).getexif()


def test_full_thumbnails_take_nothing_more() -> None:
    strip = Thumbnails().add([noise(96, 96)])
    assert strip is not None
    thumbnails = Thumbnails(len(strip.address) + 100)
    outcomes = [(thumbnails.add([noise(96, 96)]), thumbnails.full) for _ in range(2)]
    assert outcomes == [(strip, False), (None, True)]
    assert thumbnails.add([Image.new("RGB", (1, 1))]) is None, "not even what would fit"
    with pytest.raises(ValueError, match="no pictures"):
        Thumbnails().add([])
