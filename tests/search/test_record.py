"""Records: the best checkpoint of a trial, and the order of trials."""

from collections.abc import Callable

from search.job import JobState, Report
from search.record import TrialRecord, ranked

Make = Callable[..., Report]


def record(name: str, *reports: Report) -> TrialRecord:
    made = TrialRecord(id=name, params={"rank": 4}, steps=100)
    for report in reports:
        assert made.add(report)
    return made


def test_every_checkpoint_is_a_candidate_and_the_best_counts(make_report: Make) -> None:
    made = record("0", make_report(50, 0.2), make_report(100, 0.5), make_report(150, 0.3))
    assert made.best is not None
    assert made.best.step == 100
    assert not made.add(make_report(100, 0.9)), "a replayed step is not counted twice"


def test_of_equals_the_cheaper_wins(make_report: Make) -> None:
    best = record("0", make_report(50, 0.5), make_report(100, 0.5)).best
    assert best is not None
    assert best.step == 50


def test_a_trial_that_is_unfit_throughout_sends_nobody_to_the_final(make_report: Make) -> None:
    faceless = record("0", make_report(50, -9.0, unfit=("it draws no face",)))
    assert faceless.best is not None
    assert faceless.candidate is None
    assert faceless.as_result()["unfit"] == ["it draws no face"]
    low = record("1", make_report(50, -3.0))
    assert ranked([faceless, low, record("2")]) == [low]


def test_the_best_fit_checkpoint_enters_though_an_unfit_one_has_a_higher_objective(make_report: Make) -> None:
    """Memorised at step 100: what it had learnt at step 50 may still win."""
    made = record("0", make_report(50, 0.4), make_report(100, 0.7, unfit=("memorisation 0.50 is above 0.1",)))
    assert made.candidate is not None
    assert made.candidate.step == 50
    assert made.best is made.candidate


def test_ranking(make_report: Make) -> None:
    first, second, third = (record(str(n), make_report(50, value)) for n, value in enumerate((0.2, 0.6, 0.2)))
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
    }


def test_a_duplicate_shows_the_figures_of_the_first_and_sends_nobody_to_the_final(make_report: Make) -> None:
    first = record("3", make_report(50, 0.2), make_report(100, 0.5))
    again = TrialRecord(id="5", params={"rank": 4}, steps=100, state=JobState.DUPLICATE, same_as="3")
    shown = again.as_result(first)
    assert (shown["state"], shown["best_step"], shown["metrics"]["objective"]) == ("duplicate", 100, 0.5)
    assert shown["checkpoints"] == [], "nothing was trained"
    assert ranked([again, first]) == [first]
