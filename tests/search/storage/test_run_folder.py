"""The run folder: never overwritten, held by one process, cleared of what a kill has left half done."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.config.search_config import ConfigurationError, SearchConfig, load_config
from search.storage.run_folder import RunFolder
from tests.support.command import CEILING

Write = Callable[[dict[str, Any]], Path]

AB, CD = "ab" * 16, "cd" * 16
"""What `trainer.files` makes temporary names unique with."""
HOLD = """
import sys, time
from pathlib import Path
from search.storage.run_folder import RunFolder
with RunFolder.reopen(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def config(document: dict[str, Any], write_config: Write) -> SearchConfig:
    return load_config(write_config(document))


def test_a_name_in_use_is_refused_with_both_remedies(config: SearchConfig) -> None:
    with RunFolder.make(config) as run:
        (run.path / "result.json").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"runs/anna exists already; give another --name, or .* --resume "):
        RunFolder.make(config)
    assert (run.path / "result.json").read_text() == "mine"
    assert [path.name for path in config.runs.iterdir()] == ["anna"]


def test_what_was_begun_in_vain_leaves_the_name_free(config: SearchConfig) -> None:
    with RunFolder.make(config) as run:
        run.begin(config, {"photo a.jpg": "1"})
        assert run.inputs == {"photo a.jpg": "1"}
        run.discard()
    RunFolder.make(config).discard()


def test_an_earlier_processes_folder_is_never_discarded(config: SearchConfig) -> None:
    with RunFolder.make(config) as run:
        run.begin(config, {})
    with RunFolder.reopen(run.path) as again:
        again.discard()
    assert load_config(run.path / "search.yaml") == config


def test_two_processes_cannot_hold_one_run_and_a_killed_one_holds_none(config: SearchConfig) -> None:
    with RunFolder.make(config) as run, pytest.raises(ConfigurationError, match="another process is searching in"):
        RunFolder.reopen(run.path)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigurationError, match="another process is searching in"):
            RunFolder.reopen(run.path)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate(timeout=CEILING)
    with RunFolder.reopen(run.path) as again:
        assert not again.is_new


def test_half_done_writing_is_finished_or_undone(config: SearchConfig) -> None:
    with RunFolder.make(config) as run:
        pass
    trial = run.path / "trials" / "000"
    (run.path / "trials" / "001" / "state" / f"step-8.{AB}.old").mkdir(parents=True)
    for name in ("step-20", f"step-40.{AB}.tmp", f"state.{AB}.old", f"step-20.{CD}.old"):
        (trial / name).mkdir(parents=True)
        (trial / name / "report.json").write_text(name)
    for file in (run.path / f".result.json.{AB}.tmp", trial / "step-20" / "grid.png"):
        file.write_text("half")
    (run.path / f"champion.{AB}.tmp").mkdir()
    (run.path / "ray" / "trials").mkdir(parents=True)
    (run.path / "ray" / "trials" / "experiment_state.json").write_text("{torn")
    (run.path / "journal.log.lock").symlink_to(run.layout.journal)
    run.layout.journal.write_bytes(b'{"op_code":0}\n{"op_co')
    with RunFolder.reopen(run.path):
        assert {path.name for path in trial.iterdir()} == {"step-20", "state"}
        assert (trial / "state" / "report.json").read_text() == f"state.{AB}.old", "killed between two renames"
        assert (trial / "step-20" / "report.json").read_text() == "step-20"
        assert (run.path / "trials" / "001" / "state" / "step-8").is_dir(), "a training's states, too"
        assert {path.name for path in run.path.iterdir()} == {"trials", "journal.log", "search.lock"}
        assert run.layout.journal.read_bytes() == b'{"op_code":0}\n'
