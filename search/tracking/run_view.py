"""What MLflow is to show: a view of the search and one of each trial, from records and files of the run folder."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from evaluation.measures import SECOND_LIKENESS
from search.config.run_layout import CHECKPOINT_FILE, RunLayout
from search.storage.result import SearchResult
from search.storage.result_schema import SecondJudgeResult
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from trainer.files import write_file

IDENTITY_FILE = "mlflow.json"

Status: TypeAlias = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
"""MLflow's words."""

LONGEST_TAG = 5000
"""Characters of a tag that every version of MLflow takes."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which runs in MLflow are those of a run folder; written when the search begins and never changed."""

    token: str
    """A name that no other search has."""
    params: Mapping[str, str]
    """What is the same for all trials, as it was when the search began."""

    @classmethod
    def read(cls, folder: Path) -> Identity | None:
        """That of a run folder; None if the search has not come so far."""
        path = folder / IDENTITY_FILE
        return cls(**json.loads(path.read_text("utf-8"))) if path.exists() else None

    @classmethod
    def make(cls, folder: Path, params: Mapping[str, Any]) -> Identity:
        """A new one, written into a run folder."""
        made = cls(token=uuid.uuid4().hex, params={name: str(value) for name, value in params.items()})
        text = json.dumps(vars(made), indent=1)
        write_file(folder / IDENTITY_FILE, lambda path: path.write_text(text, "utf-8"))
        return made


@dataclass(frozen=True, kw_only=True)
class Point:
    """Metrics of one step, and the file that belongs to them."""

    metrics: Mapping[str, float]
    step: int
    time: int
    """Milliseconds since 1970: when the file with the metrics was written, so that it is the same each time."""
    file: Path | None = None
    place: str = ""
    """Folder of the file among the run's artifacts."""


@dataclass(frozen=True, kw_only=True)
class State:
    """Whether a run goes on or how it ended."""

    status: Status
    tags: Mapping[str, str]
    """`state`, and where there are any `reason` and `remarks`."""
    time: int | None = None
    """When it ended, in milliseconds since 1970; None: when MLflow is given the end."""

    @property
    def ended(self) -> bool:
        return self.status != "RUNNING"

    @classmethod
    def of(cls, status: Status, state: str, *, time: int | None = None, **tags: str) -> State:
        """A state with those tags that say anything."""
        named = {"state": state, **tags}
        return cls(status=status, tags={name: text[:LONGEST_TAG] for name, text in named.items() if text}, time=time)

    @classmethod
    def of_search(cls, result: SearchResult) -> State:
        """How a search has ended that has written a result."""
        status: Status = "FINISHED" if result.has_champion else "KILLED" if result.interrupted else "FAILED"
        report = RunLayout(result.folder).report
        return cls.of(status, result.outcome.status, time=_written(report) if report.exists() else None)


RUNNING = State.of("RUNNING", "running")
INTERRUPTED = State.of("KILLED", "interrupted")


@dataclass(frozen=True, kw_only=True)
class RunView:
    """What one run in MLflow is to show."""

    trial: str
    """Empty: the search's own run, which is the parent of the others."""
    name: str
    params: Mapping[str, str]
    state: State | None
    """None: whatever it is in MLflow."""
    started: int | None = None
    """Milliseconds since 1970; None: when MLflow is given the run."""
    inputs: Sequence[Path] = ()
    """Kept with the run from its beginning."""
    checkpoints: Sequence[Point] = ()
    """By step, each with its grid of images."""
    summaries: Sequence[Point] = ()
    """Metrics of which the latest value counts."""
    files: Sequence[tuple[Path, str]] = ()
    """Kept with the run when it ends, each in a folder of the run's artifacts; the empty one is their root."""


def search_view(folder: Path, identity: Identity, result: SearchResult | None, state: State | None) -> RunView:
    """The search's own run.

    Args:
        folder: The run folder.
        identity: Its own.
        result: The outcome; None while there is none.
        state: Whether the search goes on; None: that stays as it is in MLflow.
    """
    layout = RunLayout(folder)
    files = [layout.result, layout.report, layout.trial_table, layout.image_table]
    summaries = []
    if (base := CheckpointResult.find(layout.base("validation"))) is not None:
        summaries.append(_with_picture("base", base.metrics, base.grid))
    outcome = result.outcome if result is not None and result.has_champion else None
    if outcome is not None and outcome.champion is not None:
        summaries.append(_with_picture("champion", outcome.champion.final.metrics, layout.champion / "samples.png"))
        if agreement := _agreement(outcome.second_judge):
            summaries.append(Point(metrics=agreement, step=0, time=_written(layout.champion)))
        files.append(layout.champion / "README.md")
    return RunView(
        trial="",
        name=folder.name,
        params=identity.params,
        state=state,
        started=_written(folder / IDENTITY_FILE),
        inputs=(layout.configuration,),
        summaries=summaries,
        files=(
            *((file, "") for file in files if file.exists()),
            *((plot, "plots") for plot in sorted(layout.plots.glob("*.svg"))),
        ),
    )


def trial_view(record: TrialRecord, search: State, result: SearchResult | None = None) -> RunView:
    """A trial's run.

    Args:
        record: What became of the trial so far.
        search: How the search stands: what stops it stops a trial that has not ended, too.
        result: The search's outcome, which holds the second judge's likeness; None while there is none.
    """
    points = [_scored(report, report.metrics, file=report.grid) for report in record.checkpoints]
    ended = (points[-1].time or None) if points else None
    best, summaries = record.best, []
    if record.state is JobState.RUNNING:
        state = State.of(search.status, search.tags["state"])
    else:
        # A stopped trial did all that was asked of it; its tag `state` tells it apart.
        status: Status = "FAILED" if record.state is JobState.FAILED else "FINISHED"
        remarks = "; ".join(record.remarks)
        state = State.of(status, str(record.state), time=ended, reason=record.reason, remarks=remarks)
        if best is not None:
            metrics = {f"best_{name}": value for name, value in best.metrics.items()} | {"best_step": float(best.step)}
            adapter = best.folder / "pytorch_lora_weights.safetensors"
            summaries.append(_scored(best, metrics, file=adapter, place="adapter"))
    judged = result.outcome.second_judge if result is not None and result.has_champion else None
    if best is not None and judged is not None and record.id in judged.trials:
        summaries.append(_scored(best, {SECOND_LIKENESS: judged.trials[record.id]}))
    return RunView(
        trial=record.id,
        name=f"trial-{record.id}",
        params={name: str(value) for name, value in {**record.params, "steps": record.steps}.items()},
        state=state,
        started=ended - round(1000 * record.seconds) if ended is not None and record.seconds else None,
        checkpoints=points,
        summaries=summaries,
    )


def _scored(report: CheckpointResult, metrics: Mapping[str, float], file: Path | None = None, place: str = "") -> Point:
    time = _written(report.folder / CHECKPOINT_FILE)
    return Point(metrics=metrics, step=report.step, time=time, file=file, place=place)


def _with_picture(place: str, metrics: Mapping[str, float], picture: Path) -> Point:
    named = {f"{place}_{name}": float(value) for name, value in metrics.items()}
    return Point(metrics=named, step=0, time=_written(picture), file=picture, place=place)


def _agreement(judged: SecondJudgeResult | None) -> dict[str, float]:
    """How well the two judges agree; what is unknown is left out."""
    if judged is None or judged.rank_correlation is None or judged.agrees is None:
        return {}
    correlation = judged.rank_correlation
    values = {"kendall": correlation.kendall, "spearman": correlation.spearman, "agrees": float(judged.agrees)}
    return {f"second_judge_{name}": value for name, value in values.items() if value is not None}


def _written(path: Path) -> int:
    """Milliseconds since 1970 of a file's last change; 0 if it is gone, which is said when it is to be delivered."""
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0
