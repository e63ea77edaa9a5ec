"""A folder of class photos: its captions, and what is wrong with it."""

import shutil
from pathlib import Path

import pytest

from tests.trainer.conftest import write_photo
from trainer.data.class_photos import load_class_photos
from trainer.data.photos import PhotoFolderError, load_photos
from trainer.data.prior_config import PriorConfig


@pytest.fixture
def men(tmp_path: Path) -> Path:
    """A folder of two class images, the second without a caption."""
    folder = tmp_path / "men"
    folder.mkdir()
    write_photo(folder, "a", seed=10, caption="an old man")
    write_photo(folder, "b", seed=11, caption=None)
    return folder


def test_captions_are_the_files_own_or_the_prompt(men: Path) -> None:
    prior = PriorConfig(prompt="a photo of a man", folder=men)
    found = load_class_photos(prior, (), trigger="sks")
    assert [(photo.path.name, photo.caption) for photo in found] == [
        ("a.png", "an old man"),
        ("b.png", "a photo of a man"),
    ]


def test_without_a_folder_there_are_none() -> None:
    assert load_class_photos(None, (), trigger="sks") == ()
    assert load_class_photos(PriorConfig(prompt="a man"), (), trigger="sks") == ()


def test_everything_that_is_wrong_is_told_together(men: Path, tmp_path: Path) -> None:
    person = tmp_path / "person"
    person.mkdir()
    shutil.copy(write_photo(person, "me", seed=1, caption="{trigger}"), men / "stray.png")
    (men / "b.txt").write_text(" ")
    (men / "broken.jpg").write_bytes(b"")
    write_photo(men, "named", seed=12, caption="a photo of {trigger} man")
    write_photo(men, "named2", seed=13, caption="Sks, smiling")
    prior = PriorConfig(prompt="a photo of a man", folder=men)
    with pytest.raises(PhotoFolderError) as error:
        load_class_photos(prior, load_photos(person, "sks"), trigger="sks")
    assert error.value.folder == men
    assert [str(problem) for problem in error.value.problems] == [
        "b.txt: is an empty caption; write what the photo shows, or remove the file if photos.prior.prompt shall "
        "stand in",
        "broken.jpg: is empty (0 bytes); copy it again or remove it",
        "named.png: has the trigger 'sks' in its caption; class images show others: remove it",
        "named2.png: has the trigger 'sks' in its caption; class images show others: remove it",
        "stray.png: is the person's own photo me.png; class images show others: remove it",
    ]


def test_an_empty_folder_and_pixels_without_end_are_refused(men: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(PhotoFolderError, match="there are no photos"):
        load_class_photos(PriorConfig(prompt="a man", folder=tmp_path / "none"), (), trigger="sks")
    below = tmp_path / "none" / "1_man"
    men.rename(below)
    with pytest.raises(PhotoFolderError, match=r"but 2 in '1_man'.*; set photos.prior.folder to it, or move .* up$"):
        load_class_photos(PriorConfig(prompt="a man", folder=tmp_path / "none"), (), trigger="sks")
    men = below
    with pytest.raises(PhotoFolderError, match=r"a.png: has too many pixels .*the limit is 5,000"):
        load_class_photos(PriorConfig(prompt="a man", folder=men), (), trigger="sks", maximum_pixels=5000)
