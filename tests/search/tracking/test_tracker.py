"""MLflow shows everything once, whether it is there, away, hanging or back, and the search waits for none of it."""

import itertools
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from search.storage.trial_record import JobState
from search.tracking import tracker as tracking
from tests.search.tracking.conftest import MakeSearch
from tests.support.command import until
from tests.support.mlflow_runs import check, grids, points, runs_of, sync
from tests.support.mlflow_server import Server

WRITING = (
    *("create_run", "log_batch", "log_image", "log_artifact", "set_terminated", "update_run", "delete_run"),
    *("set_tag", "delete_tag"),
)
"""What MLflow's client is asked for to change anything."""


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


def test_a_trial_that_goes_on_shows_its_checkpoints(make_search: MakeSearch) -> None:
    search = make_search()
    with search.tracker() as tracker:
        search.begin(tracker)
        name = search.propose(tracker)
        for step, objective in ((50, 0.25), (100, 0.5)):
            search.score(tracker, name, step, objective)
            tracker.flush()
        client = MlflowClient(tracker.shown_uri)
        child = runs_of(client)[1][name]
        assert child.info.status == "RUNNING"
        assert points(client, child, "objective") == [(50, 0.25), (100, 0.5)]
        assert grids(client, child) == [50, 100]


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


def test_a_run_that_was_created_without_an_answer_is_not_created_twice(
    make_search: MakeSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a server that hangs: it does what it was asked after the client has given up."""
    monkeypatch.setattr(tracking, "RETRY_SECONDS", (0.0,))
    create = MlflowClient.create_run
    unanswered = ["anna", "trial-000"]

    def slow(client: MlflowClient, experiment: str, **options: Any) -> Run:
        run = create(client, experiment, **options)
        if options["run_name"] in unanswered:
            unanswered.remove(options["run_name"])
            raise TimeoutError("no answer")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", slow)
    search = make_search()
    with search.tracker() as tracker:
        search.two_trials(tracker)
    assert unanswered == []
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
