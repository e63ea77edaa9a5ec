"""Storage that gives out in the middle of a file: what was there stays, nothing half-written does, and it is said."""

import errno
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from tests.support.full_disk import files_of_at_most
from trainer.files import write_file, written_folder
from trainer.storage import StorageError, storage_errors

ROOM = 4096


def test_a_file_that_finds_no_room_leaves_the_former_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_file(path, lambda temporary: temporary.write_text("before"))
    with files_of_at_most(ROOM), pytest.raises(StorageError) as told:
        write_file(path, lambda temporary: temporary.write_bytes(bytes(2 * ROOM)))
    assert str(told.value) == f"{path} could not be written: File too large; make room there, or repair it"
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("report.json", "before")]


def test_tensors_that_find_no_room_leave_the_former_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with written_folder(folder) as temporary:
        (temporary / "step").write_text("4")
    tensors = {"moments": np.zeros(ROOM, np.float32)}

    def save() -> None:
        with written_folder(folder) as temporary:
            (temporary / "step").write_text("8")
            save_file(tensors, temporary / "moments.safetensors")

    with files_of_at_most(ROOM), pytest.raises(StorageError, match=r"state could not be written: File too large"):
        save()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [("step", "4")]


def test_a_folder_that_cannot_take_its_name_leaves_the_former(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "state"
    with written_folder(folder) as temporary:
        (temporary / "step").write_text("4")
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.suffix == ".tmp":
            raise OSError(errno.EIO, "from the kernel")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StorageError), written_folder(folder) as temporary:
        (temporary / "step").write_text("8")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert (folder / "step").read_text() == "4"


def test_a_folder_in_a_place_that_cannot_be_had_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotADirectoryError), written_folder(tmp_path / "file" / "state"):
        pytest.fail("there is no such folder")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_whatever_the_storage_fails_with_is_told(number: int, tmp_path: Path) -> None:
    told = r"adapter could not be written: .*; make room there, or repair it"
    with pytest.raises(StorageError, match=told), storage_errors(tmp_path / "adapter"):
        raise OSError(number, "from the kernel")
    with pytest.raises(StorageError), storage_errors(tmp_path / "adapter"):
        raise SafetensorError(f"Error while serializing: I/O error: from the kernel (os error {number})")


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), SafetensorError("InvalidHeader"), OSError("?")])
def test_other_errors_pass_as_they_are(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as raised, storage_errors(tmp_path):
        raise error
    assert raised.value is error
