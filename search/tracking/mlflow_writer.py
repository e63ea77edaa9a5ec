"""The bookkeeper: tells MLflow the entries of a ledger, each once, and remembers how far it has come.

Runs are known by their tags, metrics by the time of their entry, images by their step, so that an entry that was told
just before a kill and is told again leaves no second trace.
"""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# A dead server must not hold a call for minutes (MLflow's defaults: 7 retries of 120 s).
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
# A search says nothing to anybody.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from PIL import Image

from search.config.search_config import without_password
from search.tracking.outbox import Entry
from search.tracking.registry import register_champion
from trainer.files import write_file

STATE_FILE = "mlflow-state.json"
SEARCH_TAG = "likeness.search"
"""Tag of the search's run and its children: a name that no other search has."""

PROBE_SECONDS = 2.0
"""How long a server may take to say that it is well."""

METRICS_AT_ONCE = 1000
"""MLflow's own limit of a batch."""


class TrackingError(ValueError):
    """The tracking URI cannot be used at all; said before anything is trained."""


class InUseError(ValueError):
    """Another process is telling MLflow of this run folder."""


class Bookkeeper:
    """Makes every call to MLflow; knows no search. Not safe to be used by several threads at once.

    Args:
        uri: Tracking URI; None for the sqlite database `mlflow.db` in `home`.
        experiment: Name of the MLflow experiment; made if it is missing.
        home: Folder of the default database and of its artifacts.

    Raises:
        TrackingError: MLflow is there and refuses, or the URI makes no sense. A server that is away is none: see
            `reachable`.
    """

    def __init__(self, uri: str | None, experiment: str, home: Path) -> None:
        self.uri = uri or f"sqlite:///{home / 'mlflow.db'}"
        self._experiment = experiment
        self._home = home
        self._client: MlflowClient | None = None
        self.experiment_id = ""
        """Empty until MLflow has been reached."""
        self.told = 0
        """Entries that MLflow has heard or refused for good."""
        self.refused: dict[int, str] = {}
        """What MLflow would not take, by the number of the entry, with its reason."""
        self.runs: dict[str, str] = {}
        """MLflow's run ids by trial; the search's own by the empty name."""
        self.model_uri = ""
        """`models:/NAME/VERSION` once the champion is registered."""
        self._folder = Path()
        self._lock: int | None = None
        self._doubtful = True
        if self.reachable():
            try:
                self._connect()
            except (MlflowException, OSError) as error:
                raise TrackingError(f"tracking.uri {self.shown_uri!r} cannot be used: {error}") from error

    @property
    def shown_uri(self) -> str:
        """The tracking URI without a password."""
        return without_password(self.uri)

    @property
    def run_id(self) -> str:
        """The search's own run; empty until MLflow has heard of it."""
        return self.runs.get("", "")

    def reachable(self) -> bool:
        """Whether MLflow answers; a database file always does, a server is asked for its health."""
        if not self.uri.startswith(("http://", "https://")):
            return True
        try:
            return requests.get(f"{self.uri.rstrip('/')}/health", timeout=PROBE_SECONDS).status_code < 500
        except requests.RequestException:
            return False

    def open(self, folder: Path) -> None:
        """Take up a run folder, from where its last bookkeeper left it.

        Raises:
            InUseError: another process has it.
        """
        lock = os.open(folder / f".{STATE_FILE}.lock", os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise InUseError(f"{folder} is being told to MLflow by another process; wait until it ends") from error
        self._lock, self._folder = lock, folder
        try:
            state = json.loads((folder / STATE_FILE).read_text("utf-8"))
        except FileNotFoundError:
            return
        self.told, self.runs, self.model_uri = state["told"], state["runs"], state["model_uri"]
        self.refused = {int(number): reason for number, reason in state["refused"].items()}

    def close(self) -> None:
        """Let go of the run folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def tell(self, entry: Entry) -> None:
        """Tell the entry after the first `told`.

        Raises:
            Exception: whatever MLflow raises; the entry then counts as not told.
        """
        if self._client is None:
            self._connect()
        try:
            self._tell(entry)
        except Exception:
            self._doubtful = True  # a server that hung may have done it before nobody listened any more
            raise
        self._doubtful = False
        self._move_on()

    def tell_again(self, number: int, entry: Entry) -> None:
        """Tell an entry that was refused."""
        self._doubtful = True
        self._tell(entry)
        del self.refused[number]
        self._save()

    def refuse(self, reason: str) -> None:
        """Leave out the entry after the first `told`: MLflow will not take it."""
        self.refused[self.told] = reason
        self._move_on()

    def _move_on(self) -> None:
        self.told += 1
        self._save()

    def _save(self) -> None:
        state = {"told": self.told, "runs": self.runs, "model_uri": self.model_uri, "refused": self.refused}
        write_file(self._folder / STATE_FILE, lambda path: path.write_text(json.dumps(state), "utf-8"))

    def _connect(self) -> None:
        mlflow.set_tracking_uri(self.uri)
        client = MlflowClient(self.uri)
        known = client.get_experiment_by_name(self._experiment)
        if known is None:
            # Without a server MLflow would put artifacts below whatever folder the process happens to run in.
            local = (self._home / "mlartifacts").as_uri() if self.uri.startswith("sqlite:") else None
            self.experiment_id = str(client.create_experiment(self._experiment, artifact_location=local))
        else:
            self.experiment_id = str(known.experiment_id)
        self._client = client

    def _tell(self, entry: Entry) -> None:
        tell: Callable[[Entry], None] = getattr(self, f"_tell_{entry.kind}")
        tell(entry)

    @property
    def _mlflow(self) -> MlflowClient:
        assert self._client is not None, "connected before anything is told"
        return self._client

    def _run(self, entry: Entry) -> str:
        try:
            return self.runs[entry.run]
        except KeyError:
            raise LookupError(f"MLflow has no run of {'trial ' + entry.run if entry.run else 'the search'}") from None

    def _create(self, entry: Entry, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> None:
        """Create a run, unless it was just before a kill, and give it its parameters."""
        if entry.run not in self.runs:
            known = self._known_run(tags) if self._doubtful else None
            self.runs[entry.run] = known or str(
                self._mlflow.create_run(
                    self.experiment_id, start_time=entry.time, run_name=name, tags={**tags, "state": "running"}
                ).info.run_id
            )
            self._save()
        self._mlflow.log_batch(self.runs[entry.run], params=[Param(key, str(value)) for key, value in params.items()])

    def _known_run(self, tags: Mapping[str, str]) -> str | None:
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        for run in self._mlflow.search_runs([self.experiment_id], wanted):
            if run.data.tags.get("trial") == tags.get("trial"):
                return str(run.info.run_id)
        return None

    def _tell_search_started(self, entry: Entry) -> None:
        values = entry.values
        self._create(entry, values["name"], {SEARCH_TAG: values["token"]}, values["params"])
        self._files(entry, values["files"])

    def _tell_search_resumed(self, entry: Entry) -> None:
        for run in ("", *entry.values["open_trials"]):
            if run in self.runs:
                self._mlflow.update_run(self.runs[run], status="RUNNING")
                self._mlflow.set_tag(self.runs[run], "state", "running")

    def _tell_search_ended(self, entry: Entry) -> None:
        self._files(entry, entry.values["files"])
        for trial in entry.values["open_trials"]:
            if trial in self.runs:
                self._end(self.runs[trial], entry)
        self._end(self._run(entry), entry)

    def _tell_metrics(self, entry: Entry) -> None:
        self._metrics(entry, entry.values["metrics"], entry.values["step"])

    def _tell_picture(self, entry: Entry) -> None:
        self._mlflow.log_artifact(self._run(entry), str(self._folder / entry.values["file"]), entry.values["name"])

    def _tell_trial_started(self, entry: Entry) -> None:
        parent = {MLFLOW_PARENT_RUN_ID: self.run_id}
        if not self.run_id:
            raise LookupError("MLflow has no run of the search, so trials cannot be put below it")
        tags = {SEARCH_TAG: entry.values["token"], "trial": entry.run, **parent}
        self._create(entry, f"trial-{entry.run}", tags, entry.values["params"])

    def _tell_checkpoint(self, entry: Entry) -> None:
        step = entry.values["step"]
        self._metrics(entry, entry.values["metrics"], step)
        run_id = self._run(entry)
        if self._doubtful and any(
            Path(file.path).name.startswith(f"samples+step+{step}+")
            for file in self._mlflow.list_artifacts(run_id, "images")
        ):
            return
        with Image.open(self._folder / entry.values["grid"]) as grid:
            self._mlflow.log_image(run_id, grid, key="samples", step=step, timestamp=entry.time)

    def _tell_trial_ended(self, entry: Entry) -> None:
        values = entry.values
        if values["adapter"] is not None:
            self._mlflow.log_artifact(self._run(entry), str(self._folder / values["adapter"]), "adapter")
        if values["metrics"]:
            self._metrics(entry, values["metrics"], values["step"])
        self._end(self._run(entry), entry)

    def _tell_champion(self, entry: Entry) -> None:
        self.model_uri = ""
        self.model_uri = register_champion(self._mlflow, self._run(entry), self._folder, entry.values)
        self._save()

    def _files(self, entry: Entry, files: Sequence[str]) -> None:
        for file in files:
            self._mlflow.log_artifact(self._run(entry), str(self._folder / file))

    def _metrics(self, entry: Entry, metrics: Mapping[str, float], step: int) -> None:
        rows = [Metric(name, value, entry.time, step) for name, value in metrics.items()]
        for start in range(0, len(rows), METRICS_AT_ONCE):
            self._mlflow.log_batch(self._run(entry), metrics=rows[start : start + METRICS_AT_ONCE])

    def _end(self, run_id: str, entry: Entry) -> None:
        tags = entry.values["tags"]
        self._mlflow.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items() if value])
        self._mlflow.set_terminated(run_id, entry.values["status"], end_time=entry.time)


def new_token() -> str:
    """A name that no other search has."""
    return uuid.uuid4().hex
