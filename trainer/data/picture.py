"""One image file turned into an upright 8-bit sRGB picture, or refused with a reason. Never trusts a file's name."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP")
MAXIMUM_PIXELS = 100_000_000
"""Default limit, width x height: above any camera short of a medium format's."""
HIGHEST_MAXIMUM_PIXELS = 178_956_970
"""Above it Pillow itself refuses."""
MODE_OF_COLOUR_SPACE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


Box = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of an upright picture."""
Size = tuple[int, int]
"""(width, height) in pixels."""


def width_and_height(size: int | Size) -> Size:
    """The size that a number, the side of a square, stands for; a size is itself."""
    return (size, size) if isinstance(size, int) else size


class PictureError(ValueError):
    """An image file cannot be used."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


def decode_picture(content: bytes, *, maximum_pixels: int = MAXIMUM_PIXELS) -> Image.Image:
    """The picture in a JPEG, PNG or WebP file, recognised by its content, decoded in full.

    EXIF orientation is applied. Colours are converted to sRGB by the file's ICC profile (without one CMYK goes through
    Pillow's plain inversion); of 16 bits a channel the upper 8 are kept; transparency becomes white. Of a JPEG that
    carries further pictures (a preview, a depth map: MPO) the first is taken.

    Args:
        content: The file's bytes.
        maximum_pixels: Most width x height that is decoded, 1 ... 178,956,970. Checked on the header alone, so that a
            small file that unfolds into gigabytes is never unfolded.

    Returns:
        Mode RGB.

    Raises:
        PictureError: it is no such picture, is damaged, has too many pixels or moves.
    """
    if not content:
        raise PictureError("is empty (0 bytes)", "copy it again or remove it")
    with warnings.catch_warnings():
        # Pillow warns of much that does not matter here; what matters is refused below.
        warnings.simplefilter("ignore")
        try:
            with Image.open(BytesIO(content), formats=FORMATS) as opened:
                _check_header(opened, maximum_pixels)
                opened.load()
                return _to_srgb(ImageOps.exif_transpose(opened), opened.info.get("icc_profile"))
        except PictureError:
            raise
        except UnidentifiedImageError:
            reason = "is not a JPEG, PNG or WebP image, whatever its name says"
            raise PictureError(reason, "save it as .jpg or .png, or remove it") from None
        except Image.DecompressionBombError:
            raise _too_large(f"above {HIGHEST_MAXIMUM_PIXELS:,}", maximum_pixels) from None
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
            raise PictureError(f"does not decode ({error})", "copy it again or remove it") from error


def open_picture(path: Path) -> Image.Image:
    """The picture in a file that was checked before, whatever the limit was then.

    Raises:
        PictureError: the file has changed since.
    """
    return decode_picture(path.read_bytes(), maximum_pixels=HIGHEST_MAXIMUM_PIXELS)


def _check_header(image: Image.Image, maximum_pixels: int) -> None:
    width, height = image.size
    if width * height > maximum_pixels:
        raise _too_large(f"{width}x{height} = {width * height:,}", maximum_pixels)
    # A JPEG with several pictures (MPO) counts frames, too, but it is a photo.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        frames = getattr(image, "n_frames", 0)
        raise PictureError(f"is an animation of {frames} frames", "save one frame of it as a photo, or remove it")


def _too_large(pixels: str, maximum_pixels: int) -> PictureError:
    return PictureError(
        f"has too many pixels ({pixels}; the limit is {maximum_pixels:,})",
        "make it smaller, or raise photos.maximum_pixels if you trust the file",
    )


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _to_8_bit(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            if MODE_OF_COLOUR_SPACE.get(source.profile.xcolor_space.strip()) == image.mode:
                converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                if converted is not None:
                    return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged profile is passed over, as browsers do
    return image.convert("RGB")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bits by its upper 8, as Pillow reads 16-bit colours; its own conversion clips at 255 instead."""
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))
