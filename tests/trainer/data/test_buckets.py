"""Aspect buckets: which there are, which photo goes where, and how it is cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainer.conftest import write_photo
from trainer.data.buckets import AspectBuckets, bucket_warnings, enlargement_warnings, sort_into_buckets
from trainer.data.framing import framing_of
from trainer.data.photos import load_photos, open_face_mask, open_photo, repeated
from trainer.data.picture import Size

USUAL = AspectBuckets()


@pytest.mark.parametrize(
    ("step", "maximum_ratio", "resolution", "portraits"),
    [
        # 512^2 / 448 = 585, / 384 = 683; / 320 = 819, but 768 / 320 is 2.4.
        (64, 2.0, 512, [(384, 640), (448, 576), (512, 512)]),
        (64, 2.4, 512, [(320, 768), (384, 640), (448, 576), (512, 512)]),
        # Stable Diffusion XL's own sizes, as far as 2:1.
        (64, 2.0, 1024, [(768, 1344), (832, 1216), (896, 1152), (960, 1088), (1024, 1024)]),
        (8, 2.0, 64, [(48, 80), (56, 72), (64, 64)]),
        # No multiple: the largest square is there beside what is nearly one.
        (64, 1.2, 1000, [(960, 960), (960, 1024)]),
        (64, 2.0, 64, [(64, 64)]),
        (64, 1.0, 512, [(512, 512)]),
    ],
)
def test_sizes_worked_out_by_hand(step: int, maximum_ratio: float, resolution: int, portraits: list[Size]) -> None:
    found = AspectBuckets(step=step, maximum_ratio=maximum_ratio).sizes(resolution)
    assert found == tuple(sorted({*portraits, *((height, width) for width, height in portraits)}))


@pytest.mark.parametrize("resolution", [64, 200, 512, 1000, 1024])
@pytest.mark.parametrize("step", [8, 24, 64])
def test_sizes_keep_their_bounds(step: int, resolution: int) -> None:
    for width, height in AspectBuckets(step=step, maximum_ratio=3).sizes(resolution):
        assert width % step == height % step == 0
        assert width * height <= resolution**2
        assert max(width, height) <= 3 * min(width, height)


@pytest.mark.parametrize(
    ("shape", "bucket"),
    [
        ((3000, 4000), (448, 576)),
        ((4000, 3000), (576, 448)),
        ((64, 64), (512, 512)),
        ((1920, 1080), (640, 384)),
        ((1080, 1920), (384, 640)),
        # 2:3 lies nearer to 3:5 (a factor of 10/9) than to 7:9 (7/6).
        ((400, 600), (384, 640)),
        ((70, 80), (448, 576)),
        ((10_000, 100), (640, 384)),
    ],
)
def test_a_photo_goes_to_the_nearest_ratio(shape: Size, bucket: Size) -> None:
    assert USUAL.size_of(shape, 512) == bucket


def test_half_way_the_squarer_of_two_equal_areas_is_taken() -> None:
    wide = AspectBuckets(step=32, maximum_ratio=4)
    assert wide.sizes(64) == ((32, 128), (64, 64), (128, 32))
    assert wide.size_of((100, 200), 64) == wide.size_of((200, 100), 64) == (64, 64)
    assert wide.size_of((99, 200), 64) == (32, 128)
    assert AspectBuckets().size_of((500, 500), 1000) == (960, 960)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 12}, "step is 12; it must be a multiple of 8 from 8 to 1024"),
        ({"step": 0}, "step is 0; it must be a multiple of 8"),
        ({"step": 64.0}, "step is 64.0; it must be a whole number"),
        ({"maximum_ratio": 0.5}, "maximum_ratio is 0.5; it must lie between 1 and 16"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AspectBuckets(**changes)  # type: ignore[arg-type]


def test_a_step_above_the_resolution_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        ValueError, match=r"a step of 64 pixels, more than training\.resolution, which is 56; set a step"
    ):
        USUAL.sizes(56)


def test_photos_are_sorted_by_size_in_their_order(tmp_path: Path) -> None:
    sizes = {"a": (100, 60), "b": (64, 64), "c": (60, 100), "d": (150, 90)}
    for seed, (stem, size) in enumerate(sizes.items()):
        write_photo(tmp_path, stem, seed=seed, size=size)
    photos = load_photos(tmp_path, minimum_side=32)
    assert {photo.path.stem: photo.size for photo in photos} == sizes
    found = sort_into_buckets(photos, AspectBuckets(step=8), 32)
    names = {size: [photo.path.stem for photo in of_size] for size, of_size in found.items()}
    assert list(names.items()) == [((24, 40), ["c"]), ((32, 32), ["b"]), ((40, 24), ["a", "d"])]
    assert sort_into_buckets(photos, None, 32) == {(32, 32): photos}
    cut = [replace(photo, crop=(0, 0, 50, 50)) for photo in photos]
    assert sort_into_buckets(cut, AspectBuckets(step=8), 32) == {(32, 32): tuple(cut)}


def test_buckets_that_do_not_fill_a_batch_are_named_with_their_photos(tmp_path: Path) -> None:
    """Twice a and once d lie down: three an epoch; one photo each is square and tall."""
    sizes = {"a": (100, 60), "b": (64, 64), "c": (60, 100), "d": (150, 90)}
    for seed, (stem, size) in enumerate(sizes.items()):
        write_photo(tmp_path, stem, seed=seed, size=size)
    photos = repeated(load_photos(tmp_path, minimum_side=32, repeats={"a*": 2}))
    buckets = AspectBuckets(step=8)
    assert bucket_warnings(photos, buckets, 32, 1) == bucket_warnings(photos, None, 32, 9) == ()
    tall, square = bucket_warnings(photos, buckets, 32, 3)
    assert tall.startswith("bucket 24x40 has 1 photo(s) an epoch (c.png), fewer than batch_size, which is 3, so its")
    assert square.startswith("bucket 32x32 has 1 photo(s) an epoch (b.png), fewer")
    *_, wide = bucket_warnings(photos, buckets, 32, 4)
    assert wide.startswith("bucket 40x24 has 3 photo(s) an epoch (a.png, d.png), fewer than batch_size, which is 4")


def test_a_photo_lying_on_its_side_is_sorted_as_it_is_seen(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 60)).save(tmp_path / "a.jpg", exif=exif)
    (photo,) = load_photos(tmp_path, minimum_side=32, caption_template="a photo")
    assert photo.size == (60, 100)
    assert list(sort_into_buckets([photo], AspectBuckets(step=8), 32)) == [(24, 40)]


def test_photos_that_are_much_enlarged_are_named_with_their_factor(tmp_path: Path) -> None:
    """At 96 pixels: 64 is enlarged 1.5 times, a crop of 32 pixels 3 times; 64 x 128 covers 64 x 128 as it is."""
    for seed, (stem, size) in enumerate({"a": (64, 64), "b": (65, 90), "c": (100, 100), "d": (64, 128)}.items()):
        write_photo(tmp_path, stem, seed=seed, size=size)
    photos = list(load_photos(tmp_path))
    assert enlargement_warnings(photos, None, 95) == ()
    (line,) = enlargement_warnings(photos, None, 96)
    assert line.startswith("2 of 4 photos are enlarged to 96 pixels (a.png 1.5 times, d.png 1.5 times), and")
    assert "face_crop" not in line
    (line,) = enlargement_warnings(photos, AspectBuckets(step=8), 96)
    assert "1 of 4 photos are enlarged to 96 pixels (a.png 1.5 times)" in line
    photos[2] = replace(photos[2], crop=(0, 0, 32, 32))
    (line,) = enlargement_warnings(photos, None, 96)
    assert "(c.png 3.0 times, a.png 1.5 times, d.png 1.5 times)" in line
    assert "a wider photos.face_crop" in line


def test_a_photo_covers_its_bucket_and_is_cut_in_the_middle(tmp_path: Path) -> None:
    """60 x 120 for 24 x 40: at 24 wide it is 48 high, and 4 rows fall away at either end: 10 of the photo's own."""
    picture = Image.new("RGB", (60, 120), "red")
    picture.paste((0, 0, 255), (0, 10, 60, 110))
    for name, upright in (("tall", picture), ("wide", picture.transpose(Image.Transpose.ROTATE_90))):
        upright.save(tmp_path / f"{name}.png")
    tall, wide = load_photos(tmp_path, minimum_side=32, caption_template="a photo")
    for photo, size in ((tall, (24, 40)), (wide, (40, 24))):
        opened = open_photo(photo, size)
        assert opened.size == size
        # Lanczos looks three pixels far, beyond the cut, too.
        assert (np.asarray(opened)[3:-3, 3:-3] == (0, 0, 255)).all()
    framing = framing_of(tall, (24, 40))
    assert (framing.original_size, framing.crop_top_left, framing.target_size) == ((120, 60), (4, 0), (40, 24))
    framing = framing_of(wide, (40, 24), mirrored=True)
    assert (framing.original_size, framing.crop_top_left, framing.target_size) == ((60, 120), (0, 4), (24, 40))
    # Shown at 6 x 10 the middle 100 rows are ten to a pixel: the face covers half of two of them.
    mask = np.asarray(open_face_mask(replace(tall, face=(0, 15, 30, 10)), (6, 10)))
    expected = np.zeros((10, 6))
    expected[0:2, :3] = 0.5
    np.testing.assert_allclose(mask, expected, atol=1e-6)
