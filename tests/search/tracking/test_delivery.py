"""The delivery of what MLflow has not taken, by `python -m search.sync`, from the search's folder."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from search.storage.trial_record import JobState
from search.tracking import tracker as tracking
from search.tracking.connection import Connection
from search.tracking.mlflow_writer import InUseError, MlflowWriter
from search.tracking.run_view import Identity
from tests.search.tracking.conftest import MakeSearch
from tests.support.mlflow_runs import grids, points, runs_of, sync


def test_what_mlflow_refuses_is_left_out_named_and_delivered_later(
    make_search: MakeSearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.0,))
    search = make_search()
    with search.tracker() as tracker:
        search.begin(tracker)
        name = search.propose(tracker)
        tracker.flush()
        grid = search.folder / "trials" / name / "step-50" / "grid.png"
        original = search._checkpoint

        def without_grid(*arguments: Any) -> Any:
            report = original(*arguments)
            grid.rename(tmp_path / "away.png")
            return report

        monkeypatch.setattr(search, "_checkpoint", without_grid)
        search.score(tracker, name, 50, 0.25)
        search.end(tracker, name, JobState.STOPPED, "beaten")
        search.finish(tracker, status="no usable candidate")
    assert tracker.pending == 1
    assert "grid.png" in tracker.failure
    client = MlflowClient(tracker.shown_uri)
    parent, children = runs_of(client)
    assert (parent.info.status, parent.data.tags["state"]) == ("FAILED", "no usable candidate"), "the rest is there"
    assert children[name].info.status == "RUNNING"

    behind = sync(search.folder)
    assert (behind.returncode, "has not taken all of 1 runs: " in behind.stderr) == (1, True), behind.stderr
    assert "grid.png" in behind.stderr
    (tmp_path / "away.png").rename(grid)
    delivered = sync(search.folder)
    assert (delivered.returncode, delivered.stderr) == (0, "")
    assert "shows all 2 runs" in delivered.stdout
    child = runs_of(client)[1][name]
    assert (points(client, child, "objective"), grids(client, child)) == ([(50, 0.25)], [50])
    assert (child.info.status, child.data.tags["reason"]) == ("FINISHED", "beaten")


def test_one_process_at_a_time_writes_for_a_run(make_search: MakeSearch, tmp_path: Path) -> None:
    search = make_search()
    with search.tracker() as tracker:
        search.begin(tracker)
        identity = Identity.read(search.folder)
        assert identity is not None
        with pytest.raises(InUseError, match="by another process"):
            MlflowWriter(Connection(None, "people", tmp_path), search.folder, identity.token)
        refused = sync(search.folder)
        assert (refused.returncode, "by another process" in refused.stderr) == (2, True), refused.stderr


def test_a_search_whose_process_was_killed_is_delivered_as_interrupted(make_search: MakeSearch, tmp_path: Path) -> None:
    """Without a result: what became of its trials is in the journal."""
    search = make_search("http://127.0.0.1:9")  # nobody answers there
    tracker = search.tracker()
    search.begin(tracker)
    search.base(tracker)
    first, second = search.propose(tracker), search.propose(tracker)
    search.score(tracker, first, 50, 0.25)
    search.end(tracker, first, JobState.STOPPED, "stopped after step 50: others were better at the same step")
    search.score(tracker, second, 50, 0.5)
    assert tracker.pending == 3
    tracker._closing.set()  # its thread ends, as with its process
    tracker._thread.join()

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    delivered = sync(search.folder, "--uri", uri)
    assert (delivered.returncode, delivered.stderr) == (0, "")
    client = MlflowClient(uri)
    parent, children = runs_of(client)
    states = {name: (run.info.status, run.data.tags["state"]) for name, run in {"": parent, **children}.items()}
    assert states == {
        "": ("KILLED", "interrupted"),
        first: ("FINISHED", "stopped"),
        second: ("KILLED", "interrupted"),
    }
    assert children[first].data.tags["reason"] == "stopped after step 50: others were better at the same step"
    assert parent.data.metrics["base_fidelity"] == 1.0
    began, ended = children[first].info.start_time, children[first].info.end_time
    assert ended - began == 12_500, "as long as it took, though MLflow was given it later"


def test_a_trial_that_a_limit_cut_off_is_delivered_as_stopped(make_search: MakeSearch, tmp_path: Path) -> None:
    search = make_search("http://127.0.0.1:9")
    tracker = search.tracker()
    search.begin(tracker)
    name = search.propose(tracker)
    search.score(tracker, name, 50, 0.25)
    record = search.records[name]
    record.state, record.reason = JobState.STOPPED, "max_minutes is reached; last scored at step 50"
    search.finish(tracker, status="no usable candidate")
    tracker._closing.set()
    tracker._thread.join()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert sync(search.folder, "--uri", uri).returncode == 0
    tags = runs_of(MlflowClient(uri))[1][name].data.tags
    assert (tags["state"], tags["reason"]) == ("stopped", "max_minutes is reached; last scored at step 50")


def test_a_folder_without_a_search_has_nothing_to_deliver(make_search: MakeSearch) -> None:
    search = make_search()
    assert sync(search.folder).returncode == 2, "no run folder"
    with search.tracker() as tracker:
        search.begin(tracker)
    (search.folder / "mlflow.json").unlink()
    done = sync(search.folder)
    assert (done.returncode, "has nothing to deliver" in done.stderr) == (2, True), done.stderr
    (search.folder / "journal.log").unlink()
    done = sync(search.folder)
    assert (done.returncode, "journal.log is missing; put it back" in done.stderr) == (2, True), done.stderr
