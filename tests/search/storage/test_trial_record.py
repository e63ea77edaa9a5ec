"""Records: the best checkpoint of a trial, and the order of trials."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from search.storage.trial_record import CheckpointResult, JobState, TrialRecord, ranked
from search.workers.stopwatch import Effort, Stopwatch

Make = Callable[..., CheckpointResult]


def record(name: str, *reports: CheckpointResult) -> TrialRecord:
    made = TrialRecord(id=name, params={"rank": 4}, steps=100)
    for report in reports:
        assert made.add(report)
    return made


def test_every_checkpoint_is_a_candidate_and_the_best_counts(make_checkpoint: Make) -> None:
    made = record("0", make_checkpoint(50, 0.2), make_checkpoint(100, 0.5), make_checkpoint(150, 0.3))
    assert made.best is not None
    assert made.best.step == 100
    assert not made.add(make_checkpoint(100, 0.9)), "a replayed step is not counted twice"


def test_of_equals_the_cheaper_wins(make_checkpoint: Make) -> None:
    best = record("0", make_checkpoint(50, 0.5), make_checkpoint(100, 0.5)).best
    assert best is not None
    assert best.step == 50


def test_a_trial_that_is_unfit_throughout_sends_nobody_to_the_final(make_checkpoint: Make) -> None:
    faceless = record("0", make_checkpoint(50, -9.0, unfit=("it draws no face",)))
    assert faceless.best is not None
    assert faceless.candidate is None
    assert faceless.as_result()["unfit"] == ["it draws no face"]
    low = record("1", make_checkpoint(50, -3.0))
    assert ranked([faceless, low, record("2")]) == [low]


def test_the_best_fit_checkpoint_enters_though_an_unfit_one_has_a_higher_objective(make_checkpoint: Make) -> None:
    """Memorised at step 100: what it had learnt at step 50 may still win."""
    made = record("0", make_checkpoint(50, 0.4), make_checkpoint(100, 0.7, unfit=("memorisation 0.50 is above 0.1",)))
    assert made.candidate is not None
    assert made.candidate.step == 50
    assert made.best is made.candidate


def test_ranking(make_checkpoint: Make) -> None:
    first, second, third = (record(str(n), make_checkpoint(50, value)) for n, value in enumerate((0.2, 0.6, 0.2)))
    assert ranked([first, second, third]) == [second, first, third]


def test_a_failed_trial_is_a_state_with_a_reason_never_a_number() -> None:
    failed = record("7")
    failed.state, failed.reason = JobState.FAILED, "the training loss is not finite at step 12"
    assert failed.as_result() == {
        "id": "7",
        "state": "failed",
        "reason": "the training loss is not finite at step 12",
        "params": {"rank": 4},
        "best_step": None,
        "metrics": {},
        "unfit": [],
        "remarks": [],
        "checkpoints": [],
        "seconds": 0.0,
        "training_seconds": None,
        "scoring_seconds": None,
        "training_cpu_seconds": None,
        "scoring_cpu_seconds": None,
    }


def test_the_efforts_of_checkpoints_add_up_where_all_were_measured(make_checkpoint: Make) -> None:
    first, second = (
        replace(
            make_checkpoint(step, 0.5),
            training_seconds=8.0,
            scoring_seconds=4.0,
            training_cpu_seconds=2.25,
            scoring_cpu_seconds=scoring,
        )
        for step, scoring in ((50, 1.5), (100, None))
    )
    result = record("0", first, second).as_result()
    assert (result["training_seconds"], result["scoring_seconds"]) == (16.0, 8.0)
    assert (result["training_cpu_seconds"], result["scoring_cpu_seconds"]) == (4.5, None)


def test_a_report_is_read_as_it_was_written_and_one_of_before_without_processor_seconds(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    report = replace(make_checkpoint(50, 0.5), folder=tmp_path, training_cpu_seconds=2.25, scoring_cpu_seconds=1.5)
    report.write(tmp_path)
    assert CheckpointResult.read(tmp_path) == report
    values = json.loads((tmp_path / "report.json").read_text("utf-8"))
    del values["training_cpu_seconds"], values["scoring_cpu_seconds"]
    (tmp_path / "report.json").write_text(json.dumps(values), "utf-8")
    assert CheckpointResult.read(tmp_path) == replace(report, training_cpu_seconds=None, scoring_cpu_seconds=None)


def test_a_stopwatch_adds_what_went_before_and_does_not_guess_what_was_not_measured() -> None:
    wall, cpu = iter([100.0, 103.0, 110.0]), iter([7.0, 8.5, 9.0])
    watch = Stopwatch(Effort(seconds=10.0, cpu_seconds=2.0), wall=lambda: next(wall), cpu=lambda: next(cpu))
    assert watch.read() == Effort(seconds=13.0, cpu_seconds=3.5)
    assert watch.read() == Effort(seconds=20.0, cpu_seconds=4.0)
    assert Stopwatch(Effort(seconds=10.0, cpu_seconds=None)).read().cpu_seconds is None


def test_a_duplicate_shows_the_figures_of_the_first_and_sends_nobody_to_the_final(make_checkpoint: Make) -> None:
    first = record("3", make_checkpoint(50, 0.2), make_checkpoint(100, 0.5))
    again = TrialRecord(id="5", params={"rank": 4}, steps=100, state=JobState.DUPLICATE, same_as="3")
    shown = again.as_result(first)
    assert (shown["state"], shown["best_step"], shown["metrics"]["objective"]) == ("duplicate", 100, 0.5)
    assert shown["checkpoints"] == [], "nothing was trained"
    assert ranked([again, first]) == [first]
