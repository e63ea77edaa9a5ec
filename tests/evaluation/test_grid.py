import pytest
from PIL import Image

from evaluation.grid import image_grid

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def test_images_go_row_by_row() -> None:
    sheet = image_grid([Image.new("RGB", (4, 3), colour) for colour in COLOURS], columns=2)
    assert (sheet.mode, sheet.size) == ("RGB", (8, 6))
    corners = [sheet.getpixel(place) for place in ((0, 0), (3, 2), (4, 0), (7, 2), (0, 3), (3, 5), (4, 3), (7, 5))]
    assert corners == [COLOURS[0]] * 2 + [COLOURS[1]] * 2 + [COLOURS[2]] * 2 + [(0, 0, 0)] * 2


def test_a_row_is_no_wider_than_its_images() -> None:
    assert image_grid([Image.new("L", (4, 3))] * 2, columns=10).size == (8, 3)


def test_impossible_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        image_grid([], columns=2)
    with pytest.raises(ValueError, match="columns is 0"):
        image_grid([Image.new("RGB", (4, 3))], columns=0)
    with pytest.raises(ValueError, match=r"sizes \[\(4, 3\), \(5, 3\)\]"):
        image_grid([Image.new("RGB", (5, 3)), Image.new("RGB", (4, 3))], columns=2)
