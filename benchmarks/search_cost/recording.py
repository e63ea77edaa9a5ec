"""A recording: what real trials of a search came to at every checkpoint, small enough to be kept beside the code.

`python -m benchmarks.search_cost.recording RUN... --file FILE` makes one of run folders, also of runs that go on still.
It should be of random configurations, none stopped, each with many checkpoints, and of some configurations again and
again, which says how far trainings differ by their seeds alone. What a checkpoint took is recorded in the processor's
seconds, so that the machine may do other work meanwhile; where a GPU does the work, they say little.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import optuna
import typer
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from evaluation.measures import OBJECTIVE, SEARCH_VALUE
from search.config.space import Value
from search.storage.trial_record import CheckpointResult, trial_id
from trainer.files import write_file
from trainer.settings_file import read_settings

RECORDING = Path(__file__).with_name("recorded_trials.json")

SETTINGS = ("learning_rate", "rank", "alpha", "targets", "steps")
"""Recorded of every trial, whether its search varied them or not."""

DIGITS = 6
"""Significant digits of recorded numbers; measuring again differs far earlier."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One scored checkpoint."""

    step: int
    objective: float
    search_value: float
    training_seconds: float
    """Since the checkpoint before, in the processor's seconds of the worker's leading process: other work on the
    machine lengthens the wall's seconds, and hardly these."""
    scoring_seconds: float
    """In the processor's seconds, likewise."""


@dataclass(frozen=True, kw_only=True)
class RecordedTrial:
    """One trial that ran to its end."""

    id: str
    params: Mapping[str, Value]
    checkpoints: tuple[Checkpoint, ...]
    """By ascending step; the last is that of the whole training."""

    @property
    def steps(self) -> int:
        return self.checkpoints[-1].step


def record(run: Path) -> tuple[RecordedTrial, ...]:
    """The trials of a run folder that have run to their ends.

    Raises:
        ValueError: there is no journal, or no such trial, or the processor's seconds of one were not measured.
    """
    journal = run / "journal.log"
    if not journal.is_file():
        raise ValueError(f"{run} is no run folder: it holds no journal.log")
    study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(journal))))
    fixed = _fixed(run / "search.yaml")
    trials = [
        _trial(run, trial.number, {**fixed, **trial.params}) for trial in study.get_trials(states=[TrialState.COMPLETE])
    ]
    if not trials:
        raise ValueError(f"no trial of {run} has run to its end yet")
    return tuple(trials)


def _fixed(path: Path) -> Mapping[str, Value]:
    """The settings that hold where the space has none."""
    training = read_settings(path).get("training", {}) if path.is_file() else {}
    return {name: training[name] for name in SETTINGS if name in training}


def _trial(run: Path, number: int, params: Mapping[str, Value]) -> RecordedTrial:
    reports = sorted(
        (CheckpointResult.read(file.parent) for file in (run / "trials" / trial_id(number)).glob("step-*/report.json")),
        key=lambda report: report.step,
    )
    return RecordedTrial(
        id=trial_id(number),
        params={name: _rounded(value) for name, value in params.items()},
        checkpoints=tuple(_checkpoint(report) for report in reports),
    )


def _checkpoint(report: CheckpointResult) -> Checkpoint:
    training, scoring = report.training_cpu_seconds, report.scoring_cpu_seconds
    if training is None or scoring is None:
        raise ValueError(
            f"{report.folder} does not say what it took of the processor, as of an earlier version; "
            "record a run that this version has made from its beginning"
        )
    return Checkpoint(
        step=report.step,
        objective=_rounded(report.metrics[OBJECTIVE]),
        search_value=_rounded(report.metrics[SEARCH_VALUE]),
        training_seconds=_rounded(training),
        scoring_seconds=_rounded(scoring),
    )


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def without_copies(trials: Sequence[RecordedTrial]) -> tuple[RecordedTrial, ...]:
    """Each training once: two searches that begin with the same one do it with the same seed."""
    seen: dict[tuple[object, ...], RecordedTrial] = {}
    for trial in trials:
        last = trial.checkpoints[-1]
        seen.setdefault((*sorted(trial.params.items()), last.step, last.search_value), trial)
    return tuple(seen.values())


def write_recording(trials: tuple[RecordedTrial, ...], file: Path) -> None:
    """Write trials as JSON, a trial a line."""
    lines = ",\n".join(json.dumps(asdict(trial), allow_nan=False, separators=(",", ":")) for trial in trials)
    write_file(file, lambda path: path.write_text(f"[\n{lines}\n]\n", "utf-8"))


def read_recording(file: Path) -> tuple[RecordedTrial, ...]:
    """Read what `write_recording` wrote.

    Raises:
        ValueError: there is no such file, or it is damaged.
    """
    try:
        values = json.loads(file.read_text("utf-8"))
        return tuple(
            RecordedTrial(
                id=trial["id"],
                params=trial["params"],
                checkpoints=tuple(Checkpoint(**checkpoint) for checkpoint in trial["checkpoints"]),
            )
            for trial in values
        )
    except FileNotFoundError:
        raise ValueError(
            f"there is no recording {file}; make one with python -m benchmarks.search_cost.recording RUN... --file FILE"
        ) from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"the recording {file} is damaged ({error}); make it again") from error


def main(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    file: Annotated[Path, typer.Option(help="File to write.")] = RECORDING,
) -> None:
    """Record the trials of runs that have run to their ends."""
    try:
        trials = without_copies([replace(trial, id=f"{run.name}-{trial.id}") for run in runs for trial in record(run)])
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    write_recording(trials, file)
    checkpoints = sum(len(trial.checkpoints) for trial in trials)
    typer.echo(f"{len(trials)} trials with {checkpoints} checkpoints, {file.stat().st_size / 1024:.0f} KiB: {file}")


if __name__ == "__main__":
    typer.run(main)
