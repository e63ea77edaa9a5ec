"""The pictures of a report: small, within the file, and never more of them than the file may weigh."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps

from evaluation.grid import image_grid

SIDE = 96
"""Largest width and height of a picture, pixels."""

QUALITY = 75
"""Of WebP, 0 to 100."""

EFFORT = 2
"""Of WebP, 0 to 6: half the time of the usual 4 for a few per cent more bytes."""

CAPACITY = 10_000_000
"""Characters that all pictures together may take: two thirds of the 15 MB that a report may weigh."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Pictures side by side, as one image."""

    address: str
    """A data URI."""
    count: int
    width: int
    """Of all pictures together, pixels."""
    height: int


class Album:
    """Takes pictures until it is full; what comes first is what the report cannot do without.

    Args:
        capacity: Characters of all addresses together.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._left = capacity
        self.full = False
        """Whether there was no room for some pictures; from then on there is room for none."""

    def add(self, pictures: Sequence[Image.Image]) -> Strip | None:
        """Put pictures of any sizes side by side, each cut to its middle square and never enlarged.

        Returns:
            None if the album has no room for them.

        Raises:
            ValueError: there are no pictures.
        """
        if not pictures:
            raise ValueError("there are no pictures to put into the album; give at least one")
        if self.full:
            return None
        side = min([SIDE, *(min(picture.size) for picture in pictures)])
        strip = image_grid(
            [ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS) for picture in pictures], len(pictures)
        )
        buffer = io.BytesIO()
        # No metadata goes along: a photo's may say where it was taken.
        strip.save(buffer, "WEBP", quality=QUALITY, method=EFFORT)
        address = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        if len(address) > self._left:
            self.full = True
            return None
        self._left -= len(address)
        return Strip(address=address, count=len(pictures), width=strip.width, height=strip.height)
