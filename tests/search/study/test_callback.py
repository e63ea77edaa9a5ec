"""The callback: one list of records that grows by number, and listeners that hear of each event in turn."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from evaluation.scores import Anchors
from search.config.run_layout import RunLayout
from search.config.search_config import load_config
from search.storage.trial_listener import TrialListener
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.callback import TrialCallback
from search.study.trial import TrialSetup
from search.workers.client import WorkersClient
from search.workers.dispatcher import UnknownJobError

Write = Callable[[dict[str, Any]], Path]
Make = Callable[..., CheckpointResult]


class Client:
    """The dispatcher's answers: a status for each job that it knows."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def status(self, job_id: str) -> Any:
        if job_id not in self.known:
            raise UnknownJobError(job_id)
        return self.known[job_id]


class Diary(TrialListener):
    """Writes down what it hears, and what the records hold by then."""

    def __init__(self, name: str, pages: list[str], records: list[TrialRecord]) -> None:
        self._name, self._pages, self._records = name, pages, records

    def started(self, record: TrialRecord) -> None:
        self._pages.append(f"{self._name}: {record.id} started, one of {len(self._records)}")

    def checkpoint(self, record: TrialRecord, result: CheckpointResult) -> None:
        self._pages.append(f"{self._name}: {record.id} scored at {result.step}, last at {record.last_step}")

    def ended(self, record: TrialRecord) -> None:
        self._pages.append(f"{self._name}: {record.id} {record.state}: {record.reason}")


class Stage:
    """A callback with an earlier trial, 000, and two listeners; trials of 150 steps."""

    def __init__(self, setup: TrialSetup, client: Client, make_checkpoint: Make) -> None:
        self.client = client
        self.records = [TrialRecord(id="000", params={}, steps=150)]
        self.pages: list[str] = []
        listeners = [Diary(name, self.pages, self.records) for name in ("first", "second")]
        self.callback = TrialCallback(setup, self.records, listeners)
        self._layout = setup.layout
        self._make_checkpoint = make_checkpoint

    def trial(self, number: int) -> Any:
        return SimpleNamespace(config={"number": number, "params": {"steps": 150}}, error_file=None)

    def start(self, number: int) -> None:
        self.callback.on_trial_start(0, [], self.trial(number))

    def score(self, number: int, step: int) -> None:
        folder = self._layout.checkpoint(f"{number:03d}", step)
        folder.mkdir(parents=True, exist_ok=True)
        replace(self._make_checkpoint(step, 0.5), folder=folder).write(folder)
        self.callback.on_trial_result(0, [], self.trial(number), {"step": step})

    def complete(self, number: int) -> None:
        self.callback.on_trial_complete(0, [], self.trial(number))


@pytest.fixture
def stage(document: dict[str, Any], write_config: Write, tmp_path: Path, make_checkpoint: Make) -> Stage:
    client = Client()
    setup = TrialSetup(
        config=load_config(write_config(document)),
        client=cast(WorkersClient, client),
        anchors=cast(Anchors, None),  # which only jobs need
        layout=RunLayout(tmp_path / "run"),
    )
    return Stage(setup, client, make_checkpoint)


def test_records_stand_by_number_in_whatever_order_trials_start(stage: Stage) -> None:
    stage.start(3)
    stage.callback.duplicate(2, {"steps": 100}, 1)
    stage.start(1)
    stage.start(0)
    assert [(record.id, record.steps, record.state) for record in stage.records] == [
        ("000", 150, JobState.RUNNING),
        ("001", 150, JobState.RUNNING),
        ("002", 100, JobState.DUPLICATE),
        ("003", 150, JobState.RUNNING),
    ]
    assert stage.records[2].same_as == "001"


def test_every_listener_hears_of_each_event_once_and_in_turn(stage: Stage) -> None:
    stage.start(1)
    stage.start(1)  # its process died, and Tune starts it again
    stage.score(1, 50)
    stage.score(1, 50)
    stage.complete(1)
    heard = [
        "001 started, one of 2",
        "001 scored at 50, last at 50",
        "001 stopped: stopped after step 50: others were better at the same step",
    ]
    assert stage.pages == [f"{name}: {event}" for event in heard for name in ("first", "second")]


def test_a_duplicate_starts_and_ends_at_once(stage: Stage) -> None:
    stage.callback.duplicate(1, {"steps": 100}, 0)
    assert stage.pages[::2] == [
        "first: 001 started, one of 2",
        "first: 001 duplicate: the same configuration as trial 000, not trained again",
    ]


def test_how_a_trial_ended(stage: Stage) -> None:
    for number in range(1, 5):
        stage.start(number)
    stage.score(1, 50)
    stage.score(1, 150)
    stage.complete(1)
    stage.client.known["002"] = SimpleNamespace(state=JobState.FAILED, reason="the loss is not finite", losses=["lost"])
    stage.complete(2)
    stage.complete(3)
    stage.callback.on_trial_error(0, [], stage.trial(4))
    assert [(record.id, record.state, record.reason, record.losses) for record in stage.records[1:]] == [
        ("001", JobState.FINISHED, "", []),
        ("002", JobState.FAILED, "the loss is not finite", ["lost"]),
        ("003", JobState.FAILED, "it ended without a scored checkpoint", []),
        ("004", JobState.FAILED, "its trial process died too often (no error file)", []),
    ]
    assert all(record.is_over for record in stage.records[1:])
