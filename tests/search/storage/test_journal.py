"""The journal after a kill: what is cut off, what is refused."""

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from search.storage.journal import JournalError, mend_journal

WHOLE = b'{"op_code":0}\n{"op_code":4}\n'


@pytest.mark.parametrize(
    "tail",
    [b"", b'{"op_code":5', b'{"op_code":5}', b'{"op_code"\n', b"\0\0\0\0", b"\0\n\0\n", b"5\n"],
    ids=["nothing", "half a line", "no line end", "half a line and an end", "zeros", "lines of zeros", "no record"],
)
def test_what_is_torn_off_at_the_end_is_cut_off(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(WHOLE + tail)
    mend_journal(path)
    assert path.read_bytes() == WHOLE
    assert [file.name for file in tmp_path.iterdir()] == ["journal.log"]


def test_damage_in_the_middle_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    damaged = b'{"op_code":0}\n{"op_c\n{"op_code":4}\n'
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match=r"line 2 of .*journal.log is damaged though whole ones follow"):
        mend_journal(path)
    assert path.read_bytes() == damaged


def test_a_lock_that_a_killed_process_held_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    path.write_bytes(WHOLE)
    (tmp_path / "journal.log.copy").write_bytes(WHOLE)
    (tmp_path / "journal.log.lock").symlink_to(path)
    (tmp_path / "journal.log.lock1234.rename").symlink_to(path)
    mend_journal(path)
    assert {file.name for file in tmp_path.iterdir()} == {"journal.log", "journal.log.copy"}


def test_there_may_be_no_journal_yet(tmp_path: Path) -> None:
    mend_journal(tmp_path / "journal.log")
    assert not list(tmp_path.iterdir())


def test_optuna_reads_what_is_left_at_every_length(tmp_path: Path) -> None:
    """A journal cut off after any byte holds the trials that were whole by then."""
    path = tmp_path / "journal.log"

    def study() -> optuna.Study:
        storage = JournalStorage(JournalFileBackend(str(path)))
        return optuna.create_study(study_name="anna", storage=storage, load_if_exists=True)

    for value in (0.5, 0.7):
        trial = study().ask()
        trial.report(value, 10)
        study().tell(trial, value)
    content = path.read_bytes()
    for length in range(len(content) + 1):
        path.write_bytes(content[:length])
        mend_journal(path)
        assert path.read_bytes() == content[: content.rfind(b"\n", 0, length) + 1]
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        mend_journal(path)
        whole = content[:length].count(b'"op_code":4')  # a trial is begun in one line
        assert len(study().trials) in (whole - 1, whole)
