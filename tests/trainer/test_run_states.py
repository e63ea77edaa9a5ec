"""`python -m trainer.run` and its states: damaged ones, one command at a time, a disk that is full."""

import fcntl
import os
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.support.full_disk import files_of_at_most
from tests.support.training_command import invoke, same_content
from tests.trainer.conftest import WriteDocument
from trainer.job.job import TrainingJob
from trainer.run_config import load_run_config
from trainer.training_run import run_training

TRAINING = {"resolution": 64, "rank": 2, "steps": 6, "learning_rate": 1e-3}


@pytest.fixture
def path(write: WriteDocument) -> Path:
    """A run of six steps that keeps step-2, step-4 and step-6."""
    return write("run", training=TRAINING)


def damage(state: Path) -> None:
    file = state / "optimizer.safetensors"
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


def test_a_damaged_state_costs_the_steps_since_an_older_one(path: Path) -> None:
    assert invoke(path).code == 0
    output = path.parent / "out"
    kept = (output / "anna.safetensors").rename(path.parent / "kept.safetensors")
    damage(output / "state" / "step-6")
    (output / "state" / "step-4" / "training_state.json").write_text("{")
    done = invoke(path)
    assert done.code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert f"cannot resume from step-6: {output}/state/step-6/optimizer.safetensors is missing or damaged" in lines[0]
    assert "cannot resume from step-4: " in lines[1]
    assert lines[2] == f"resumed from {output}/state/step-2"
    assert same_content(output / "anna.safetensors", kept)
    for name in ("step-2", "step-4"):
        shutil.rmtree(output / "state" / name)
    damage(output / "state" / "step-6")
    refused = invoke(path)
    assert refused.code == 2
    assert "cannot resume from step-6: " in refused.stderr
    assert f"no state is left to resume from; to begin anew, remove {output}/state or name another" in refused.stderr
    assert (output / "state" / "step-6").is_dir()


def test_a_second_command_is_refused_and_removes_nothing_of_the_first(path: Path) -> None:
    saving = path.parent / "out" / "state" / f"step-2.{'a' * 32}.tmp"
    saving.mkdir(parents=True)
    descriptor = os.open(path.parent / "out", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        refused = invoke(path)
    finally:
        os.close(descriptor)
    assert refused.code == 2
    assert refused.stderr.splitlines() == [
        f"another process is training into {path.parent / 'out'}; wait for its end, or name another output"
    ]
    assert saving.is_dir()


def test_a_full_disk_ends_the_run_in_one_sentence_and_the_same_command_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, output = TrainingJob.save, path.parent / "out"

    def without_room(job: TrainingJob, folder: Path) -> None:
        with files_of_at_most(1000 if job.step_count == 4 else 2**40):
            save(job, folder)

    with monkeypatch.context() as full:
        full.setattr(TrainingJob, "save", without_room)
        ended = invoke(path)
    assert ended.code == 1
    assert ended.stderr.splitlines() == [
        f"{output}/state/step-4 could not be written: File too large; make room there, or repair it; then the same "
        "command goes on from the newest state"
    ]
    assert [state.name for state in (output / "state").iterdir()] == ["step-2"]
    done = invoke(path)
    assert done.code == 0, done.stderr
    assert f"resumed from {output}/state/step-2" in done.stdout


def test_no_room_for_what_is_computed_from_the_photos_is_no_fault_of_theirs(path: Path) -> None:
    with files_of_at_most(1000):
        ended = invoke(path)
    assert ended.code == 1
    (line,) = ended.stderr.splitlines()
    assert "out/cache/" in line
    assert "could not be written: File too large" in line


def test_a_stop_where_the_state_was_just_saved_does_not_save_it_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = TrainingJob.save

    def noted(job: TrainingJob, folder: Path) -> None:
        saved.append(job.step_count)
        save(job, folder)

    monkeypatch.setattr(TrainingJob, "save", noted)

    def run(steps: int) -> Any:
        asked = iter([*[False] * steps, True])
        return run_training(load_run_config(path), Console(file=StringIO()), lambda: next(asked))

    assert run(2).step == 2
    assert saved == [2]
    assert run(0).step == 2
    assert saved == [2]
    assert run(1).step == 3
    assert saved == [2, 3]
