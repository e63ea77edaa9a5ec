"""The terminal's lines and table hold whatever a reason says."""

import io

from rich.console import Console

from search.job import JobState
from search.progress import Progress
from search.record import TrialRecord

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
