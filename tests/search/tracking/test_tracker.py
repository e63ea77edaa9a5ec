"""MLflow shows everything once, whether it is there, away, hanging or back, and the search waits for none of it."""

import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from search.storage.trial_record import JobState
from search.tracking import tracker as tracking
from search.tracking.connection import Connection
from search.tracking.mlflow_writer import InUseError, MlflowWriter
from search.tracking.run_view import Identity
from tests.search.tracking.conftest import FakeSearch
from tests.support.command import CEILING, until
from tests.support.mlflow_server import Server

ROOT = Path(__file__).parents[3]
METRICS = {"objective", "search_value", "likeness", "fidelity", "faceless_rate"}

WRITING = (
    *("create_run", "log_batch", "log_image", "log_artifact", "set_terminated", "update_run", "delete_run"),
    *("set_tag", "delete_tag"),
)
"""What MLflow's client is asked for to change anything."""

MakeSearch = Callable[..., FakeSearch]


def runs_of(client: MlflowClient, name: str = "people") -> tuple[Run, dict[str, Run]]:
    """The run of the only search in an experiment, and those of its trials; there are no others."""
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.run_name == "anna"
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 1 + len(children)
    named = {run.data.tags["trial"]: run for run in children}
    assert len(named) == len(children), "one run a trial"
    return parent, named


def artifacts(client: MlflowClient, run: Run, folder: str | None = None) -> set[str]:
    return {file.path for file in client.list_artifacts(run.info.run_id, folder)}


def grids(client: MlflowClient, run: Run) -> list[int]:
    names = [Path(path).name for path in artifacts(client, run, "images") if path.endswith(".png")]
    assert all(name.startswith("samples+step+") for name in names)
    return sorted(int(name.split("+")[2]) for name in names)


def points(client: MlflowClient, run: Run, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]


def check(client: MlflowClient, experiment: str = "people") -> Run:
    """MLflow holds `two_trials`, each thing once; the run of the search."""
    parent, children = runs_of(client, experiment)
    assert (parent.info.status, parent.data.tags["state"]) == ("FINISHED", "champion")
    assert parent.data.params == {"model": "base", "trials": "2"}
    told = {name: value for name, value in parent.data.metrics.items() if not name.startswith("system/")}
    assert told == {
        **{f"base_{name}": 0.0 for name in METRICS - {"fidelity"}},
        "base_fidelity": 1.0,
        "champion_objective": 0.4,
        "second_judge_kendall": 0.5,
        "second_judge_agrees": 1.0,
    }
    assert all(points(client, parent, name) == [(0, value)] for name, value in told.items())
    files = {"search.yaml", "result.json", "report.html", "trials.csv", "images.parquet", "README.md"}
    assert artifacts(client, parent) == {*files, "base", "champion", "plots"}
    assert artifacts(client, parent, "base") == {"base/grid.png"}
    assert artifacts(client, parent, "champion") == {"champion/samples.png"}
    assert artifacts(client, parent, "plots") == {"plots/front.svg"}
    assert set(children) == {"000", "001"}
    finished, failed = children["000"], children["001"]
    assert (finished.info.run_name, failed.info.run_name) == ("trial-000", "trial-001")
    assert (finished.info.status, finished.data.tags["state"]) == ("FINISHED", "finished")
    assert (failed.info.status, failed.data.tags["state"], failed.data.tags["reason"]) == (
        *("FAILED", "failed"),
        "diverged",
    )
    assert finished.data.params == {"learning_rate": "0.0001", "rank": "8", "alpha": "8", "steps": "100"}
    assert failed.data.params["rank"] == "16"
    assert set(finished.data.metrics) == METRICS | {f"best_{name}" for name in METRICS} | {
        *("best_step", "second_likeness")
    }
    assert points(client, finished, "objective") == [(50, 0.25), (100, 0.5)]
    assert points(client, finished, "best_objective") == [(100, 0.5)]
    assert points(client, finished, "best_step") == [(100, 100.0)]
    assert points(client, finished, "second_likeness") == [(100, 0.75)]
    assert artifacts(client, finished) == {"adapter", "images"}
    assert artifacts(client, finished, "adapter") == {"adapter/pytorch_lora_weights.safetensors"}
    assert grids(client, finished) == [50, 100]
    assert (failed.data.metrics, artifacts(client, failed)) == ({}, set())
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


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls of MLflow's client that write anything, by name."""
    made: list[str] = []
    for name in WRITING:
        original = getattr(MlflowClient, name)

        def counted(
            client: MlflowClient, *arguments: Any, _name: str = name, _original: Any = original, **options: Any
        ) -> Any:
            made.append(_name)
            return _original(client, *arguments, **options)

        monkeypatch.setattr(MlflowClient, name, counted)
    return made


def test_a_database_shows_everything_once(make_search: MakeSearch) -> None:
    search = make_search()
    with search.tracker() as tracker:
        search.two_trials(tracker)
    parent = check(MlflowClient(tracker.shown_uri))
    assert (tracker.run_id, tracker.failure, tracker.pending) == (parent.info.run_id, "", 0)
    assert not any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate())


def test_what_mlflow_shows_already_is_not_written_again(make_search: MakeSearch, calls: list[str]) -> None:
    search = make_search()
    with search.tracker() as tracker:
        search.two_trials(tracker)
    calls.clear()
    with search.tracker() as tracker:
        tracker.start(search.folder)
        tracker.finish(list(search.records.values()))
    assert (tracker.pending, calls) == (0, [])
    check(MlflowClient(tracker.shown_uri))


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def test_a_kill_after_any_call_leaves_one_trace(make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow does what it was asked, and the process dies before it hears so; the next one writes the rest."""
    left = 0

    def dying(name: str) -> Callable[..., Any]:
        original = getattr(MlflowClient, name)

        def call(client: MlflowClient, *arguments: Any, **options: Any) -> Any:
            nonlocal left
            answer = original(client, *arguments, **options)
            left -= 1
            if left == 0:
                raise Killed
            return answer

        return call

    # What was killed has not waited for its thread, and its thread has said nothing.
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    for name in WRITING:
        monkeypatch.setattr(MlflowClient, name, dying(name))
    for last in itertools.count(1):
        search = make_search(experiment=f"killed after {last}")
        left = last
        with search.tracker() as tracker:
            search.two_trials(tracker)
        survived = left > 0
        left = 0
        with search.tracker() as again:
            again.start(search.folder)
            again.finish(list(search.records.values()))
        assert again.pending == 0
        check(MlflowClient(again.shown_uri), search.config.tracking.experiment)
        search.folder.rename(search.folder.with_name(f"killed-{last}"))
        if survived:
            break
    assert last > 20, "every call was the last one once"


def test_a_search_that_resumes_keeps_its_runs(make_search: MakeSearch) -> None:
    search = make_search(first_steps=(100, 150))
    tracker = search.tracker()
    search.begin(tracker)
    search.score(tracker, search.propose(tracker), 50, 0.25)
    tracker.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    client = MlflowClient(tracker.shown_uri)
    parent, children = runs_of(client)
    assert [(run.info.status, run.data.tags["state"]) for run in (parent, children["000"])] == [
        ("KILLED", "interrupted")
    ] * 2

    again = search.tracker()
    with again:
        search.begin(again)
        again.flush()
        parent, children = runs_of(client)
        assert [(run.info.status, run.data.tags["state"]) for run in (parent, children["000"])] == [
            ("RUNNING", "running")
        ] * 2
        assert search.propose(again) == "000"
        search.score(again, "000", 100, 0.5)
        search.end(again, "000", JobState.FINISHED)
        search.score(again, search.propose(again), 50, 0.125)
        search.end(again, "001", JobState.STOPPED, "stopped after step 50: others were better at the same step")
        search.finish(again)
    assert again.run_id == tracker.run_id
    parent, children = runs_of(client)
    assert {name: (run.info.status, run.data.tags["state"]) for name, run in children.items()} == {
        "000": ("FINISHED", "finished"),
        "001": ("FINISHED", "stopped"),
    }
    assert parent.info.status == "FINISHED"
    assert points(client, children["000"], "objective") == [(50, 0.25), (100, 0.5)]
    assert grids(client, children["000"]) == [50, 100]


def test_a_reason_that_no_longer_holds_is_taken_back(make_search: MakeSearch) -> None:
    """A trial that a limit has cut off goes on in a later search, and then ends by itself."""
    search = make_search()
    with search.tracker() as tracker:
        search.begin(tracker)
        name = search.propose(tracker)
        search.score(tracker, name, 50, 0.5)
        record = search.records[name]
        record.state, record.reason = JobState.STOPPED, "max_minutes is reached; last scored at step 50"
        tracker.changed(record)
        tracker.flush()
        client = MlflowClient(tracker.shown_uri)
        assert runs_of(client)[1][name].data.tags["reason"] == record.reason
        record.state, record.reason = JobState.RUNNING, ""
        search.score(tracker, name, 100, 0.25)
        search.end(tracker, name, JobState.FINISHED)
    child = runs_of(client)[1][name]
    assert (child.info.status, child.data.tags["state"], "reason" in child.data.tags) == ("FINISHED", "finished", False)
    assert points(client, child, "best_objective") == [(50, 0.5)]
    assert points(client, child, "objective") == [(50, 0.5), (100, 0.25)]


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


def test_a_run_that_was_created_without_an_answer_is_not_created_twice(
    make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a server that hangs: it does what it was asked after the client has given up."""
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.0,))
    create = MlflowClient.create_run
    unheard = ["anna", "trial-000"]

    def slow(client: MlflowClient, experiment: str, **options: Any) -> Run:
        run = create(client, experiment, **options)
        if options["run_name"] in unheard:
            unheard.remove(options["run_name"])
            raise TimeoutError("no answer")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", slow)
    search = make_search()
    with search.tracker() as tracker:
        search.two_trials(tracker)
    assert unheard == []
    check(MlflowClient(tracker.shown_uri))


def test_a_run_that_a_server_creates_a_second_time_is_removed(
    make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that hung is done only after the next one was answered."""
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.0,))
    create = MlflowClient.create_run
    held: list[Callable[[], Run]] = []

    def late(client: MlflowClient, experiment: str, **options: Any) -> Run:
        if options["run_name"] == "trial-000" and not held:
            held.append(lambda: create(client, experiment, **options))
            raise TimeoutError("no answer")
        run = create(client, experiment, **options)
        if options["run_name"] == "trial-000":
            held[0]()
        return run

    monkeypatch.setattr(MlflowClient, "create_run", late)
    search = make_search()
    with search.tracker() as tracker:
        search.two_trials(tracker)
    assert len(held) == 1
    check(MlflowClient(tracker.shown_uri))


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


def test_the_champion_is_registered_once_and_the_result_says_where(make_search: MakeSearch, tmp_path: Path) -> None:
    search = make_search("http://127.0.0.1:9")
    tracker = search.tracker()
    search.two_trials(tracker)
    assert tracker.champion(search.champion()) is None, "there is nobody to register it"
    tracker._closing.set()
    tracker._thread.join()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for _ in range(2):
        delivered = sync(search.folder, "--uri", uri)
        assert (delivered.returncode, delivered.stderr) == (0, "")
    mlflow.set_tracking_uri(uri)  # MLflow lists models of a run by its own setting
    client = MlflowClient(uri)
    parent = check(client)
    (version,) = client.search_model_versions("name = 'anna'")
    assert (version.run_id, version.tags) == (parent.info.run_id, {"trial": "000", "step": "100"})
    assert client.get_model_version_by_alias("anna", "champion").version == version.version
    result = json.loads((search.folder / "result.json").read_text("utf-8"))
    assert result["champion"]["model_uri"] == f"models:/anna/{version.version}"
    assert (result["mlflow"]["run_id"], result["mlflow"]["experiment_id"]) == (
        parent.info.run_id,
        parent.info.experiment_id,
    )
    kept = client.download_artifacts(parent.info.run_id, "result.json", str(tmp_path))
    assert json.loads(Path(kept).read_text("utf-8")) == result


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")  # MLflow of its own models
def test_an_old_run_does_not_take_the_alias_from_a_newer_one(make_search: MakeSearch, tmp_path: Path) -> None:
    search = make_search()
    with search.tracker() as tracker:
        search.two_trials(tracker)
        first = tracker.champion(search.champion())
    old = tmp_path / "old"
    search.folder.rename(old)
    with search.tracker() as tracker:
        search.two_trials(tracker)
        second = tracker.champion(search.champion())
    assert (first, second) == ("models:/anna/1", "models:/anna/2")
    with search.tracker() as tracker:
        tracker.start(old)
        assert tracker.champion(replace(search.champion(), adapter=old / "champion")) == first
    client = MlflowClient(tracker.shown_uri)
    assert int(client.get_model_version_by_alias("anna", "champion").version) == 2


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


def test_a_server_that_comes_hangs_and_dies_shows_everything_in_the_end(
    mlflow_server: Server, make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = mlflow_server
    server.stop()
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.1,))
    search = make_search(server.uri)
    # Refused at the start.
    tracker = search.tracker(patience=3.0)
    assert tracker.failure == f"MLflow at {server.uri} does not answer"
    with tracker:
        search.begin(tracker)
        name = search.propose(tracker)
        search.score(tracker, name, 50, 0.25)
        assert tracker.pending == 2
        # Back by itself.
        server.start()
        until(lambda: tracker.pending == 0)
        assert tracker.failure == ""
        # Hanging: it takes connections and answers none.
        server.signal(signal.SIGSTOP)
        search.score(tracker, name, 100, 0.5)
        assert tracker.pending == 1
        server.signal(signal.SIGCONT)
        until(lambda: tracker.pending == 0)
        # Dead midway.
        server.stop()
        search.end(tracker, name, JobState.FINISHED)
        search.finish(tracker, status="no usable candidate")
    assert tracker.pending == 2
    assert tracker.failure == f"MLflow at {server.uri} does not answer"
    behind = sync(search.folder)
    assert (behind.returncode, "does not answer" in behind.stderr) == (1, True), behind.stderr

    server.start()
    assert sync(search.folder).returncode == 0
    client = MlflowClient(server.uri)
    parent, children = runs_of(client)
    assert {name: run.info.status for name, run in {"": parent, **children}.items()} == {"": "FAILED", name: "FINISHED"}
    assert points(client, children[name], "objective") == [(50, 0.25), (100, 0.5)]
    assert grids(client, children[name]) == [50, 100]


def test_a_search_that_ends_while_the_server_hangs_does_not_wait_long(make_search: MakeSearch) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        search = make_search(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with search.tracker(patience=0.5) as tracker:
            search.two_trials(tracker)
        assert tracker.failure == f"MLflow at {search.uri} does not answer"
        assert tracker.pending == 3
