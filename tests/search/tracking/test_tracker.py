"""MLflow is told everything once, whether it is there, away, hanging or back, and the search waits for none of it."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from search.report.tables import write_trials
from search.storage.trial_record import CheckpointResult, JobState
from search.tracking import system_metrics as machine
from search.tracking import tracker as tracking
from search.tracking.mlflow_writer import STATE_FILE, Bookkeeper, InUseError, TrackingError
from search.tracking.outbox import read_entries
from search.tracking.system_metrics import MachineMetrics
from search.tracking.tracker import Tracker
from tests.support.command import CEILING, until
from tests.support.mlflow_server import Server

ROOT = Path(__file__).parents[3]
PARAMS = {"learning_rate": 1e-4, "rank": 8, "steps": 100}


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make its tables, so it does it once."""
    folder = tmp_path_factory.mktemp("database")
    Bookkeeper(None, "Default", folder)
    return folder / "mlflow.db"


@pytest.fixture
def folder(tmp_path: Path, empty_database: Path) -> Path:
    """An empty run folder, and MLflow's database where a search would have it."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    folder = tmp_path / "runs" / "anna"
    folder.mkdir(parents=True)
    return folder


def report(folder: Path, trial: str, step: int, objective: float) -> CheckpointResult:
    """A scored checkpoint with an image and an adapter."""
    place = folder / "trials" / trial / f"step-{step}"
    place.mkdir(parents=True)
    Image.new("RGB", (8, 8), (step, 0, 0)).save(place / "grid.png")
    (place / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
    return CheckpointResult(step=step, metrics={"objective": objective}, rows=(), folder=place)


def two_trials(tracker: Tracker, folder: Path) -> None:
    """A short search, told from its start to its end: one trial finished, one failed."""
    (folder / "search.yaml").write_text("name: anna\n")
    (folder / "report.html").write_text("<p>report</p>")
    tracker.start(folder, {"model": "base", "trials": 2}, [folder / "search.yaml"])
    tracker.metrics({"likeness": 0.0}, prefix="base_")
    tracker.trial_started("000", PARAMS)
    tracker.trial_started("000", PARAMS)
    tracker.trial_started("001", {**PARAMS, "rank": 16})
    first, best = report(folder, "000", 50, 0.25), report(folder, "000", 100, 0.5)
    tracker.trial_report("000", first)
    tracker.trial_report("000", best)
    tracker.trial_report("000", best)
    tracker.trial_ended("000", JobState.FINISHED, "", best)
    tracker.trial_ended("001", JobState.FAILED, "diverged", None)
    tracker.trial_metrics("000", {"second_likeness": 0.75}, 100)
    tracker.picture(best.folder / "grid.png", "champion")
    tracker.finish("champion", [folder / "report.html"], failed=False)


def check(client: MlflowClient, *, searches: int = 1) -> Run:
    """MLflow holds `two_trials`, each thing once; the run of the search."""
    experiment = client.get_experiment_by_name("people")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == searches
    (parent,) = [run for run in parents if run.info.run_name == "anna"]
    assert (parent.info.status, parent.data.tags["state"]) == ("FINISHED", "champion")
    assert parent.data.params == {"model": "base", "trials": "2"}
    assert parent.data.metrics["base_likeness"] == 0
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} == {
        "champion",
        "report.html",
        "search.yaml",
    }
    children = {
        run.data.tags["trial"]: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert len(runs) == searches + len(children)
    assert set(children) == {"000", "001"}
    finished, failed = children["000"], children["001"]
    assert (finished.info.status, finished.data.tags["state"]) == ("FINISHED", "finished")
    assert (failed.info.status, failed.data.tags["reason"]) == ("FAILED", "diverged")
    assert finished.data.params == {"learning_rate": "0.0001", "rank": "8", "steps": "100"}
    assert failed.data.params["rank"] == "16"
    history = client.get_metric_history(finished.info.run_id, "objective")
    assert [(point.step, point.value) for point in history] == [(50, 0.25), (100, 0.5)]
    assert finished.data.metrics["best_objective"] == 0.5
    assert finished.data.metrics["second_likeness"] == 0.75
    grids = [file.path for file in client.list_artifacts(finished.info.run_id, "images") if file.path.endswith(".png")]
    assert [grid.split("+")[2] for grid in sorted(grids)] == ["100", "50"]
    return parent


def sync(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "search.sync", str(folder), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CEILING,
        check=False,
    )


def test_a_database_is_told_everything_once(folder: Path, tmp_path: Path) -> None:
    with Tracker(None, "people", tmp_path) as tracker:
        two_trials(tracker, folder)
    parent = check(MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"))
    assert (tracker.run_id, tracker.failure, tracker.untold) == (parent.info.run_id, "", 0)


@pytest.mark.parametrize("entry", ["search_started", "trial_started", "checkpoint", "trial_ended", "search_ended"])
def test_an_entry_told_twice_leaves_one_trace(folder: Path, tmp_path: Path, entry: str) -> None:
    """As after a kill between MLflow's answer and the note that it was given: no id of the run is known either."""
    with Tracker(None, "people", tmp_path) as tracker:
        two_trials(tracker, folder)
    number = next(n for n, written in enumerate(read_entries(folder)) if written.kind == entry)
    state = json.loads((folder / STATE_FILE).read_text("utf-8"))
    if entry.endswith("_started"):
        del state["runs"]["" if entry == "search_started" else "000"]
    (folder / STATE_FILE).write_text(json.dumps(state | {"told": number}))
    bookkeeper = Bookkeeper(None, "people", tmp_path)
    bookkeeper.open(folder)
    bookkeeper.tell(read_entries(folder)[number])
    bookkeeper.close()
    assert bookkeeper.told == number + 1
    check(MlflowClient(bookkeeper.uri))


def test_a_search_that_goes_on_keeps_its_runs(folder: Path, tmp_path: Path) -> None:
    tracker = Tracker(None, "people", tmp_path)
    tracker.start(folder, {"model": "base"}, [])
    tracker.trial_started("000", PARAMS)
    first = report(folder, "000", 50, 0.25)
    tracker.trial_report("000", first)
    tracker.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    client = MlflowClient(tracker.shown_uri)
    (child,) = client.search_runs([tracker.experiment_id], "tags.trial = '000'")
    assert (child.info.status, child.data.tags["state"]) == ("KILLED", "interrupted")
    assert client.get_run(tracker.run_id).info.status == "KILLED"

    again = Tracker(None, "people", tmp_path)
    with again:
        again.start(folder, {"model": "base"}, [])
        again.trial_started("000", PARAMS)
        again.trial_report("000", first)
        best = report(folder, "000", 100, 0.5)
        again.trial_report("000", best)
        again.trial_ended("000", JobState.FINISHED, "", best)
        again.trial_started("001", PARAMS)
        again.trial_ended("001", JobState.STOPPED, "beaten", None)
        again.finish("champion", [], failed=False)
    assert again.run_id == tracker.run_id
    runs = client.search_runs([tracker.experiment_id])
    assert {(run.data.tags.get("trial", ""), run.info.status, run.data.tags["state"]) for run in runs} == {
        ("", "FINISHED", "champion"),
        ("000", "FINISHED", "finished"),
        ("001", "FINISHED", "stopped"),
    }
    assert len(runs) == 3
    history = client.get_metric_history(child.info.run_id, "objective")
    assert [(point.step, point.value) for point in history] == [(50, 0.25), (100, 0.5)]


def test_what_mlflow_refuses_is_left_out_named_and_told_later(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.0,))
    with Tracker(None, "people", tmp_path) as tracker:
        tracker.start(folder, {}, [])
        lost = report(folder, "000", 50, 0.25)
        (lost.folder / "grid.png").rename(tmp_path / "away.png")
        tracker.trial_started("000", PARAMS)
        tracker.trial_report("000", lost)
        tracker.trial_ended("000", JobState.FINISHED, "", lost)
        tracker.finish("no champion", [], failed=True)
    assert tracker.untold == 1
    assert "grid.png" in tracker.failure
    client = MlflowClient(tracker.shown_uri)
    assert client.get_run(tracker.run_id).data.tags["state"] == "no champion", "the rest was told"

    behind = sync(folder)
    assert (behind.returncode, "1 are left" in behind.stderr) == (1, True), behind.stderr
    (tmp_path / "away.png").rename(lost.folder / "grid.png")
    told = sync(folder)
    assert (told.returncode, told.stderr) == (0, "")
    assert "record 3 (checkpoint)" in told.stdout
    (child,) = client.search_runs([tracker.experiment_id], "tags.trial = '000'")
    assert len(client.get_metric_history(child.info.run_id, "objective")) == 1
    assert sync(folder).stdout.startswith("told 0 records")


def test_a_run_whose_creation_was_not_heard_of_is_not_created_twice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a server that hangs: it does what it was asked after the client has given up."""
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.0,))
    create = MlflowClient.create_run
    unheard = ["anna", "trial-000"]

    def slow(client: MlflowClient, experiment: str, *, start_time: int, run_name: str, tags: dict[str, str]) -> Run:
        run = create(client, experiment, start_time=start_time, tags=tags, run_name=run_name)
        if run_name in unheard:
            unheard.remove(run_name)
            raise TimeoutError("no answer")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", slow)
    with Tracker(None, "people", tmp_path) as tracker:
        two_trials(tracker, folder)
    assert unheard == []
    check(MlflowClient(tracker.shown_uri))


def test_one_process_at_a_time_tells_of_a_run(folder: Path, tmp_path: Path) -> None:
    with Tracker(None, "people", tmp_path) as tracker:
        tracker.start(folder, {}, [])
        with pytest.raises(InUseError, match="by another process"):
            Bookkeeper(None, "people", tmp_path).open(folder)
        refused = sync(folder)
        assert (refused.returncode, "by another process" in refused.stderr) == (2, True)


def test_a_uri_that_makes_no_sense_is_refused_before_the_search(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="'nonsense://somewhere' cannot be used"):
        Tracker("nonsense://somewhere", "people", tmp_path)
    assert sync(tmp_path).returncode == 2


def test_a_server_that_comes_hangs_and_dies_is_told_everything_in_the_end(
    mlflow_server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mlflow_server
    server.stop()
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.1,))
    monkeypatch.setattr(tracking, "PATIENCE", 3.0)
    monkeypatch.setattr(machine, "INTERVAL", 3600.0)  # its figures would come between, and are counted as all others
    longest = 0.0

    def timed(function: Callable[[], object]) -> None:
        nonlocal longest
        began = time.monotonic()
        function()
        longest = max(longest, time.monotonic() - began)

    # Refused at the start.
    tracker = Tracker(server.uri, "people", tmp_path)
    assert tracker.failure == f"MLflow at {server.uri} does not answer"
    with tracker:
        timed(lambda: tracker.start(folder, {"model": "base", "trials": 2}, []))
        timed(lambda: tracker.trial_started("000", PARAMS))
        first, best = report(folder, "000", 50, 0.25), report(folder, "000", 100, 0.5)
        timed(lambda: tracker.trial_report("000", first))
        assert tracker.untold >= 3
        # Back by itself.
        server.start()
        until(lambda: tracker.untold == 0)
        assert tracker.failure == ""
        # Hanging: it takes connections and answers none.
        server.signal(signal.SIGSTOP)
        timed(lambda: tracker.trial_report("000", best))
        timed(lambda: tracker.trial_metrics("000", {"second_likeness": 0.75}, 100))
        time.sleep(0.5)
        assert tracker.untold == 2
        server.signal(signal.SIGCONT)
        until(lambda: tracker.untold == 0)
        # Dead midway.
        server.stop()
        timed(lambda: tracker.trial_ended("000", JobState.FINISHED, "", best))
        timed(lambda: tracker.finish("champion", [], failed=False))
        assert tracker.champion("anna", folder / "trials", "base", {}) is None, "there is nobody to register it"
    assert longest < 1.0, "no call may block a trial for more than a second"
    assert tracker.untold == 3
    behind = sync(folder)
    assert (behind.returncode, "does not answer" in behind.stderr) == (1, True), behind.stderr

    server.start()
    # The last record asks for an adapter that never was; everything before it is told.
    assert sync(folder).returncode == 1
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("people")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted((run.data.tags.get("trial", ""), run.info.status) for run in runs) == [
        ("", "FINISHED"),
        ("000", "FINISHED"),
    ]
    (child,) = [run for run in runs if "trial" in run.data.tags]
    assert [(point.step, point.value) for point in client.get_metric_history(child.info.run_id, "objective")] == [
        (50, 0.25),
        (100, 0.5),
    ]
    assert child.data.metrics["second_likeness"] == 0.75
    grids = [file.path for file in client.list_artifacts(child.info.run_id, "images") if file.path.endswith(".png")]
    assert len(grids) == 2


def test_a_search_that_ends_while_the_server_hangs_does_not_wait_long(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.5)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        with Tracker(uri, "people", tmp_path) as tracker:
            two_trials(tracker, folder)
        assert tracker.failure == f"MLflow at {uri} does not answer"
        assert tracker.untold == len(read_entries(folder))


def test_the_machine_is_looked_at_under_mlflows_names() -> None:
    told: list[dict[str, float]] = []
    machine = MachineMetrics(lambda metrics, step: told.append({**metrics, "step": step}))
    try:
        look = machine.look()
    finally:
        machine.close()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(look)
    assert 0 <= look["system/system_memory_usage_percentage"] <= 100
    assert not any(thread.name == "machine" for thread in threading.enumerate())


def test_the_table_of_trials(tmp_path: Path) -> None:
    trials = [
        {
            **{"id": "000", "state": "finished", "params": {"rank": 8}, "best_step": 50},
            **{"metrics": {"objective": 0.5}, "seconds": 1.5, "reason": ""},
            **{"training_seconds": 0.75, "scoring_seconds": 0.5, "training_cpu_seconds": 0.625},
            **{"scoring_cpu_seconds": 0.25},
        },
        {
            **{"id": "001", "state": "failed", "params": {"rank": 4, "loss": "huber"}, "best_step": None},
            **{"metrics": {}, "seconds": 0.5, "reason": 'it said "no", twice'},
            **{"training_seconds": None, "scoring_seconds": None, "training_cpu_seconds": None},
            **{"scoring_cpu_seconds": None},
        },
    ]
    assert write_trials(trials, tmp_path).read_text("utf-8").splitlines() == [
        "trial,state,rank,loss,best_step,objective,seconds,"
        "training_seconds,scoring_seconds,training_cpu_seconds,scoring_cpu_seconds,reason",
        "000,finished,8,,50,0.5,1.5,0.75,0.5,0.625,0.25,",
        '001,failed,4,huber,,,0.5,,,,,"it said ""no"", twice"',
    ]
