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
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from PIL import Image

from evaluation.measures import OBJECTIVE
from search.tracking.connection import Connection
from search.tracking.registry import Champion, register_champion
from search.tracking.run_view import Point, RunView, State

SEARCH_TAG = "likeness.search"
"""Tag of the search's run and its children: the token of the search."""

IMAGES = "samples"
"""Under which MLflow shows the checkpoints' grids by step."""


class InUseError(ValueError):
    """Another process is writing to MLflow for this run folder."""


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
        self._runs: dict[str, Run] | None = None
        """By trial, as MLflow had them after the last write; None: it has to be asked."""
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
        run = runs[view.trial] if view.trial in runs else self._create(view)
        if not view.trial:
            self.run_id = run.info.run_id
        if not _shows(run, view):
            self._begin(run, view)
            self._checkpoints(run, view.checkpoints)  # before the end, which a run shows that shows everything
            self._summaries(run, view.summaries)
            if view.state is not None and not _is_in(run, view.state):
                self._end(run, view.state, view.files)
            run = self._client.get_run(run.info.run_id)
        runs[view.trial] = run

    def register(self, champion: Champion) -> str:
        """Register the champion, once; `models:/NAME/VERSION`."""
        if "" not in self._known():
            raise LookupError("MLflow has no run of the search")
        if not self.model_uri:
            self.model_uri = register_champion(self._client, self.run_id, champion)
        return self.model_uri

    @property
    def _client(self) -> mlflow.MlflowClient:
        return self._connection.client()

    def _known(self) -> dict[str, Run]:
        if self._runs is not None:
            return self._runs
        client, known = self._client, dict[str, Run]()
        mine = f"tags.`{SEARCH_TAG}` = '{self._token}'"
        found = mlflow.search_runs([self._connection.experiment_id], mine, output_format="list")
        for run in sorted(found, key=lambda run: (-len(run.data.params), -len(run.data.metrics), run.info.run_id)):
            if known.setdefault(run.data.tags.get("trial", ""), run) is not run:
                client.delete_run(run.info.run_id)  # a server that hung has created it after all
        self._runs = known
        self.run_id = known[""].info.run_id if "" in known else ""
        return known

    def _create(self, view: RunView) -> Run:
        tags = {SEARCH_TAG: self._token, "state": "running"}
        if view.trial:
            if "" not in self._known():
                raise LookupError("MLflow has no run of the search, so trials cannot be put below it")
            tags |= {"trial": view.trial, MLFLOW_PARENT_RUN_ID: self.run_id}
        return self._client.create_run(
            self._connection.experiment_id, start_time=view.started, run_name=view.name, tags=tags
        )

    def _begin(self, run: Run, view: RunView) -> None:
        # A value that has changed since, as the number of trials may, stays as it was: MLflow's parameters do.
        missing = [Param(name, value) for name, value in view.params.items() if name not in run.data.params]
        if missing:
            for file in view.inputs:
                self._client.log_artifact(run.info.run_id, str(file))
            self._client.log_batch(run.info.run_id, params=missing)

    def _checkpoints(self, run: Run, points: Sequence[Point]) -> None:
        if not points:
            return
        client, run_id = self._client, run.info.run_id
        history = client.get_metric_history(run_id, OBJECTIVE) if OBJECTIVE in run.data.metrics else ()
        measured = {metric.step for metric in history}
        self._log(run, [point for point in points if point.step not in measured])
        names = [Path(file.path).name for file in client.list_artifacts(run_id, "images")]
        drawn = {int(step[1]) for name in names if (step := re.match(rf"{IMAGES}\+step\+(\d+)\+", name))}
        for point in points:
            if point.step not in drawn:
                assert point.file is not None, "every checkpoint has its grid"
                with Image.open(point.file) as grid:
                    client.log_image(run_id, grid, key=IMAGES, step=point.step, timestamp=point.time)

    def _summaries(self, run: Run, points: Sequence[Point]) -> None:
        for point in points:
            if not point.metrics.items() <= run.data.metrics.items():
                if point.file is not None:
                    self._client.log_artifact(run.info.run_id, str(point.file), point.place)
                self._log(run, [point])

    def _log(self, run: Run, points: Sequence[Point]) -> None:
        metrics = [Metric(name, value, each.time, each.step) for each in points for name, value in each.metrics.items()]
        if metrics:
            self._client.log_batch(run.info.run_id, metrics=metrics)

    def _end(self, run: Run, state: State, files: Sequence[tuple[Path, str]]) -> None:
        client, run_id = self._client, run.info.run_id
        for file, place in files if state.ended else ():
            client.log_artifact(run_id, str(file), place or None)
        for name in {"reason", "remarks"} & run.data.tags.keys() - state.tags.keys():
            client.delete_tag(run_id, name)
        client.log_batch(run_id, tags=[RunTag(name, value) for name, value in state.tags.items()])
        if state.ended:
            client.set_terminated(run_id, state.status, end_time=state.time)
        else:
            client.update_run(run_id, status=state.status)


def _is_in(run: Run, state: State) -> bool:
    """Whether a run shows a state, its end at the same time included."""
    return (
        run.info.status == state.status
        and (state.time is None or run.info.end_time == state.time)
        and all(run.data.tags.get(name) == state.tags.get(name) for name in ("state", "reason", "remarks"))
    )


def _shows(run: Run, view: RunView) -> bool:
    """Whether a run that has ended shows all that its view says."""
    return (
        view.state is not None
        and view.state.ended
        and _is_in(run, view.state)
        and view.params.keys() <= run.data.params.keys()
        and all(point.metrics.items() <= run.data.metrics.items() for point in view.summaries)
    )
