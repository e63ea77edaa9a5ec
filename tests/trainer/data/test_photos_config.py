"""The settings of a photo folder, which a search extends."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.trainer.conftest import write_photo
from trainer.data.photos import PhotoFolderError
from trainer.data.photos_config import PhotoFolderConfig
from trainer.data.prior_config import PriorConfig
from trainer.settings_file import ConfigurationError


@pytest.mark.parametrize("trigger", ["", " sks", "{trigger}", 'a"b', "a" * 101, "a\nb"])
def test_a_trigger_that_would_break_captions_or_files_is_refused(trigger: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PhotoFolderConfig(folder=Path("photos"), trigger=trigger)
    (problem,) = caught.value.errors()
    assert (problem["loc"], problem["type"]) == (("trigger",), "string_pattern_mismatch")


def test_a_folder_is_read_as_its_settings_say(tmp_path: Path) -> None:
    write_photo(tmp_path, "face", seed=1, caption="{trigger} smiles")
    write_photo(tmp_path, "bust", seed=2, caption=None)
    settings = PhotoFolderConfig(
        folder=tmp_path, trigger="ohwx", caption_template="a photo of {trigger}", repeats={"f*": 3}
    )
    assert [(photo.caption, photo.repeats) for photo in settings.load()] == [
        ("a photo of ohwx", 1),
        ("ohwx smiles", 3),
    ]
    with pytest.raises(PhotoFolderError, match=r"bust\.png: has no caption"):
        PhotoFolderConfig(folder=tmp_path).load()


def test_folders_are_those_beside_the_file(tmp_path: Path) -> None:
    for name in ("photos", "men"):
        (tmp_path / name).mkdir()
    settings = PhotoFolderConfig(folder=Path("photos"), prior=PriorConfig(prompt="a man", folder=Path("men")))
    resolved = settings.resolved(tmp_path)
    assert resolved.prior is not None
    assert (resolved.folder, resolved.prior.folder) == (tmp_path / "photos", tmp_path / "men")
    with pytest.raises(ConfigurationError, match="gone is not a folder"):
        settings.model_copy(update={"folder": Path("gone")}).resolved(tmp_path)


@pytest.mark.parametrize(("switch", "step"), [(True, 64), ({"step": 16}, 16)])
def test_buckets_are_a_switch_or_their_settings(switch: object, step: int) -> None:
    buckets = PhotoFolderConfig.model_validate({"folder": "photos", "buckets": switch}).buckets
    assert buckets is not None
    assert buckets.step == step
    assert PhotoFolderConfig.model_validate({"folder": "photos", "buckets": False}).buckets is None
