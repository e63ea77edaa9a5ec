"""The record in MLflow: a parent run for the search, a child run for each trial, the champion in the registry.

MLflow's calls take tens of milliseconds at best, so one thread makes them all, in order, while the search goes on. A
tracking server that fails does not end a search that costs hours: the failure is kept and told in the result.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image

from evaluation.scores import OBJECTIVE
from search.config import without_password
from search.job import JobState, Report
from search.space import Value

# A dead server must not hold a call for minutes (MLflow's defaults: 7 retries of 120 s).
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
# A search says nothing to anybody.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import mlflow.diffusers
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

logger = logging.getLogger(__name__)

SEARCH_TAG = "search"
"""Tag of the parent run by which a search that goes on finds it."""

RUN_STATUS = {
    JobState.FINISHED: "FINISHED",
    JobState.STOPPED: "FINISHED",
    JobState.DUPLICATE: "FINISHED",
    JobState.FAILED: "FAILED",
}
"""MLflow's status of a trial's run. A stopped trial did all that was asked of it; its tag `state` tells it apart."""


class TrackingError(ValueError):
    """The tracking URI cannot be used at all; said before anything is trained."""


@dataclass(frozen=True, kw_only=True)
class ChampionVersion:
    """The champion in MLflow's registry."""

    uri: str
    """`models:/NAME/VERSION`"""
    version: str


class Tracker:
    """One search's runs in MLflow. Use as a context manager: on leaving, everything queued has been written.

    Args:
        uri: Tracking URI; None for the sqlite database `mlflow.db` in `home`.
        experiment: Name of the MLflow experiment.
        home: Folder of the default database and of its artifacts.
    """

    def __init__(self, uri: str | None, experiment: str, home: Path) -> None:
        self.uri = uri or f"sqlite:///{home / 'mlflow.db'}"
        self.failure = ""
        """The first thing that went wrong after the start, in words; empty if nothing did."""
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._write, name="mlflow", daemon=True)
        self._children: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        self._logged: set[tuple[str, int]] = set()
        try:
            mlflow.set_tracking_uri(self.uri)
            self._client = MlflowClient(self.uri)
            self.experiment_id = self._experiment(experiment, home)
        except (MlflowException, OSError) as error:
            raise TrackingError(f"tracking.uri {self.shown_uri!r} cannot be used: {error}") from error
        self.run_id = ""

    @property
    def shown_uri(self) -> str:
        """The tracking URI without a password."""
        return without_password(self.uri)

    def start(
        self,
        name: str,
        params: Mapping[str, Any],
        configuration: str,
        *,
        search: str = "",
        unfinished: Collection[str] = (),
    ) -> None:
        """Open the parent run, the same again where the search goes on.

        Args:
            name: Of the run.
            params: What is the same for all trials. What the run holds already stays.
            configuration: The search, as YAML.
            search: Tells this search from every other; empty if it will never go on.
            unfinished: Trials whose runs are opened again.
        """
        known = self._client.search_runs([self.experiment_id], f"tags.{SEARCH_TAG} = '{search}'") if search else []
        if known:
            self.run_id = known[0].info.run_id
            self._reopen(self.run_id)
            self._recall_children(unfinished)
        else:
            tags = {"state": "running", **({SEARCH_TAG: search} if search else {})}
            self.run_id = self._client.create_run(self.experiment_id, run_name=name, tags=tags).info.run_id
        held = known[0].data.params if known else {}
        missing = [Param(key, str(value)) for key, value in params.items() if key not in held]
        self._client.log_batch(self.run_id, params=missing)
        self._client.log_text(self.run_id, configuration, "search.yaml")
        self._thread.start()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is queued; runs that are still open get the status of how the search ended."""
        if not self.run_id:
            return
        if kind is not None:
            interrupted = issubclass(kind, KeyboardInterrupt | SystemExit)  # SystemExit: Ray's answer to SIGTERM
            status, state = ("KILLED", "interrupted") if interrupted else ("FAILED", f"failed: {error}")
            self._put(lambda: self._end_all(status, state))
        self._queue.put(None)
        self._thread.join()

    def metrics(self, metrics: Mapping[str, float], *, step: int = 0, prefix: str = "") -> None:
        """Log metrics of the search itself to the parent run."""
        self._put(lambda: self._log(self.run_id, {prefix + name: value for name, value in metrics.items()}, step))

    def picture(self, path: Path, name: str) -> None:
        """Keep a picture with the parent run."""
        self._put(lambda: self._client.log_artifact(self.run_id, str(path), name))

    def trial_started(self, trial: str, params: Mapping[str, Value]) -> None:
        """Open a trial's run, with its parameters flat and numeric. A trial that is known already stays as it is."""

        def start() -> None:
            if trial in self._children or trial in self._ended:
                return
            run = self._client.create_run(
                self.experiment_id,
                run_name=f"trial-{trial}",
                tags={MLFLOW_PARENT_RUN_ID: self.run_id, "trial": trial, "state": "running"},
            )
            self._children[trial] = run.info.run_id
            self._client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in params.items()])

        self._put(start)

    def trial_report(self, trial: str, report: Report) -> None:
        """Log a scored checkpoint: its metrics and its sample grid, by step. A replayed step is logged once."""

        def log() -> None:
            if (trial, report.step) in self._logged or trial not in self._children:
                return
            self._logged.add((trial, report.step))
            run_id = self._children[trial]
            self._log(run_id, report.metrics, report.step)
            with Image.open(report.folder / "grid.png") as grid:
                self._client.log_image(run_id, grid, key="samples", step=report.step)

        self._put(log)

    def trial_ended(self, trial: str, state: JobState, reason: str, best: Report | None) -> None:
        """Close a trial's run honestly, with the adapter of its best checkpoint if it has one."""

        def end() -> None:
            run_id = self._children.pop(trial, "")
            if not run_id:
                return
            self._ended[trial] = run_id
            if best is not None:
                self._client.log_artifact(run_id, str(best.folder / "pytorch_lora_weights.safetensors"), "adapter")
                best_metrics = {f"best_{name}": value for name, value in best.metrics.items()}
                self._log(run_id, {**best_metrics, "best_step": float(best.step)}, best.step)
            self._end(run_id, RUN_STATUS[state], {"state": str(state), "reason": reason})

        self._put(end)

    def trial_metrics(self, trial: str, metrics: Mapping[str, float], step: int) -> None:
        """Log what became known of a trial only after its end. Nothing for a trial without a run."""

        def log() -> None:
            if trial in self._ended:
                self._log(self._ended[trial], metrics, step)

        self._put(log)

    def champion(
        self, name: str, adapter: Path, base_model: str, metadata: Mapping[str, str]
    ) -> ChampionVersion | None:
        """Log the winner with `mlflow.diffusers`, register it as `name` and give it the alias `champion`.

        Returns:
            Where it is registered; None if MLflow failed, see `failure`.
        """
        versions: list[ChampionVersion] = []
        tags = {name: metadata[name] for name in ("trial", "step")}

        def register() -> None:
            for known in self._client.search_model_versions(f"run_id = '{self.run_id}'"):
                if known.name == name and known.tags == tags:
                    # Registered already, just before the search was killed.
                    self._point_at(name, str(known.version), versions)
                    return
            with mlflow.start_run(run_id=self.run_id):
                info = mlflow.diffusers.log_model(str(adapter), base_model, name="champion", metadata=dict(metadata))
            # start_run marks the run as finished on leaving; it is not yet.
            self._client.update_run(self.run_id, status="RUNNING")
            if not self._client.search_registered_models(f"name = '{name}'"):
                self._client.create_registered_model(name)
            created = self._client.create_model_version(
                name, source=info.model_uri, run_id=self.run_id, model_id=info.model_id, tags=tags
            )
            self._point_at(name, str(created.version), versions)

        self._put(register)
        self._queue.join()
        return versions[0] if versions else None

    def finish(self, state: str, files: tuple[Path, ...], *, failed: bool) -> None:
        """Close the parent run: `state` is `champion` or why there is no champion."""

        def finish() -> None:
            for file in files:
                self._client.log_artifact(self.run_id, str(file))
            self._end(self.run_id, "FAILED" if failed else "FINISHED", {"state": state})

        self._put(finish)

    def interrupt(self, state: str, files: tuple[Path, ...]) -> None:
        """Close all runs that are open, as those of a search that may go on."""

        def interrupt() -> None:
            for file in files:
                self._client.log_artifact(self.run_id, str(file))
            self._end_all("KILLED", state)

        self._put(interrupt)

    def _recall_children(self, unfinished: Collection[str]) -> None:
        query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.run_id}'"
        for run in self._client.search_runs([self.experiment_id], query, max_results=10_000):
            trial, run_id = run.data.tags["trial"], run.info.run_id
            if trial not in unfinished and run.data.tags.get("state") in set(RUN_STATUS):
                self._ended[trial] = run_id
                continue
            self._children[trial] = run_id
            self._reopen(run_id)
            self._logged |= {(trial, point.step) for point in self._client.get_metric_history(run_id, OBJECTIVE)}

    def _reopen(self, run_id: str) -> None:
        self._client.update_run(run_id, status="RUNNING")
        self._client.set_tag(run_id, "state", "running")

    def _point_at(self, name: str, version: str, versions: list[ChampionVersion]) -> None:
        self._client.set_registered_model_alias(name, "champion", version)
        versions.append(ChampionVersion(uri=f"models:/{name}/{version}", version=version))

    def _experiment(self, name: str, home: Path) -> str:
        known = self._client.get_experiment_by_name(name)
        if known is not None:
            return str(known.experiment_id)
        # Without a server MLflow would put artifacts below whatever folder the process happens to run in.
        local = (home / "mlartifacts").as_uri() if self.uri.startswith("sqlite:") else None
        return str(self._client.create_experiment(name, artifact_location=local))

    def _log(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(run_id, metrics=[Metric(name, value, now, step) for name, value in metrics.items()])

    def _end(self, run_id: str, status: str, tags: Mapping[str, str]) -> None:
        if not run_id:
            return
        self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items() if value])
        self._client.set_terminated(run_id, status)

    def _end_all(self, status: str, state: str) -> None:
        for run_id in (*self._children.values(), self.run_id):
            self._end(run_id, status, {"state": state})
        self._children.clear()

    def _put(self, call: Callable[[], None]) -> None:
        self._queue.put(call)

    def _write(self) -> None:
        while (call := self._queue.get()) is not None:
            try:
                call()
            except Exception as error:  # Whatever it is: hours of search do not end for want of a record.
                self.failure = self.failure or f"{type(error).__name__}: {error}"
                logger.warning("MLflow at %s: %s", self.shown_uri, error)
            finally:
                self._queue.task_done()
