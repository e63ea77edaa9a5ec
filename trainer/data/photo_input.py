"""What of a photo a data cache depends on. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.data.photos import CaptionedPhoto
from trainer.data.picture import Box, Size, width_and_height


@dataclass(frozen=True, kw_only=True)
class PhotoInput:
    """A photo as a job is given it, before anything is computed from it: equal on every machine."""

    name: str
    """Of its file, for messages; the same photo under another name is the same photo."""
    sha256: str
    """Of the file's bytes, or whatever else says which picture it is."""
    caption: str
    crop: Box | None
    """As of `trainer.data.photos.CaptionedPhoto`."""
    face: Box | None
    """As of `trainer.data.photos.CaptionedPhoto`."""
    repeats: int
    """How often it comes in each epoch."""
    size: Size
    """Width and height in pixels that it is cut to."""

    @classmethod
    def of(cls, photos: Iterable[CaptionedPhoto], resolution: int | Size) -> tuple[PhotoInput, ...]:
        """Those of photos that are cut to one size, in their order, each once however often it is repeated."""
        size = width_and_height(resolution)
        return tuple(
            dict.fromkeys(
                cls(
                    name=photo.path.name,
                    sha256=photo.sha256,
                    caption=photo.caption,
                    crop=photo.crop,
                    face=photo.face,
                    repeats=photo.repeats,
                    size=size,
                )
                for photo in photos
            )
        )
