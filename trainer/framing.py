"""Where the training crop lies in a photo: the micro-conditioning of SDXL (Podell et al. 2023, arXiv:2307.01952)."""

from dataclasses import dataclass

from trainer.photos import CaptionedPhoto
from trainer.picture import Box, open_picture


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


def cut_square(width: int, height: int, crop: Box, resolution: int, *, mirrored: bool = False) -> Framing:
    """The framing of a square cut out of a photo, scaled to `resolution` pixels.

    Args:
        width: of the upright photo in pixels.
        height: of the upright photo in pixels.
        crop: a square within it.
        resolution: side in pixels.
        mirrored: whether it is the square of the mirrored photo: what lay to its right then lies to its left.
    """
    x, y, side, _ = crop
    left = width - x - side if mirrored else x
    return Framing(
        original_size=(height, width),
        crop_top_left=(round(y * resolution / side), round(left * resolution / side)),
        target_size=(resolution, resolution),
    )


def framing_of(photo: CaptionedPhoto, resolution: int, *, mirrored: bool = False) -> Framing:
    """The framing of what `trainer.photos.open_photo` gives of a photo and its crop."""
    width, height = open_picture(photo.path).size
    if photo.crop is None:
        return centre_square(width, height, resolution)
    return cut_square(width, height, photo.crop, resolution, mirrored=mirrored)
