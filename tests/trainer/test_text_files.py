"""Text files that a user wrote: one encoding, with or without a mark, whatever ends the lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.files import read_text

TEXT = "# häppy\na: 1\n\nb: 2\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_mark_and_the_ends_of_lines_are_not_part_of_the_text(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "text.yaml"
    path.write_bytes(TEXT.replace("\n", end).encode(encoding))

    assert read_text(path) == TEXT


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_another_encoding_is_refused_with_the_path_and_the_remedy(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "text.yaml"
    path.write_bytes(TEXT.encode(encoding))

    with pytest.raises(ValueError, match=r"is not UTF-8 text .*; save it as UTF-8") as error:
        read_text(path)
    assert str(path) in str(error.value)


def test_utf_16_without_a_mark_and_without_an_accent_is_refused(tmp_path: Path) -> None:
    """All of its bytes are UTF-8, too."""
    path = tmp_path / "text.yaml"
    path.write_bytes("a: 1\n".encode("utf-16-le"))

    with pytest.raises(ValueError, match=r"holds NUL characters, as UTF-16 does\); save it as UTF-8"):
        read_text(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing\.txt cannot be read: No such file or directory"):
        read_text(tmp_path / "missing.txt")
    with pytest.raises(ValueError, match="cannot be read: Is a directory"):
        read_text(tmp_path)
