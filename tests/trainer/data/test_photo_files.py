"""Which files of a folder are photos and captions, whatever form their names have, and which are passed over."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from tests.trainer.conftest import write_photo
from trainer.data.photo_files import find_photo_files, folder_warnings, photos_below
from trainer.data.photo_problem import PhotoProblem, listed, printable
from trainer.data.photos import PhotoFolderError, load_photos

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "été") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("photo", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("caption", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("pattern", [COMPOSED, DECOMPOSED])
def test_names_pair_up_and_fit_patterns_in_either_unicode_form(
    tmp_path: Path, photo: str, caption: str, pattern: str
) -> None:
    path = write_photo(tmp_path, photo, seed=0, caption=None)
    (tmp_path / f"{caption}.txt").write_text("in summer")

    (found,) = load_photos(tmp_path, repeats={f"{pattern}*": 3})

    assert (found.path, found.caption, found.repeats) == (path, "in summer", 3)


def test_two_photos_whose_names_look_alike_are_told_apart(tmp_path: Path) -> None:
    for seed, stem in enumerate((COMPOSED, DECOMPOSED)):
        write_photo(tmp_path, stem, seed=seed, caption=None)
    (tmp_path / f"{COMPOSED}.txt").write_text("in summer")

    with pytest.raises(PhotoFolderError) as caught:
        load_photos(tmp_path)

    (problem,) = caught.value.problems
    assert problem.reason.startswith(f"is a second photo named {COMPOSED!r}, as ")
    assert problem.reason.endswith(" (the same letters in another Unicode form)")


def test_files_are_sorted_by_what_they_are(tmp_path: Path) -> None:
    names = "a.png a.txt B.jpg b.txt c.png c.png.txt d.png d.cap e.png lonely.txt Metadata.jsonl notes.md .f.png"
    for name in names.split():
        (tmp_path / name).touch()
    problems: list[PhotoProblem] = []

    files = find_photo_files(tmp_path, problems)

    assert problems == []
    assert {stem: path.name for stem, path in files.photos.items()} == {
        "B": "B.jpg",
        **{stem: f"{stem}.png" for stem in "acde"},
    }
    assert {stem: path.name for stem, path in files.captions.items()} == {"a": "a.txt"}
    assert {stem: path.name for stem, path in files.misnamed.items()} == {"B": "b.txt", "c": "c.png.txt", "d": "d.cap"}
    assert [path.name for path in files.lonely] == ["lonely.txt"]
    assert [path.name for path in files.tables] == ["Metadata.jsonl"]


def test_a_caption_of_its_own_is_not_taken_for_another_photo(tmp_path: Path) -> None:
    for name in ("a.png", "a.png.jpg", "a.png.txt"):
        (tmp_path / name).touch()

    files = find_photo_files(tmp_path, [])

    assert {stem: path.name for stem, path in files.captions.items()} == {"a.png": "a.png.txt"}
    assert (files.misnamed, files.lonely) == ({}, ())


def test_photos_below_are_counted_to_a_depth_and_not_in_hidden_folders(tmp_path: Path) -> None:
    for place in (".", "img/10_sks", "img/1_man", ".cache", "a/b/c"):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for name in ("1.png", "2.JPG", "1.txt", ".3.png"):
            (tmp_path / place / name).touch()

    assert photos_below(tmp_path) == {"img/10_sks": 2, "img/1_man": 2}
    assert folder_warnings(tmp_path) == (
        "4 in 'img/10_sks', 'img/1_man', and folders below it are not looked at; set photos.folder to one of them, or "
        'move the photos up; the 10 in its name is photos.repeats: {"*": 10} here',
    )
    assert folder_warnings(tmp_path / "img" / "10_sks") == ()


def test_names_are_shown_whole_and_not_all_of_them() -> None:
    assert printable("\udce4é.png") == "\\xe4é.png"
    assert printable("Фото 😀.png") == "Фото 😀.png"
    assert listed("abcde") == "a, b, c, d, e"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"
