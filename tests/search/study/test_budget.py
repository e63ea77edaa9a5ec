"""The budget monitor against a simulated search with a clock of its own: forecast, truth and cut-off."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from evaluation.image_row import ImageRow
from search.config.search_config import SearchConfig, load_config
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.budget import MARGIN, BudgetMonitor, Rate
from search.study.forecast import CLOSING_SECONDS, makespan

Write = Callable[[dict[str, Any]], Path]

STEP, IMAGE, START = 0.2, 0.5, 30.0
IMAGES, FINAL_IMAGES = 6, 4
"""Two prompts with two seeds and two of others; one prompt with two seeds and one of others with two seeds."""


@dataclass
class Simulation:
    """Trials on workers, second by second; a trial below the best third at a rung is stopped there."""

    config: SearchConfig
    workers: int
    random: random.Random
    now: float = START
    records: list[TrialRecord] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    asked: str = ""
    said: list[str] = field(default_factory=list)

    def monitor(self) -> BudgetMonitor:
        budget = self.config.budget
        return BudgetMonitor(
            self.config,
            rate=Rate.of(self.config.seats, self.workers, budget, gpus=False),
            workers=self.workers,
            base=report(0, IMAGES, 0.0, IMAGES * IMAGE),
            elapsed=lambda: self.now,
            records=self.records,
            steps=self.steps,
            request=self.ask,
            say=self.said.append,
        )

    def ask(self, reason: str) -> None:
        assert not self.asked, "once is enough"
        self.asked = reason

    def steps(self) -> Mapping[str, int]:
        return {name: int(done) for name, done in self.running.items()}

    def run(self, monitor: BudgetMonitor) -> None:
        """Until the last trial has ended, or the monitor has asked for the end."""
        while not self.asked:
            while len(self.running) < self.workers and len(self.records) < self.config.trials:
                steps = self.random.choice((50, 100, 150)) if self.records else 150
                self.records.append(TrialRecord(id=f"{len(self.records):03d}", params={}, steps=steps))
                self.running[self.records[-1].id] = 0.0
            if not self.running:
                return
            self.now += 1
            for record in self.records:
                if record.id in self.running:
                    self._advance(record)
            monitor.look()

    def _advance(self, record: TrialRecord) -> None:
        # A step's share of scoring is spread over the steps, which leaves the sum what it is.
        self.running[record.id] += 1 / (STEP + IMAGES * IMAGE / 50)
        if self.running[record.id] < (len(record.checkpoints) + 1) * 50:
            return
        step = (len(record.checkpoints) + 1) * 50
        record.checkpoints.append(report(step, IMAGES, 50 * STEP, IMAGES * IMAGE, self.random.random()))
        if step == record.steps:
            record.state = JobState.FINISHED
        elif step == 50 and record.id != "000" and self._is_beaten(record):
            record.state = JobState.STOPPED
        if record.state is not JobState.RUNNING:
            del self.running[record.id]

    def _is_beaten(self, record: TrialRecord) -> bool:
        others = sorted(other.checkpoints[0].metrics["objective"] for other in self.records if other.checkpoints)
        return record.checkpoints[0].metrics["objective"] < others[int(len(others) * 2 / 3)]

    def final(self) -> float:
        """The truth of a final with the candidates that there are."""
        ranked = sorted((r for r in self.records if r.checkpoints), key=lambda r: -max(map(objective, r.checkpoints)))
        entrants = ranked[:3] if self.records[0] in ranked[:3] else [*ranked[:3], self.records[0]]
        trainings = [max(record.checkpoints, key=objective).step * STEP for record in entrants]
        scoring = FINAL_IMAGES * IMAGE
        again = [training + scoring for training in trainings for _ in range(2)]
        return scoring + makespan([scoring] * len(entrants) + again, self.workers)


def objective(report: CheckpointResult) -> float:
    return report.metrics["objective"]


ROW = ImageRow.of(0, 1, face_distance=None, clip_score=30.0)


def report(step: int, images: int, training: float, scoring: float, objective: float = 0.5) -> CheckpointResult:
    return CheckpointResult(
        step=step,
        metrics={"objective": objective, "search_value": objective},
        rows=(ROW,) * images,
        folder=Path(f"step-{step}"),
        training_seconds=training,
        scoring_seconds=scoring,
    )


@pytest.fixture
def simulate(document: dict[str, Any], write_config: Write) -> Callable[..., Simulation]:
    """Makes a search of 24 trials on two workers; `budget` limits it."""

    def make(seed: int = 0, **budget: float) -> Simulation:
        document.update(
            trials=24,
            sampler={"name": "random"},
            stopping={"grace_period": 50},
            budget=budget,
            first_trials=[{"learning_rate": 1e-4, "rank": 8, "alpha": 8, "steps": 150}],
        )
        document["evaluation"]["others"] = {"count": 2}
        return Simulation(load_config(write_config(document)), 2, random.Random(seed))

    return make


def test_the_images_of_the_simulation_are_those_of_the_configuration(simulate: Callable[..., Simulation]) -> None:
    work = simulate().monitor()._work
    assert (work.images, work.final_images) == (IMAGES, FINAL_IMAGES)
    assert work.lengths == (50, 100, 150)
    assert work.entrant_count == 4


def test_after_two_trials_the_whole_search_is_predicted(simulate: Callable[..., Simulation]) -> None:
    """What the other 22 will draw and which of them go on is luck; beyond that the forecast does not err."""
    errors = []
    for seed in range(20):
        search = simulate(seed)
        monitor = search.monitor()
        search.run(monitor)
        assert monitor.first is not None
        errors.append(monitor.first.total / (search.now + search.final() + CLOSING_SECONDS) - 1)
    assert abs(fmean(errors)) < 0.02, "it leans to neither side"
    assert sum(abs(error) < 0.15 for error in errors) >= 18, "the mean of all comes as near to 18"
    assert max(map(abs, errors)) < 0.25


def test_the_result_holds_forecast_and_truth(simulate: Callable[..., Simulation]) -> None:
    search = simulate()
    monitor = search.monitor()
    search.run(monitor)
    assert monitor.first is not None
    predicted = monitor.first.total
    cost = monitor.as_result(400.0)
    assert cost == {
        "seconds": 400.0,
        "hours": 0.2222,
        "price": None,
        "unit": "worker hours",
        "limit": None,
        "cut_off": "",
        "forecast": {
            "after_trials": 2,
            "seconds": round(predicted, 1),
            "hours": round(2 * predicted / 3600, 4),
            "price": None,
            "error": round(predicted / 400 - 1, 4),
        },
    }
    assert search.asked == ""
    (line,) = search.said
    assert line.startswith("forecast after 2 trials: ")


@pytest.mark.parametrize(
    "budget",
    [
        {"max_minutes": 4},
        {"max_gpu_hours": 0.13},
        {"max_cost": 1.0, "gpu_hour_price": 8.0},
    ],
)
@pytest.mark.parametrize("seed", range(10))
def test_the_study_ends_while_the_final_still_fits(
    budget: dict[str, float], seed: int, simulate: Callable[..., Simulation]
) -> None:
    search = simulate(seed, **budget)
    monitor = search.monitor()
    search.run(monitor)
    assert search.asked == monitor.cut_off != ""
    assert search.asked.endswith("is used up but for the final")
    left = monitor.limit.seconds - search.now
    needed = search.final() + CLOSING_SECONDS
    assert needed <= left <= needed * MARGIN + IMAGES * IMAGE + 10, "in time, and not much before"
    assert len(search.records) < 24


def test_a_budget_that_is_gone_before_anything_was_scored_ends_the_study_as_well(
    simulate: Callable[..., Simulation],
) -> None:
    search = simulate(max_minutes=0.6)
    monitor = search.monitor()
    search.run(monitor)
    assert (search.asked, search.now) == ("the budget of 0.6 minutes is used up but for the final", START + 1)
    assert monitor.first is None
    assert monitor.as_result(36.0)["forecast"] is None
    assert monitor.summary(36.0) == (
        "took 0:36, 0.02 worker hours; the budget of 0.6 minutes is used up but for the final"
    )


def test_a_budget_that_is_large_enough_changes_nothing(simulate: Callable[..., Simulation]) -> None:
    search = simulate(max_minutes=60)
    search.run(search.monitor())
    assert (search.asked, len(search.records)) == ("", 24)


def test_what_the_budget_will_cut_off_is_said_in_the_forecast(simulate: Callable[..., Simulation]) -> None:
    search = simulate(max_minutes=3)
    monitor = search.monitor()
    search.run(monitor)
    assert search.said[0].endswith("; the budget of 3 minutes ends it before")
    assert monitor.as_result(180.0)["forecast"]["seconds"] == 180.0
    assert monitor.as_result(180.0)["limit"] == {
        "name": "3 minutes",
        "seconds": 180.0,
        "hours": 0.1,
        "price": None,
    }


def test_it_looks_by_itself_and_stops_looking(simulate: Callable[..., Simulation]) -> None:
    search = simulate(max_minutes=0.1)
    monitor = search.monitor()
    with monitor:
        for _ in range(100):
            if search.asked:
                break
            monitor._done.wait(0.1)
    assert search.asked
    assert not monitor._thread.is_alive()


def test_the_time_left_is_the_predictions_and_never_beyond_the_limit(simulate: Callable[..., Simulation]) -> None:
    search = simulate()
    monitor = search.monitor()
    assert monitor.seconds_left() is None, "nothing was scored"
    search.run(monitor)
    assert monitor.seconds_left() == pytest.approx(search.final() + CLOSING_SECONDS), "the final is left"
    search.now += 1000
    assert monitor.seconds_left() == 0.0
    search = simulate(max_minutes=3)
    monitor = search.monitor()
    monitor.look()
    search.run(monitor)
    assert monitor.seconds_left() == 180 - search.now


def test_trials_that_end_together_are_forecast_at_the_end(simulate: Callable[..., Simulation]) -> None:
    search = simulate(max_minutes=0.1)
    monitor = search.monitor()
    monitor._thread.start = lambda: None  # type: ignore[method-assign]  # it never comes to look
    monitor._thread.join = lambda timeout=None: None  # type: ignore[method-assign]
    with monitor:
        for number in range(2):
            search.records.append(
                TrialRecord(
                    id=f"{number:03d}",
                    params={},
                    steps=50,
                    state=JobState.FINISHED,
                    checkpoints=[report(50, IMAGES, 1.0, 1.0)],
                )
            )
        search.now = 1000
    assert monitor.first is not None
    assert len(search.said) == 1
    assert (search.asked, monitor.cut_off) == ("", ""), "there is nothing left to end"
