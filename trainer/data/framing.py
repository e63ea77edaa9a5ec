"""Where the training crop lies in a photo: the micro-conditioning of SDXL (Podell et al. 2023, arXiv:2307.01952)."""

from trainer.data.photos import CaptionedPhoto
from trainer.data.picture import Box, Size, width_and_height
from trainer.models.base_model import Framing


def centre_cut(width: int, height: int, size: Size) -> Framing:
    """The framing of the middle of a photo, scaled so that it covers `size`: one side fits, the other is cut."""
    target_width, target_height = size
    # Doubled cuts over a common denominator, so that what lies half-way is rounded as such.
    if target_width * height >= target_height * width:
        top, left = (height * target_width - target_height * width) / (2 * width), 0.0
    else:
        top, left = 0.0, (width * target_height - target_width * height) / (2 * height)
    return Framing(
        original_size=(height, width),
        crop_top_left=(round(top), round(left)),
        target_size=(target_height, target_width),
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


def framing_of(photo: CaptionedPhoto, size: int | Size, *, mirrored: bool = False) -> Framing:
    """The framing of what `open_photo` gives of a photo and its crop; a crop's size is a square's."""
    width, height = photo.size
    if photo.crop is None:
        return centre_cut(width, height, width_and_height(size))
    return cut_square(width, height, photo.crop, width_and_height(size)[0], mirrored=mirrored)
