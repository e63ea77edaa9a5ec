"""Makes runs in MLflow show what their views say; what they show already is left alone.

MLflow is the memory: runs are found by their tags, checkpoints by the steps that MLflow has, other metrics by their
latest values, and a run's last state is written last. So a view can be written as often as one likes, also after a kill
in the middle, and leaves one trace.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from PIL import Image

from evaluation.scores import OBJECTIVE
from search.tracking.connection import Connection
from search.tracking.registry import Champion, register_champion
from search.tracking.run_view import Point, RunView, State

SEARCH_TAG = "likeness.search"
"""Tag of the search's run and its children: the token of the search."""

METRICS_AT_ONCE = 1000
"""MLflow's own limit of a batch."""

IMAGES = "samples"
"""Under which MLflow shows the checkpoints' grids by step."""


class InUseError(ValueError):
    """Another process is writing to MLflow for this run folder."""


@dataclass(kw_only=True)
class _Shown:
    """What a run in MLflow shows."""

    id: str
    status: str = "RUNNING"
    end_time: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """The latest values."""
    steps: set[int] | None = None
    """Those of checkpoints whose metrics MLflow has; None: it has to be asked."""
    images: set[int] | None = None
    """Those whose grids it has."""

    @classmethod
    def of(cls, run: Run) -> _Shown:
        data = run.data
        return cls(
            id=str(run.info.run_id),
            status=str(run.info.status),
            end_time=run.info.end_time,
            tags=dict(data.tags),
            params=dict(data.params),
            metrics=dict(data.metrics),
        )

    def is_in(self, state: State) -> bool:
        """Whether it shows a state, its end at the same time included."""
        return (
            self.status == state.status
            and (state.time is None or self.end_time == state.time)
            and all(self.tags.get(name) == state.tags.get(name) for name in ("state", "reason", "remarks"))
        )


class MlflowWriter:
    """The runs of one search. Not safe to be used by several threads at once.

    Args:
        connection: To the MLflow that is to show them.
        folder: The run folder.
        token: Of the search's identity.

    Raises:
        InUseError: another process is writing for this run folder.
    """

    def __init__(self, connection: Connection, folder: Path, token: str) -> None:
        self._connection = connection
        self._token = token
        self._runs: dict[str, _Shown] | None = None
        self.run_id = ""
        """Of the search's own run; empty until MLflow has it."""
        self.model_uri = ""
        """`models:/NAME/VERSION` once the champion is registered."""
        self._lock = os.open(folder / ".mlflow.lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise InUseError(
                f"what {folder} holds is being written to MLflow by another process; wait until it ends"
            ) from error

    def close(self) -> None:
        """Let others write for this run folder."""
        os.close(self._lock)

    def forget(self) -> None:
        """Ask MLflow again what it shows: a call has failed, which may have done its work all the same."""
        self._runs = None

    def write(self, view: RunView) -> None:
        """Make a run show what its view says.

        Raises:
            Exception: whatever MLflow raises. Call `forget`, then the same view can be written again.
        """
        runs = self._known()
        if view.trial not in runs:
            runs[view.trial] = self._create(view)
        run = runs[view.trial]
        if not view.trial:
            self.run_id = run.id
        self._begin(run, view)
        if view.state is None or not run.is_in(view.state):
            self._checkpoints(run, view)  # before the end, which a run shows that shows everything
        self._summaries(run, view)
        if view.state is not None and not run.is_in(view.state):
            self._end(run, view.state, view.files)

    def register(self, champion: Champion) -> str:
        """Register the champion, once; `models:/NAME/VERSION`."""
        if "" not in self._known():
            raise LookupError("MLflow has no run of the search")
        if not self.model_uri:
            self.model_uri = register_champion(self._mlflow, self._known()[""].id, champion)
        return self.model_uri

    @property
    def _mlflow(self) -> MlflowClient:
        return self._connection.client()

    def _known(self) -> dict[str, _Shown]:
        if self._runs is not None:
            return self._runs
        client, page, found = self._mlflow, None, list[Run]()
        while True:
            runs = client.search_runs(
                [self._connection.experiment_id], f"tags.`{SEARCH_TAG}` = '{self._token}'", page_token=page
            )
            found += runs
            if not (page := runs.token):
                break
        known: dict[str, _Shown] = {}
        for run in sorted(found, key=lambda run: (-len(run.data.params), -len(run.data.metrics), run.info.run_id)):
            trial = run.data.tags.get("trial", "")
            if trial in known:
                client.delete_run(run.info.run_id)  # a server that hung has created it after all
            else:
                known[trial] = _Shown.of(run)
        self._runs = known
        self.run_id = known[""].id if "" in known else ""
        return known

    def _create(self, view: RunView) -> _Shown:
        tags = {SEARCH_TAG: self._token, "state": "running"}
        if view.trial:
            if "" not in self._known():
                raise LookupError("MLflow has no run of the search, so trials cannot be put below it")
            tags |= {"trial": view.trial, MLFLOW_PARENT_RUN_ID: self._known()[""].id}
        run = self._mlflow.create_run(
            self._connection.experiment_id, start_time=view.started, run_name=view.name, tags=tags
        )
        return _Shown(id=str(run.info.run_id), tags=tags, steps=set(), images=set())

    def _begin(self, run: _Shown, view: RunView) -> None:
        # A value that has changed since, as the number of trials may, stays as it was: MLflow's parameters do.
        missing = {name: value for name, value in view.params.items() if name not in run.params}
        if not missing:
            return
        for file in view.inputs:
            self._mlflow.log_artifact(run.id, str(file))
        self._mlflow.log_batch(run.id, params=[Param(name, value) for name, value in missing.items()])
        run.params |= missing

    def _checkpoints(self, run: _Shown, view: RunView) -> None:
        if not view.checkpoints:
            return
        if run.steps is None:
            history = self._mlflow.get_metric_history(run.id, OBJECTIVE) if OBJECTIVE in run.metrics else ()
            run.steps = {metric.step for metric in history}
        if run.images is None:
            names = [Path(file.path).name for file in self._mlflow.list_artifacts(run.id, "images")]
            steps = [re.match(rf"{IMAGES}\+step\+(\d+)\+", name) for name in names]
            run.images = {int(step[1]) for step in steps if step is not None}
        points = [point for point in view.checkpoints if point.step not in run.steps]
        self._log(run, points)
        run.steps |= {point.step for point in points}
        pictures = [point for point in view.checkpoints if point.step not in run.images]
        for point in pictures:
            assert point.file is not None, "every checkpoint has its grid"
            with Image.open(point.file) as grid:
                self._mlflow.log_image(run.id, grid, key=IMAGES, step=point.step, timestamp=point.time)
            run.images.add(point.step)

    def _summaries(self, run: _Shown, view: RunView) -> None:
        missing = [
            point
            for point in view.summaries
            if any(run.metrics.get(name) != value for name, value in point.metrics.items())
        ]
        for point in missing:
            if point.file is not None:
                self._mlflow.log_artifact(run.id, str(point.file), point.place)
            self._log(run, [point])

    def _log(self, run: _Shown, points: Sequence[Point]) -> None:
        rows = [
            Metric(name, value, point.time, point.step) for point in points for name, value in point.metrics.items()
        ]
        for start in range(0, len(rows), METRICS_AT_ONCE):
            self._mlflow.log_batch(run.id, metrics=rows[start : start + METRICS_AT_ONCE])
        for point in points:
            run.metrics |= point.metrics

    def _end(self, run: _Shown, state: State, files: Sequence[tuple[Path, str]]) -> None:
        for file, place in files if state.status != "RUNNING" else ():
            self._mlflow.log_artifact(run.id, str(file), place or None)
        for name in {"reason", "remarks"} & run.tags.keys() - state.tags.keys():
            self._mlflow.delete_tag(run.id, name)
            del run.tags[name]
        self._mlflow.log_batch(run.id, tags=[RunTag(name, value) for name, value in state.tags.items()])
        if state.status == "RUNNING":
            self._mlflow.update_run(run.id, status="RUNNING")
        else:
            self._mlflow.set_terminated(run.id, state.status, end_time=state.time)
        run.tags |= state.tags
        run.status, run.end_time = state.status, state.time
