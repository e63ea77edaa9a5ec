"""Every kind of file that a photo folder may hold: what becomes of it, by value or by the words of its refusal."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from trainer.data.photos import PhotoFolderError, load_photos, open_photo, resemblance_warnings
from trainer.data.picture import PictureError, decode_picture

SIDE = 64


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def plain(mode: str, colour: int | tuple[int, ...], kind: str, **options: object) -> bytes:
    return encoded(Image.new(mode, (SIDE, SIDE), colour), kind, **options)


def deep(*channels: int) -> bytes:
    """A PNG of 16 bits a channel, channels in the order blue, green, red, alpha; or grey."""
    shape = (SIDE, SIDE, len(channels)) if len(channels) > 1 else (SIDE, SIDE)
    written, content = cv2.imencode(".png", np.full(shape, channels, dtype=np.uint16))
    assert written
    return content.tobytes()


def deep_with_transparent_grey() -> bytes:
    """A 16-bit grey PNG of 0x8040 whose tRNS chunk makes 0x8040 see-through; 0x8041, of the same upper bits, is not."""
    values = np.full((SIDE, SIDE), 0x8040, dtype=np.uint16)
    content = encoded(Image.fromarray(values), "PNG")
    chunk = b"tRNS" + struct.pack(">H", 0x8040)
    end = content.index(b"IDAT") - 4
    return content[:end] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[end:]


def frames(kind: str) -> bytes:
    pictures = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "blue")]
    return encoded(pictures[0], kind, save_all=True, append_images=pictures[1:])


def swapped_profile() -> bytes:
    """An ICC profile that calls red what sRGB calls green: sRGB's own with these two entries of its table exchanged."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return content.replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")


def sideways() -> bytes:
    """Red above blue once it is turned as its EXIF says."""
    upright = Image.new("RGB", (SIDE, SIDE), "blue")
    upright.paste("red", (0, 0, SIDE, SIDE // 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn 90 degrees clockwise to show"
    return encoded(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def with_exif(content: bytes) -> bytes:
    """A JPEG that is red above blue once it is turned by orientation 6, with this EXIF block."""
    upright = Image.new("RGB", (SIDE, SIDE), "blue")
    upright.paste("red", (0, 0, SIDE, SIDE // 2))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    return encoded(stored, "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0" + content)


UNWRITABLE = (
    struct.pack("<2sHIH", b"II", 42, 8, 2)
    + struct.pack("<HHII", 0x112, 3, 1, 6)
    + struct.pack("<HHII", 0x11A, 10, 1, 38)
    + struct.pack("<I", 0)
    + struct.pack("<ii", -1, 0)
)
"""Orientation 6, and a horizontal resolution of -1/0 as a signed fraction: Pillow reads it, but cannot write it."""


def bomb(side: int) -> bytes:
    """A PNG whose header promises side x side pixels and that holds none."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


Files = dict[str, bytes | str]
Colours = dict[tuple[int, int], tuple[int, int, int]]
NO_IMAGE = "is not a JPEG, PNG or WebP image, whatever its name says"
MIDDLE = (32, 32)

ACCEPTED: dict[str, tuple[str, bytes, Colours]] = {
    "JPEG": ("a.jpg", plain("RGB", (200, 100, 50), "JPEG", quality=100, subsampling=0), {MIDDLE: (200, 100, 50)}),
    "PNG": ("a.png", plain("RGB", (200, 100, 50), "PNG"), {MIDDLE: (200, 100, 50)}),
    "WebP": ("a.webp", plain("RGB", (200, 100, 50), "WEBP", lossless=True), {MIDDLE: (200, 100, 50)}),
    "a PNG named .jpg": ("a.jpg", plain("RGB", (200, 100, 50), "PNG"), {MIDDLE: (200, 100, 50)}),
    "a PNG named .gif": ("a.gif", plain("RGB", (200, 100, 50), "PNG"), {MIDDLE: (200, 100, 50)}),
    "turned by EXIF": ("a.png", sideways(), {(32, 8): (255, 0, 0), (32, 56): (0, 0, 255)}),
    "turned by EXIF that cannot be written again": (
        "a.jpg",
        with_exif(UNWRITABLE),
        {(32, 8): (254, 0, 0), (32, 56): (0, 0, 254)},
    ),
    # As it is stored: what is above lies on the left.
    "EXIF torn in the middle": ("a.jpg", with_exif(UNWRITABLE[:20]), {(8, 32): (254, 0, 0), (56, 32): (0, 0, 254)}),
    "EXIF without a header": ("a.jpg", with_exif(b"junk" * 8), {(8, 32): (254, 0, 0), (56, 32): (0, 0, 254)}),
    "empty EXIF": ("a.jpg", with_exif(b""), {(8, 32): (254, 0, 0), (56, 32): (0, 0, 254)}),
    # 255 - cyan, magenta, yellow, times 1 - black: 255 x (1 - 51/255) = 204, and so on
    "CMYK": ("a.jpg", plain("CMYK", (0, 51, 102, 51), "JPEG", quality=100), {MIDDLE: (204, 163, 122)}),
    "16-bit grey": ("a.png", deep(0x8040), {MIDDLE: (128, 128, 128)}),
    "dark 16-bit grey": ("a.png", deep(0x0A80), {MIDDLE: (10, 10, 10)}),
    "16-bit colour": ("a.png", deep(0x1000, 0x8040, 0xFFFF), {MIDDLE: (255, 128, 16)}),
    # half transparent over white: 255 - (255 - value) x 128 / 255
    "16-bit colour with alpha": ("a.png", deep(0, 0x8000, 0xFFFF, 0x8000), {MIDDLE: (255, 191, 127)}),
    "16-bit grey that is see-through": ("a.png", deep_with_transparent_grey(), {MIDDLE: (255, 255, 255)}),
    "alpha": ("a.png", plain("RGBA", (0, 100, 200, 51), "PNG"), {MIDDLE: (204, 224, 244)}),
    "grey with alpha": ("a.png", plain("LA", (100, 0), "PNG"), {MIDDLE: (255, 255, 255)}),
    "grey": ("a.jpg", plain("L", 90, "JPEG", quality=100), {MIDDLE: (90, 90, 90)}),
    "black and white": ("a.png", plain("1", 1, "PNG"), {MIDDLE: (255, 255, 255)}),
    "palette": (
        "a.png",
        encoded(Image.new("RGB", (SIDE, SIDE), (9, 99, 199)).quantize(4), "PNG"),
        {MIDDLE: (9, 99, 199)},
    ),
    "a colour profile": (
        "a.png",
        plain("RGB", (255, 0, 0), "PNG", icc_profile=swapped_profile()),
        {MIDDLE: (0, 255, 0)},
    ),
    "a damaged colour profile": (
        "a.png",
        plain("RGB", (255, 0, 0), "PNG", icc_profile=b"no profile"),
        {MIDDLE: (255, 0, 0)},
    ),
    "a JPEG with a second picture in it": ("a.jpg", frames("MPO"), {MIDDLE: (254, 0, 0)}),
}

GOOD = plain("RGB", (200, 100, 50), "PNG")
REFUSED: dict[str, tuple[Files, str, str]] = {
    "animated PNG": ({"a.png": frames("PNG")}, "a.png", "is an animation of 2 frames"),
    "animated WebP": ({"a.webp": frames("WEBP")}, "a.webp", "is an animation of 2 frames"),
    "animated GIF": ({"a.gif": frames("GIF")}, "a.gif", "is a GIF image"),
    "TIFF named .jpg": (
        {"a.jpg": plain("RGB", 0, "TIFF")},
        "a.jpg",
        "is a TIFF or raw image",
    ),
    "text named .png": ({"a.png": b"this is no photo"}, "a.png", NO_IMAGE),
    "nothing": ({"a.png": b""}, "a.png", "is empty (0 bytes)"),
    "torn": ({"a.png": GOOD[: len(GOOD) // 2]}, "a.png", "does not decode"),
    "a bomb": ({"a.png": bomb(12_000)}, "a.png", "has too many pixels (12000x12000 = 144,000,000; the limit is 10"),
    "a bigger bomb": ({"a.png": bomb(60_000)}, "a.png", "has too many pixels (above 178,956,970; the limit is 10"),
    "small": ({"a.png": encoded(Image.new("RGB", (63, 200)), "PNG")}, "a.png", "is too small (63x200 pixels)"),
    "no caption": ({"a.png": GOOD, "a.txt": ""}, "a.txt", "is an empty caption"),
    "blank caption": ({"a.png": GOOD, "a.txt": " \n\t"}, "a.txt", "is an empty caption"),
}


@pytest.mark.parametrize("case", [*ACCEPTED, *REFUSED])
def test_every_kind_of_file_is_converted_rightly_or_refused_by_name(case: str, tmp_path: Path) -> None:
    """Colours within 1 of the value worked by hand, JPEG included, since the pictures are flat."""
    if case in ACCEPTED:
        name, content, colours = ACCEPTED[case]
        (tmp_path / name).write_bytes(content)
        (photo,) = load_photos(tmp_path, "sks", caption_template="a photo of {trigger}")
        opened = open_photo(photo, SIDE)
        assert (photo.caption, opened.mode, opened.size) == ("a photo of sks", "RGB", (SIDE, SIDE))
        for place, colour in colours.items():
            found = opened.getpixel(place)
            assert isinstance(found, tuple)
            assert max(abs(one - other) for one, other in zip(found, colour, strict=True)) <= 1, found
        return
    files, name, reason = REFUSED[case]
    for file, content_or_text in files.items():
        (tmp_path / file).write_bytes(content_or_text.encode() if isinstance(content_or_text, str) else content_or_text)
    with pytest.raises(PhotoFolderError) as caught:
        load_photos(tmp_path, "sks", caption_template="a photo of {trigger}")
    (problem,) = caught.value.problems
    assert problem.file == name
    assert problem.reason.startswith(reason)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_as_pillow_turns_it(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(smooth(orientation).crop((0, 0, 80, 70)), "PNG", exif=exif)
    with Image.open(io.BytesIO(content)) as stored:
        upright = ImageOps.exif_transpose(stored)
    assert np.array_equal(np.asarray(decode_picture(content)), np.asarray(upright))


OTHER_FILES = {
    "a HEIC image": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "an AVIF image": b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf",
    "a video": b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
    "a JPEG XL image": b"\xff\x0a" + bytes(20),
    "a TIFF or raw image": b"II*\0" + bytes(20),
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_of_another_kind_is_called_by_its_name(kind: str) -> None:
    remedy = "fetch the file itself" if "pointer" in kind else "export it as JPEG or PNG, or remove it"
    with pytest.raises(PictureError, match=f"^is {kind}.*; {remedy}$"):
        decode_picture(OTHER_FILES[kind])


def test_too_many_pixels_are_refused_without_decoding_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(GOOD)
    with monkeypatch.context() as patch:
        patch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
        with pytest.raises(PhotoFolderError, match=r"64x64 = 4,096; the limit is 4,095.*raise photos.maximum_pixels"):
            load_photos(tmp_path, caption_template="a photo", maximum_pixels=4095)
    assert len(load_photos(tmp_path, caption_template="a photo", maximum_pixels=4096)) == 1


def test_a_template_stands_in_for_missing_captions_only(tmp_path: Path) -> None:
    for stem in "ab":
        (tmp_path / f"{stem}.png").write_bytes(GOOD)
    (tmp_path / "b.txt").write_text("{trigger} in a hat")
    captions = [photo.caption for photo in load_photos(tmp_path, "sks", caption_template="a photo of {trigger}")]
    assert captions == ["a photo of sks", "sks in a hat"]
    with pytest.raises(PhotoFolderError, match=r"a.png: contains {trigger}, but no trigger is set"):
        load_photos(tmp_path, caption_template="a photo of {trigger}")


def smooth(seed: int) -> Image.Image:
    """A picture of soft blobs, as photos are made of."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)


SIMILAR: dict[str, Callable[[Image.Image], Image.Image]] = {
    "smaller": lambda picture: picture.resize((120, 120)),
    "brighter": lambda picture: picture.point(lambda value: value * 0.8 + 50),
    "saved at quality 50": lambda picture: Image.open(io.BytesIO(encoded(picture, "JPEG", quality=50))),
}


def test_copies_and_near_copies_are_named_with_what_they_repeat(tmp_path: Path) -> None:
    smooth(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    for name, change in zip("cde", SIMILAR.values(), strict=True):
        change(smooth(1)).save(tmp_path / f"{name}.png")
    smooth(2).save(tmp_path / "f.png")
    found = resemblance_warnings(load_photos(tmp_path, caption_template="a photo"))
    assert [problem.file for problem in found] == ["b.png", "c.png", "d.png", "e.png"]
    assert found[0].reason == "is a copy of a.png"
    for problem in found[1:]:
        assert problem.reason.startswith("is nearly the same picture as a.png (")


def test_a_folder_is_read_without_a_warning_of_the_library(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (11_000, 9_000)), "PNG", compress_level=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_photos(tmp_path, caption_template="a photo")) == 1
