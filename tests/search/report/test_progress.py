"""The terminal's lines and table: what they read from the records, and that they hold whatever a reason says."""

import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from search.report.progress import Progress, summary
from search.storage.result import SearchResult
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from tests.support.outcomes import an_outcome

REASON = "[/pytorch/third_party/gloo] Connection closed by peer [10.0.0.1]"


def failed() -> TrialRecord:
    return TrialRecord(id="000", params={}, steps=100, state=JobState.FAILED, reason=REASON)


def show(
    trials: int,
    records: Sequence[TrialRecord],
    *,
    steps: Mapping[str, int] | None = None,
    left: float | None = None,
    terminal: bool = False,
) -> tuple[Progress, io.StringIO]:
    """A progress and what it writes."""
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=terminal)
    return Progress(trials, records, lambda: steps or {}, console, lambda: left), text


def test_a_reason_with_brackets_is_shown_as_it_is() -> None:
    progress, text = show(2, [failed()])
    progress.ended(failed())
    assert REASON in text.getvalue()
    assert text.getvalue().startswith("[0:00,  50%, measuring, best -]"), "the clock is in brackets, too"


def test_the_table_shows_clock_and_trials() -> None:
    progress, text = show(2, [failed()], terminal=True)
    with progress:
        pass
    assert "[0:00,  50%, " in text.getvalue()
    assert "failed" in text.getvalue()


def test_the_time_left_is_the_budget_monitors() -> None:
    progress, text = show(2, [failed()], left=125.4)
    progress.ended(failed())
    assert text.getvalue().startswith("[0:00,  50%, 2:05 left, best -]")


def test_the_best_is_that_of_all_parts_of_the_search(make_checkpoint: Callable[..., CheckpointResult]) -> None:
    records = [TrialRecord(id=f"{number:03d}", params={}, steps=100) for number in range(3)]
    records[1].add(make_checkpoint(50, 0.7))
    records[2].add(make_checkpoint(50, 0.9, unfit=("copies a photo",)))
    progress, text = show(3, records)
    progress.ended(records[0])
    assert "best 0.700 (trial 001)]" in text.getvalue(), "of what was scored before; an unfit one ranks behind"
    progress.checkpoint(records[0], make_checkpoint(50, 0.8))
    assert "best 0.800 (trial 000)]  trial 000  step    50/100  objective  0.800" in text.getvalue()


def test_a_duplicate_is_no_work_that_was_planned() -> None:
    duplicate = TrialRecord(id="001", params={}, steps=100, state=JobState.DUPLICATE)
    assert show(2, [failed(), duplicate])[0].done_share() == 0.5


def test_the_share_that_is_done_follows_the_trials_and_adds_nothing_up(
    make_checkpoint: Callable[..., CheckpointResult],
) -> None:
    records = [TrialRecord(id=f"{number:03d}", params={}, steps=1000) for number in range(10)]
    progress, _ = show(11, records)
    assert progress.done_share() == 0.0
    report = make_checkpoint(100, 0.5)
    for _ in range(3):
        for record in records:
            record.add(report)
            progress.checkpoint(record, report)
    assert progress.done_share() == 1 / 11, "ten times a tenth is one, and a report that comes again adds nothing"
    records[0].add(make_checkpoint(5000, 0.5))
    assert progress.done_share() == pytest.approx(1.9 / 11), "no trial is more than done"
    for record in records:
        record.state = JobState.STOPPED
    assert progress.done_share() == 10 / 11
    records += [TrialRecord(id=f"{n:03d}", params={}, steps=100, state=JobState.FINISHED) for n in range(10, 13)]
    assert progress.done_share() == 1.0, "more trials than were planned are no more than all"


def test_steps_between_checkpoints_count_and_fall_where_a_worker_was_lost(
    make_checkpoint: Callable[..., CheckpointResult],
) -> None:
    record = TrialRecord(id="000", params={}, steps=1000)
    steps = {"000": 50}
    progress, _ = show(1, [record], steps=steps)
    progress.poll()
    assert progress.done_share() == 0.05
    record.add(make_checkpoint(100, 0.5))
    assert progress.done_share() == 0.1, "the checkpoint is newer than what the worker last said"
    steps["000"] = 180
    progress.poll()
    assert progress.done_share() == 0.18
    steps["000"] = 0
    progress.poll()
    assert progress.done_share() == 0.1, "it resumes from its checkpoint"


def test_the_last_line_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    uri = "sqlite:////home/anna/d'Or; rm -rf #1/mlflow.db"
    mlflow = {"tracking_uri": uri, "experiment_id": "1", "run_id": "abc"}
    line = summary(SearchResult(folder=tmp_path, outcome=an_outcome(mlflow=mlflow)), None, None)[-1]
    assert shlex.split(line) == ["compare:", "mlflow", "ui", "--backend-store-uri", uri]
