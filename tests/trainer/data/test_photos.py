"""The photo folder: its captions, its problems, and its split into training and reference."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainer.conftest import write_photo
from trainer.data.photos import CaptionedPhoto, PhotoFolderError, load_photos, open_photo, repeated, split_photos
from trainer.data.picture import PictureError


def test_photos_come_sorted_by_stem_with_their_own_captions(tmp_path: Path) -> None:
    paths = {}
    for stem, suffix, seed in (("b", ".jpg", 1), ("a", ".png", 2), ("c", ".WEBP", 3)):
        paths[stem] = write_photo(tmp_path, stem, seed=seed, caption=f"  {{trigger}} is\n{stem} \n", suffix=suffix)
    (tmp_path / ".hidden").write_text("")
    (tmp_path / "notes.md").write_text("")
    (tmp_path / "folder").mkdir()
    photos = load_photos(tmp_path, trigger="sks")
    assert [photo.path for photo in photos] == [paths["a"], paths["b"], paths["c"]]
    assert [photo.caption for photo in photos] == ["sks is a", "sks is b", "sks is c"]
    assert [photo.sha256 for photo in photos] == [
        hashlib.sha256(paths[stem].read_bytes()).hexdigest() for stem in ("a", "b", "c")
    ]


def test_every_problem_of_a_folder_is_reported_at_once_by_file_name(tmp_path: Path) -> None:
    write_photo(tmp_path, "good", seed=0)
    write_photo(tmp_path, "uncaptioned", seed=1, caption=None)
    write_photo(tmp_path, "unwritten", seed=2, caption=" \n")
    write_photo(tmp_path, "triggered", seed=3, caption="{trigger} smiles")
    write_photo(tmp_path, "twin", seed=4, suffix=".jpg")
    write_photo(tmp_path, "twin", seed=5, suffix=".png")
    write_photo(tmp_path, "latin", seed=6)
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    for name, content in (("empty.jpg", b""), ("text.jpg", b"this is no photo"), ("moving.gif", b"GIF89a")):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).with_suffix(".txt").write_text("a photo")
    whole = write_photo(tmp_path, "torn", seed=7, suffix=".jpg")
    whole.write_bytes(whole.read_bytes()[:1000])
    Image.new("RGB", (63, 200)).save(tmp_path / "small.png")
    (tmp_path / "small.txt").write_text("a photo")
    (tmp_path / "lonely.txt").write_text("a photo")
    with pytest.raises(PhotoFolderError) as caught:
        load_photos(tmp_path)
    assert {(problem.file, problem.reason.split(" (")[0]) for problem in caught.value.problems} == {
        ("uncaptioned.png", "has no caption"),
        ("unwritten.txt", "is an empty caption"),
        ("triggered.txt", "contains {trigger}, but no trigger is set"),
        ("twin.png", "is a second photo named 'twin', as twin.jpg"),
        ("latin.txt", "is not UTF-8 text"),
        ("empty.jpg", "is empty"),
        ("text.jpg", "is not a JPEG, PNG or WebP image, whatever its name says"),
        ("moving.gif", "is a GIF image and none of JPEG, PNG or WebP"),
        ("torn.jpg", "does not decode"),
        ("small.png", "is too small"),
        ("lonely.txt", "is a caption without a photo"),
    }
    message = str(caught.value)
    assert message.startswith(f"11 problems in the photo folder {tmp_path}:")
    for problem in caught.value.problems:
        assert f"  - {problem.file}: {problem.reason}; {problem.remedy}" in message


def test_a_folder_without_photos_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(PhotoFolderError, match=r"there are no photos; put \.jpg"):
        load_photos(tmp_path)
    with pytest.raises(PhotoFolderError, match="there is no such folder"):
        load_photos(tmp_path / "nowhere")


def test_a_photo_is_told_by_its_content_not_its_name(tmp_path: Path) -> None:
    write_photo(tmp_path, "a", seed=0)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert [photo.path.name for photo in load_photos(tmp_path)] == ["a.jpg"]


def captioned(*contents: str) -> list[CaptionedPhoto]:
    return [
        CaptionedPhoto(
            path=Path(f"{number}.jpg"),
            caption="a photo",
            sha256=content,
            fingerprint=int.from_bytes(hashlib.sha256(content.encode()).digest(), "big"),
            size=(64, 64),
        )
        for number, content in enumerate(contents)
    ]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("count", [3, 10, 21])
def test_a_split_is_complete_disjoint_and_of_the_share_asked_for(count: int, share: float) -> None:
    photos = captioned(*(f"content{number}" for number in range(count)))
    split = split_photos(photos, share, seed=0)
    assert sorted([*split.training, *split.reference], key=photos.index) == photos
    assert len(split.reference) == min(max(2, round(share * count)), count - 1)


@pytest.mark.parametrize("seed", range(20))
def test_identical_photos_land_on_the_same_side(seed: int) -> None:
    photos = captioned("a", "b", "a", "c", "d", "a", "b", "e")
    split = split_photos(photos, 0.3, seed)
    assert {photo.sha256 for photo in split.training}.isdisjoint(photo.sha256 for photo in split.reference)
    assert len({photo.sha256 for photo in split.reference}) == 2


@pytest.mark.parametrize("seed", range(20))
def test_near_duplicates_land_on_the_same_side_and_count_once(seed: int) -> None:
    photos = captioned("a", "b", "c", "d", "e")
    photos += [replace(photos[1], sha256=f"like b, {bit}", fingerprint=photos[1].fingerprint ^ bit) for bit in (1, 6)]
    split = split_photos(photos, 0.4, seed)
    alike = {photos[1].sha256, "like b, 1", "like b, 6"}
    sides = [{photo.sha256 for photo in side} & alike for side in (split.training, split.reference)]
    assert sorted(map(len, sides)) == [0, 3]
    assert len(split.reference) == (2 if sides[0] else 4)


def test_a_split_depends_on_content_and_seed_alone() -> None:
    contents = [f"content{number}" for number in range(12)]

    def reference(order: list[str], seed: int) -> set[str]:
        return {photo.sha256 for photo in split_photos(captioned(*order), 0.25, seed).reference}

    assert reference(contents, 3) == reference(contents[::-1], 3)
    assert len({frozenset(reference(contents, seed)) for seed in range(20)}) > 10


@pytest.mark.parametrize("contents", [[], ["a"], ["a", "b"], ["a", "b", "a", "b"]])
def test_too_few_different_photos_are_refused(contents: list[str]) -> None:
    with pytest.raises(ValueError, match=f"has {len(set(contents))} different"):
        split_photos(captioned(*contents), 0.2, 0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="reference_share is"):
        split_photos(captioned("a", "b", "c"), share, 0)


def test_a_photo_opens_upright_square_and_centred(tmp_path: Path) -> None:
    """A sideways photo, red over green over blue once turned: the centre square is all green."""
    upright = Image.new("RGB", (64, 192), "green")
    upright.paste("red", (0, 0, 64, 64))
    upright.paste("blue", (0, 128, 64, 192))
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn 90 degrees clockwise to show"
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    (photo,) = load_photos(tmp_path, caption_template="a photo")
    opened = open_photo(photo, 32)
    assert (opened.mode, opened.size) == ("RGB", (32, 32))
    assert np.abs(np.asarray(opened, dtype=int)[2:-2] - (0, 128, 0)).max() <= 1


def test_a_photo_that_is_not_the_one_checked_is_refused_by_name(tmp_path: Path) -> None:
    path = write_photo(tmp_path, "a", seed=0)
    (photo,) = load_photos(tmp_path)
    content = path.read_bytes()
    write_photo(tmp_path, "a", seed=1)
    with pytest.raises(
        PictureError, match=r"a\.png has changed since it was checked; put the file back, or start again"
    ):
        open_photo(photo, 32)
    path.unlink()
    with pytest.raises(
        PictureError, match=r"a\.png cannot be read any more \(No such file or directory\); put the file"
    ):
        open_photo(photo, 32)
    path.write_bytes(content)
    assert open_photo(photo, 32).size == (32, 32)


def test_a_made_folder_loads(make_photos: Callable[..., Path]) -> None:
    captions = [photo.caption for photo in load_photos(make_photos(3), trigger="sks")]
    assert captions == [f"a photo of sks, number {number}" for number in range(3)]


def test_repeats_follow_the_first_pattern_that_fits(make_photos: Callable[..., Path]) -> None:
    folder = make_photos(3)
    photos = load_photos(folder, "sks", repeats={"photo1*": 3, "photo[12].png": 2})
    assert [photo.repeats for photo in photos] == [1, 3, 2]
    assert [photo.path.stem for photo in repeated(photos)] == ["photo0", *["photo1"] * 3, *["photo2"] * 2]
    with pytest.raises(PhotoFolderError, match=r"photos.repeats names 'PHOTO\*', which fits no photo"):
        load_photos(folder, "sks", repeats={"PHOTO*": 2})
