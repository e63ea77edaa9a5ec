"""Sheets of images: laid out row by row, and cut into the same images again."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation.grid import grid_images, image_grid

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


def test_a_stored_sheet_is_cut_into_the_very_images_it_was_made_of(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 3), dtype=np.uint8)
    image_grid([Image.fromarray(image) for image in pixels], columns=2).save(tmp_path / "grid.png")
    with Image.open(tmp_path / "grid.png") as sheet:
        cut = grid_images(sheet, rows=3, columns=2)
    assert (np.stack([np.asarray(image) for image in cut]) == pixels).all()
    with pytest.raises(ValueError, match="a sheet of 8 x 9 pixels has no 3 x 3 images"):
        grid_images(Image.new("RGB", (8, 9)), rows=3, columns=3)
