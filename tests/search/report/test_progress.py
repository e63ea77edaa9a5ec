"""The terminal's lines and table hold whatever a reason says."""

import io
from collections.abc import Callable

import pytest
from rich.console import Console

from search.report.progress import Progress
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord

REASON = "[/pytorch/third_party/gloo] Connection closed by peer [10.0.0.1]"


def failed() -> TrialRecord:
    return TrialRecord(id="000", params={}, steps=100, state=JobState.FAILED, reason=REASON)


def test_a_reason_with_brackets_is_told_as_it_is() -> None:
    text = io.StringIO()
    progress = Progress(2, dict, Console(file=text, width=200))
    progress.started(failed())
    progress.ended(failed())
    assert REASON in text.getvalue()
    assert text.getvalue().startswith("[0:00,  50%, "), "the clock is in brackets, too"


def test_the_table_shows_clock_and_trials() -> None:
    text = io.StringIO()
    with Progress(2, dict, Console(file=text, width=200, force_terminal=True)) as progress:
        progress.started(failed())
    assert "[0:00,  50%, " in text.getvalue()
    assert "failed" in text.getvalue()


def test_a_duplicate_is_no_work_that_was_planned() -> None:
    progress = Progress(2, dict, Console(file=io.StringIO(), width=200))
    progress.started(failed())
    progress.started(TrialRecord(id="001", params={}, steps=100, state=JobState.DUPLICATE))
    assert progress.done_share() == 0.5


def test_the_share_that_is_done_follows_the_trials_and_adds_nothing_up(
    make_checkpoint: Callable[..., CheckpointResult],
) -> None:
    progress = Progress(11, dict, Console(file=io.StringIO(), width=200))
    running = [TrialRecord(id=f"{number:03d}", params={}, steps=1000) for number in range(10)]
    for record in running:
        progress.started(record)
    report = make_checkpoint(100, 0.5)
    for _ in range(3):
        for record in running:
            progress.reported(record, report)
    assert progress.done_share() == 1 / 11, "ten times a tenth is one, and a report that comes again adds nothing"
    progress.reported(running[0], make_checkpoint(5000, 0.5))
    assert progress.done_share() == pytest.approx(1.9 / 11), "no trial is more than done"
    progress.reported(running[0], make_checkpoint(500, 0.5))
    assert progress.done_share() == pytest.approx(1.4 / 11), "it went on from an earlier checkpoint"
    for record in running:
        record.state = JobState.STOPPED
    assert progress.done_share() == 10 / 11
    for number in range(10, 13):
        progress.started(TrialRecord(id=f"{number:03d}", params={}, steps=100, state=JobState.FINISHED))
    assert progress.done_share() == 1.0, "more trials than were planned are no more than all"
