"""What became of the trials of earlier parts, from the journal and the trials' folders."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.config.search_config import SearchConfig, load_config
from search.storage.trial_record import CheckpointResult, JobState
from search.study.history import end_note, read_history
from search.study.samplers.study_sampler import OptunaSampler
from search.study.study import make_sampler

Write = Callable[[dict[str, Any]], Path]
Make = Callable[..., CheckpointResult]


@pytest.fixture
def config(document: dict[str, Any], write_config: Write) -> SearchConfig:
    return load_config(write_config(document))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "anna"
    folder.mkdir(parents=True)
    return folder


class Part:
    """One part of a search, without its seats: what they would do is written down."""

    def __init__(self, config: SearchConfig, run: Path, make_checkpoint: Make) -> None:
        sampler = make_sampler(config, run)
        assert isinstance(sampler, OptunaSampler)
        self.sampler = sampler
        self._trials = run / "trials"
        self._make_report = make_checkpoint

    def begin(self, name: str) -> None:
        self.sampler.suggest(name)

    def score(self, name: str, number: int, steps: Sequence[int], *, reported: bool = True) -> None:
        for step in steps:
            folder = self._trials / f"{number:03d}" / f"step-{step}"
            folder.mkdir(parents=True)
            report = replace(
                self._make_report(step, step / 1000), folder=folder, training_seconds=2.0, scoring_seconds=1.5
            )
            report.write(folder)
            if reported:
                self.sampler.on_trial_result(name, {"step": step, **report.metrics})


def test_the_journal_counts_and_the_folders_hold_the_rest(
    config: SearchConfig, run: Path, make_checkpoint: Make
) -> None:
    part = Part(config, run, make_checkpoint)
    for name in "abcd":
        part.begin(name)
    part.score("a", 0, [50, 100, 150])
    part.sampler.on_trial_complete("a")
    part.sampler.note(end_note("000"), {"reason": "", "seconds": 42.5})
    part.score("b", 1, [50])
    part.sampler.on_trial_complete("b", error=True)
    part.sampler.note(end_note("001"), {"reason": "the loss is not finite at step 60", "seconds": 7.0})
    part.score("c", 2, [50])
    part.score("c", 2, [100], reported=False)
    (run / "trials" / "007" / "step-50").mkdir(parents=True)

    records = read_history(make_sampler(config, run), config, run / "trials")
    assert [(one.id, one.state, one.reason, one.seconds) for one in records] == [
        ("000", JobState.FINISHED, "", 42.5),
        ("001", JobState.FAILED, "the loss is not finite at step 60", 7.0),
        ("002", JobState.RUNNING, "", 3.5),
        ("003", JobState.RUNNING, "", 0.0),
    ]
    assert [[report.step for report in one.checkpoints] for one in records] == [[50, 100, 150], [50], [50], []]
    assert records[0].params == {"learning_rate": 1e-4, "rank": 16, "alpha": 16, "steps": 150}
    assert records[0].steps == 150
    assert not (run / "trials" / "007").exists(), "of a trial that the journal does not know"
    assert (run / "trials" / "002" / "step-100").exists(), "the trial will report it when it goes on"


def test_words_that_a_kill_has_taken_are_found_again(config: SearchConfig, run: Path, make_checkpoint: Make) -> None:
    part = Part(config, run, make_checkpoint)
    for name in "ab":
        part.begin(name)
    part.score("a", 0, [50])
    part.sampler.on_trial_complete("a")
    part.sampler.on_trial_complete("b", error=True)
    stopped, failed = read_history(make_sampler(config, run), config, run / "trials")
    assert (stopped.state, stopped.seconds) == (JobState.STOPPED, 3.5)
    assert stopped.reason == "stopped after step 50: others were better at the same step"
    assert (failed.state, failed.reason) == (
        JobState.FAILED,
        "it failed just before the search was killed, which took the reason",
    )


def test_a_trial_whose_checkpoints_are_damaged_is_a_failure_with_a_reason(
    config: SearchConfig, run: Path, make_checkpoint: Make
) -> None:
    part = Part(config, run, make_checkpoint)
    part.begin("a")
    part.score("a", 0, [50, 100, 150])
    part.sampler.on_trial_complete("a")
    damaged = run / "trials" / "000" / "step-150" / "report.json"
    damaged.write_text(damaged.read_text()[:40])
    (record,) = read_history(make_sampler(config, run), config, run / "trials")
    assert (record.state, [report.step for report in record.checkpoints]) == (JobState.FINISHED, [50, 100])
    for step in (50, 100):
        (run / "trials" / "000" / f"step-{step}" / "report.json").unlink()
    (record,) = read_history(make_sampler(config, run), config, run / "trials")
    assert (record.state, record.reason) == (
        JobState.FAILED,
        f"its checkpoints in {run / 'trials' / '000'} are gone or damaged",
    )
