"""When a worker keeps the state of a training, and how many: by a clock that the tests set."""

import json
from pathlib import Path
from typing import cast

import pytest

from benchmarks.scale.simulated_worker import ANCHORS
from search.config.run_layout import STATE_FOLDER
from search.workers.checkpointing import SPENT_FILE, StateSaver
from search.workers.jobs import TrainJob
from search.workers.stopwatch import NO_EFFORT, Effort
from trainer.config import TrainingConfig
from trainer.job.job import TrainingJob


class HandClock:
    """Seconds go by when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowTraining:
    """Stands for `TrainingJob`: its states are empty, and take as long to write as a test says."""

    def __init__(self, clock: HandClock) -> None:
        self.step_count = 0
        self.seconds = 0.0
        self._clock = clock

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._clock.now += self.seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    return TrainJob(id="000", folder=tmp_path, config=TrainingConfig(steps=1000), score_at=(1000,), anchors=ANCHORS)


def kept(job: TrainJob) -> list[str]:
    return sorted(path.name for path in (job.folder / STATE_FOLDER).glob("*"))


def train(saver: StateSaver, training: SlowTraining, clock: HandClock, until: int) -> None:
    """A step a second."""
    while training.step_count < until:
        training.step_count += 1
        clock.now += 1
        saver.save_if_due(cast("TrainingJob", training), Effort(seconds=7.0, cpu_seconds=6.0))


def test_the_last_two_states_are_kept_with_their_effort(job: TrainJob, clock: HandClock) -> None:
    """Where all workers have just seen that the loss is finite: after every 25th step."""
    saver, training = StateSaver(job, leads=True, now=clock), SlowTraining(clock)
    train(saver, training, clock, 24)
    assert kept(job) == []
    train(saver, training, clock, 25)
    assert kept(job) == ["step-25"]
    train(saver, training, clock, 149)
    assert kept(job) == ["step-100", "step-125"]
    spent = json.loads((job.folder / STATE_FOLDER / "step-125" / SPENT_FILE).read_text("utf-8"))
    assert spent == {"training_seconds": 7.0, "training_cpu_seconds": 6.0}


def test_fast_steps_are_not_kept_more_often_than_every_five_seconds(job: TrainJob, clock: HandClock) -> None:
    saver, training = StateSaver(job, leads=True, now=clock), SlowTraining(clock)
    for seconds, expected in ((4.9, []), (5.0, ["step-50"]), (9.9, ["step-50"]), (10.0, ["step-100", "step-50"])):
        training.step_count += 25
        clock.now = seconds
        saver.save_if_due(cast("TrainingJob", training), NO_EFFORT)
        assert kept(job) == expected


def test_slow_storage_costs_a_twentieth_of_the_time(job: TrainJob, clock: HandClock) -> None:
    """A state that takes 5 s to write: the next one 100 s later at the earliest."""
    saver, training = StateSaver(job, leads=True, now=clock), SlowTraining(clock)
    training.seconds = 5.0
    train(saver, training, clock, 124)
    assert (kept(job), clock.now) == (["step-25"], 129.0)
    train(saver, training, clock, 125)
    assert (kept(job), clock.now) == (["step-125", "step-25"], 135.0)


def test_the_state_that_a_training_was_resumed_from_is_not_replaced_by_the_same(
    job: TrainJob, clock: HandClock
) -> None:
    """A kill between two renames would take both away."""
    saver, training = StateSaver(job, leads=True, step=50, now=clock), SlowTraining(clock)
    training.step_count = 50
    saver.save(cast("TrainingJob", training), NO_EFFORT)
    assert kept(job) == []
    training.step_count = 51
    for _ in range(2):
        saver.save(cast("TrainingJob", training), NO_EFFORT)
    assert kept(job) == ["step-51"]


def test_only_the_leading_worker_writes(job: TrainJob, clock: HandClock) -> None:
    saver, training = StateSaver(job, leads=False, now=clock), SlowTraining(clock)
    train(saver, training, clock, 200)
    assert kept(job) == []
