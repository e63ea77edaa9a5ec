"""One image file turned into an upright 8-bit sRGB picture, or refused with a reason. Never trusts a file's name."""

import hashlib
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP")
MAXIMUM_PIXELS = 100_000_000
"""Default limit, width x height: above any camera short of a medium format's."""
HIGHEST_MAXIMUM_PIXELS = 178_956_970
"""Above it Pillow itself refuses."""
ORIENTATION_TAG = 0x0112
TURNS: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation (EXIF 2.32, tag 0x0112); 1 is upright."""
BOX_BRANDS: Mapping[bytes, str] = {
    b"crx ": "a camera's raw image",
    **dict.fromkeys((b"avif", b"avis"), "an AVIF image"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC image"),
}
"""Images in ISO base media files, by the brand in their first box (ISO/IEC 23008-12)."""
SIGNATURES: Mapping[bytes, str] = {
    b"GIF8": "a GIF image",
    b"BM": "a BMP image",
    b"II*\0": "a TIFF or raw image",
    b"MM\0*": "a TIFF or raw image",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF file",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself,",
}
"""What a file is by its first bytes."""
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

    EXIF orientation is applied; damaged EXIF is passed over, as browsers do. Colours are converted to sRGB by the
    file's ICC profile (without one CMYK goes through Pillow's plain inversion); of 16 bits a channel the upper 8 are
    kept; transparency becomes white. Of a JPEG that carries further pictures (a preview, a depth map: MPO) the first is
    taken.

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
                return _to_srgb(_upright(opened), opened.info.get("icc_profile"))
        except PictureError:
            raise
        except UnidentifiedImageError:
            raise _other_file(content) from None
        except Image.DecompressionBombError:
            raise _too_large(f"above {HIGHEST_MAXIMUM_PIXELS:,}", maximum_pixels) from None
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and more
            raise PictureError(f"does not decode ({error})", "copy it again or remove it") from error


def open_picture(path: Path, sha256: str) -> Image.Image:
    """The picture in a file that was checked before, whatever the limit was then.

    Args:
        path: the file, which is read once.
        sha256: of the bytes that were checked.

    Raises:
        PictureError: the file is gone or has changed since; names it.
    """
    remedy = "put the file back, or start again with the files as they are now"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PictureError(f"{path} cannot be read any more ({error.strerror})", remedy) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise PictureError(f"{path} has changed since it was checked", remedy)
    return decode_picture(content, maximum_pixels=HIGHEST_MAXIMUM_PIXELS)


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


def _other_file(content: bytes) -> PictureError:
    """The refusal of a file that is none of FORMATS, by what it is if its first bytes tell."""
    boxes = {content[start : start + 4] for start in range(8, min(len(content), 64), 4)}
    kind = next((kind for start, kind in SIGNATURES.items() if content.startswith(start)), "")
    if content[4:8] == b"ftyp":
        kind = next((kind for brand, kind in BOX_BRANDS.items() if brand in boxes), "a video")
    if not kind:
        reason = "is not a JPEG, PNG or WebP image, whatever its name says"
        return PictureError(reason, "save it as .jpg or .png, or remove it")
    remedy = "fetch the file itself" if "pointer" in kind else "export it as JPEG or PNG, or remove it"
    return PictureError(f"is {kind} and none of JPEG, PNG or WebP", remedy)


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned as its EXIF or XMP says; as it is stored where neither can be read."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION_TAG, 1))
    except Exception:  # of damaged EXIF Pillow raises SyntaxError, struct.error, ValueError and more
        return image
    return image if turn is None else image.transpose(turn)


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
