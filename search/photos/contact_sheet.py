"""A contact sheet: every photo of a report as a tile, with the part that is used and what the check found."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from search.photos.check import PhotoReport, PhotoRow, size_name
from trainer.data.picture import Box, PictureError, decode_picture
from trainer.files import write_file

TILE, TEXT, GAP, COLUMNS = 200, 74, 12, 6
"""Side of a picture, height of the words below it and space around both, in pixels; tiles in a row."""
CHARACTERS, LINES = 36, 5
"""Characters of a line of words, and lines below a picture."""
COLOURS = {"used": (40, 130, 70), "cropped": (40, 90, 170), "refused": (190, 40, 40)}
FACE = (255, 200, 0)
PAPER, INK, MISSING = (250, 250, 248), (40, 40, 40), (225, 222, 220)


def draw_contact_sheet(report: PhotoReport) -> Image.Image:
    """The sheet: green frames are used, blue ones cropped (the square is drawn), red ones refused; faces are yellow."""
    columns = max(1, min(COLUMNS, len(report.photos)))
    rows = max(1, -(-len(report.photos) // columns))
    step = TILE + GAP, TILE + TEXT + GAP
    sheet = Image.new("RGB", (columns * step[0] + GAP, rows * step[1] + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for position, row in enumerate(report.photos):
        left, top = (
            GAP + place * size for place, size in zip((position % columns, position // columns), step, strict=True)
        )
        sheet.paste(_tile(report.folder / row.file, row, report.maximum_pixels), (left, top))
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline=COLOURS[row.status], width=3)
        draw.multiline_text((left, top + TILE + 4), "\n".join(_words(row)), fill=INK, font=font, spacing=2)
    return sheet


def write_contact_sheet(report: PhotoReport, path: Path) -> None:
    """Writes the sheet as a PNG file."""
    sheet = draw_contact_sheet(report)
    write_file(path, lambda temporary: sheet.save(temporary, "PNG"))


def _tile(path: Path, row: PhotoRow, maximum_pixels: int) -> Image.Image:
    """The whole photo in the middle of a square, with its crop and face; blank if it cannot be shown."""
    tile = Image.new("RGB", (TILE, TILE), MISSING)
    try:
        picture = decode_picture(path.read_bytes(), maximum_pixels=maximum_pixels)
    except (OSError, PictureError):
        return tile
    scale = TILE / max(picture.size)
    picture = ImageOps.contain(picture, (TILE, TILE), Image.Resampling.LANCZOS)
    corner = (TILE - picture.width) // 2, (TILE - picture.height) // 2
    tile.paste(picture, corner)
    draw = ImageDraw.Draw(tile)
    for box, colour in ((row.crop, COLOURS["cropped"]), (row.face, FACE)):
        if box is not None:
            draw.rectangle(_placed(box, scale, corner), outline=colour, width=2)
    return tile


def _placed(box: Box, scale: float, corner: tuple[int, int]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    left, top = corner[0] + x * scale, corner[1] + y * scale
    return left, top, left + width * scale - 1, top + height * scale - 1


def _words(row: PhotoRow) -> Sequence[str]:
    first = f"{row.file}: {row.status}"
    measures = [
        *([f"distance {row.identity_distance:.2f}"] if row.identity_distance is not None else []),
        *([f"sharpness {row.sharpness:.0f}"] if row.sharpness is not None else []),
        *([size_name(row.bucket)] if row.bucket is not None else []),
    ]
    said = [first, ", ".join(measures), *row.reasons, *row.warnings]
    lines = [line for text in said if text for line in textwrap.wrap(text, CHARACTERS)]
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], lines[LINES - 1][: CHARACTERS - 2] + " …"]
