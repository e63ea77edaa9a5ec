"""Files are readable by whom the umask says, whatever has written them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainer.files import why_unwritable, write_file, written_folder


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def private(path: Path) -> None:
    """As safetensors writes a file: for its owner alone."""
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_gets_the_mode_of_a_new_one(umask: int, tmp_path: Path) -> None:
    write_file(tmp_path / "adapter", private)
    assert mode(tmp_path / "adapter") == 0o666 & ~umask


def test_so_does_every_file_of_a_folder(umask: int, tmp_path: Path) -> None:
    with written_folder(tmp_path / "checkpoint") as folder:
        (folder / "deep").mkdir()
        private(folder / "deep" / "adapter")
    assert mode(tmp_path / "checkpoint" / "deep" / "adapter") == 0o666 & ~umask
    assert mode(tmp_path / "checkpoint") == mode(tmp_path / "checkpoint" / "deep") == 0o777 & ~umask


def test_why_a_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert why_unwritable(tmp_path / "new" / "folder") == ""
    assert why_unwritable(tmp_path / "file" / "folder") == f"{tmp_path / 'file'} is a file"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
