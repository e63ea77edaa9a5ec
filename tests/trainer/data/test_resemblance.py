"""Photos that resemble each other: hashes and groups."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainer.data.resemblance import BITS, NEAR_BITS, fingerprint, group_alike

DEMO_PHOTOS = sorted((Path(__file__).parents[3] / "demo" / "photos").glob("*.png"))


def test_a_bit_says_that_a_pixel_is_darker_than_its_right_neighbour() -> None:
    pixels = np.zeros((16, 17), dtype=np.uint8)
    pixels[0, 1] = 9  # up after the first pixel, down after the second
    pixels[15, 16] = 9  # up before the last
    assert fingerprint(Image.fromarray(pixels)) == 1 << (BITS - 1) | 1


def test_flat_pictures_are_told_by_their_colour() -> None:
    red, again, blue = (fingerprint(Image.new("RGB", (80, 70), colour)) for colour in ("red", "red", "blue"))
    assert red == again
    assert (red ^ blue).bit_count() > NEAR_BITS


def test_pictures_are_grouped_within_the_limit_and_through_links() -> None:
    """0 and 8 bits are alike, 8 and 16 too, so all three are one group; 25 bits are nine from the nearest."""
    bits = [(1 << count) - 1 for count in (0, 16, 100, 25, 8)]
    assert NEAR_BITS == 8
    assert group_alike(bits) == [[0, 1, 4], [2], [3]]
    assert group_alike([]) == []


@pytest.mark.parametrize("path", DEMO_PHOTOS, ids=lambda path: path.stem)
def test_the_same_photo_is_alike_and_the_same_person_is_not(path: Path) -> None:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    own = fingerprint(picture)
    assert (fingerprint(picture.resize((100, 100))) ^ own).bit_count() <= NEAR_BITS
    for other in DEMO_PHOTOS:
        if other != path:
            with Image.open(other) as opened:
                assert (fingerprint(opened) ^ own).bit_count() > NEAR_BITS
