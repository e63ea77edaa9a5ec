"""Where the training crop lies in a photo: the micro-conditioning of SDXL (Podell et al. 2023, arXiv:2307.01952)."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from trainer.photos import PHOTO_FORMATS


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Sizes in pixels, heights first."""

    original_size: tuple[int, int]
    """Height and width of the upright photo."""
    crop_top_left: tuple[int, int]
    """Rows and columns cut off at the top and the left, in the photo scaled to its crop."""
    target_size: tuple[int, int]
    """Height and width of the crop."""


def centre_square(width: int, height: int, resolution: int) -> Framing:
    """The framing of a photo's centre square, scaled to `resolution` pixels."""
    side = min(width, height)
    top, left = ((extent - side) / 2 * resolution / side for extent in (height, width))
    return Framing(
        original_size=(height, width),
        crop_top_left=(round(top), round(left)),
        target_size=(resolution, resolution),
    )


def framing_of(path: Path, resolution: int) -> Framing:
    """The framing of what `trainer.photos.open_photo` gives of a photo."""
    with Image.open(path, formats=PHOTO_FORMATS) as opened:
        width, height = ImageOps.exif_transpose(opened).size
    return centre_square(width, height, resolution)
