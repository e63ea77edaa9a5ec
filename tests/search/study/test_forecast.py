"""What a search has to do and how long it takes, worked by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.config.search_config import load_config
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.forecast import RULE_WEIGHT, Pace, Workload, makespan

Write = Callable[[dict[str, Any]], Path]


@pytest.mark.parametrize(
    ("pieces", "workers", "busy", "seconds"),
    [
        ([], 2, [], 0.0),
        ([3.0, 3.0, 3.0], 1, [], 9.0),
        ([3.0, 3.0, 3.0], 2, [], 6.0),
        ([5.0, 1.0, 1.0, 1.0], 2, [], 5.0),
        ([1.0, 1.0, 5.0], 2, [], 6.0),
        ([4.0], 2, [10.0, 1.0], 10.0),
        ([4.0], 2, [3.0, 7.0, 5.0], 11.0),
    ],
)
def test_pieces_are_taken_up_in_turn_by_the_worker_that_is_free_first(
    pieces: list[float], workers: int, busy: list[float], seconds: float
) -> None:
    assert makespan(pieces, workers, busy) == seconds


@pytest.fixture
def make_work(document: dict[str, Any], write_config: Write) -> Callable[..., Workload]:
    """Makes the work of trials of 100, 200, 300 or 400 steps, scored every 100, with rungs at 100 and 300."""

    def make(**changes: Any) -> Workload:
        document["space"]["steps"] = {"low": 100, "high": 400, "step": 100}
        document["evaluation"] |= {"every": 100, "others": {"count": 0}}
        document.update(
            {"stopping": {"grace_period": 100, "reduction_factor": 3}, "first_trials": [], "sampler": {"name": "tpe"}}
            | changes
        )
        return Workload.of(load_config(write_config(document)))

    return make


@pytest.mark.parametrize(
    ("stopping", "rungs"),
    [
        ({"grace_period": 50, "reduction_factor": 3}, (50, 150)),
        ({"grace_period": 100, "reduction_factor": 2}, (100, 200)),
        ({"grace_period": 400}, ()),
        ({"enabled": False}, ()),
    ],
)
def test_rungs_lie_below_the_longest_training(
    stopping: dict[str, Any], rungs: tuple[float, ...], make_work: Callable[..., Workload]
) -> None:
    assert make_work(stopping=stopping).config.rungs == rungs


def test_steps_and_checkpoints_that_a_trial_gets_on_average(make_work: Callable[..., Workload]) -> None:
    work = make_work()
    assert work.expected(400, going_on=0.5) == (100 + 0.5 * 200 + 0.25 * 100, 1 + 0.5 + 0.5 + 0.25)
    assert work.expected(100, going_on=0.5) == (100, 1), "where it ends anyway it is not stopped"
    assert work.expected(350, going_on=0.5) == (100 + 0.5 * 200 + 0.25 * 50, 2.25), "its end counts, between two rungs"
    assert work.expected(400, going_on=0.5, done=150) == (50 + 100 + 0.5 * 100, 2.5), "it has gone on at the first"
    assert work.expected(400, going_on=0.5, done=50) == (50 + 0.5 * 200 + 0.25 * 100, 2.25)
    assert work.expected(400, going_on=0.5, done=400) == (0, 0)
    assert work.expected(400, going_on=1.0) == (400, 4)


def test_the_share_that_goes_on_is_the_rules_then_what_was_seen(
    make_work: Callable[..., Workload], make_checkpoint: Callable[..., CheckpointResult]
) -> None:
    def record(number: int, steps: int, last: int, state: JobState) -> TrialRecord:
        made = TrialRecord(id=f"{number:03d}", params={}, steps=steps, state=state)
        for step in range(100, last + 1, 100):
            made.add(make_checkpoint(step, 0.5))
        return made

    work = make_work(first_trials=[{"rank": 8}], trials=8)
    # Of eight trials two have nothing to be compared with; of the other six, a third go on.
    assert work.going_on() == (2 + 6 / 3) / 8
    records = [
        record(0, 400, 400, JobState.FINISHED),  # a first trial is never stopped
        record(1, 100, 100, JobState.FINISHED),  # at its end it was not compared
        record(2, 400, 400, JobState.FINISHED),  # went on at both rungs
        record(3, 400, 300, JobState.STOPPED),  # went on at one, was stopped at the other
        record(4, 400, 100, JobState.RUNNING),  # went on
        record(5, 400, 0, JobState.FAILED),
    ]
    assert work.going_on(records) == (RULE_WEIGHT / 2 + 4) / (RULE_WEIGHT + 5)


def test_domination_stops_next_to_none(make_work: Callable[..., Workload], document: dict[str, Any]) -> None:
    document["evaluation"]["objective"] = {"mode": "pareto"}
    assert make_work().going_on() == 1.0


def test_what_is_to_come_of_first_and_later_trials(make_work: Callable[..., Workload]) -> None:
    work = make_work(first_trials=[{"rank": 8, "steps": 200}], trials=3, stopping={"enabled": False})
    assert work.coming() == [(200, 2), (250, 2.5), (250, 2.5)]
    assert work.coming([TrialRecord(id="000", params={}, steps=200)]) == [(250, 2.5), (250, 2.5)]
    work = make_work(trials=8, stopping={"grace_period": 200}, first_trials=[{"rank": 8, "steps": 400}])
    # One rung, at 200, that half pass; of 100, 200, 300 and 400 steps the last two are compared there.
    assert work.coming() == [(400, 4)] + 7 * [((100 + 200 + 250 + 300) / 4, (1 + 2 + 2.5 + 3) / 4)]


@pytest.mark.parametrize(
    ("steps", "count", "ends", "mean"),
    [
        ({"low": 100, "high": 400, "step": 100}, 4, (100, 400), 250),
        ({"low": 100, "high": 200}, 101, (100, 200), 150),
        ({"low": 100, "high": 9_000_100}, 101, (100, 9_000_100), 4_500_100),
        # The mean of a logarithmically even draw is (high - low) / log(high / low).
        ({"low": 100, "high": 800, "log": True}, 101, (100, 800), 700 / math.log(8)),
        ({"values": [300, 100]}, 2, (100, 300), 200),
    ],
)
def test_lengths_are_as_likely_as_each_other(
    steps: dict[str, Any], count: int, ends: tuple[int, int], mean: float, make_work: Callable[..., Workload]
) -> None:
    work = make_work(space={"steps": steps})
    assert (len(work.lengths), work.lengths[0], work.lengths[-1]) == (count, *ends)
    assert list(work.lengths) == sorted(work.lengths)
    assert work.mean_steps == pytest.approx(mean, rel=0.01)


def test_learning_curves_are_expected_to_prefer_the_shortest_training(make_work: Callable[..., Workload]) -> None:
    steps = {}
    for name in ("learning_curves", "tpe"):
        work = make_work(
            sampler={"name": name}, trials=2, first_trials=[{"rank": 8, "steps": 400}], stopping={"enabled": False}
        )
        steps[name] = [steps for steps, _ in work.coming()]
        assert work.mean_steps == 250
    assert steps == {"learning_curves": [400, 100], "tpe": [400, 250]}


def test_the_final_measures_scores_and_trains_again(make_work: Callable[..., Workload]) -> None:
    work = make_work(final={"prompts": "final.txt", "retrain": 2})
    assert work.final_images == 2, "one prompt with two seeds"
    # Anchors 7; two scorings of 2 x 1 s on two workers; then 10+2 and 20+2, each twice: 12, 12, 22, 22.
    assert work.final_seconds([10.0, 20.0], image=1.0, workers=2, anchors=7.0) == 7 + 2 + 12 + 22
    assert work.final_seconds([], image=1.0, workers=2) == 2, "the anchors take what an adapter takes"
    # The second judge looks at the best of four trials, at the untuned model and at both candidates: seven of 3 s.
    judged = work.final_seconds([10.0, 20.0], image=1.0, workers=2, anchors=7.0, judging=3.0)
    assert judged == 43 + 4 * 3.0


def test_the_mean_pace_weighs_every_trial_alike() -> None:
    assert Pace.mean([Pace(step=1.0, image=2.0), Pace(step=3.0, image=3.0)]) == Pace(step=2.0, image=2.5)
