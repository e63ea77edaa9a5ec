"""Keeps MLflow up with a search while it runs: a parent run for the search, a child run for each trial, the champion.

The search says what has changed, which takes no time; a thread writes it to MLflow. MLflow may be away at the start,
hang or die midway: nothing waits for it, the thread tries again until the search ends, and `python -m search.sync`
delivers the rest from the run folder later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from search.storage.result import SearchResult, find_result
from search.storage.result_schema import MlflowResult
from search.storage.trial_listener import TrialListener
from search.storage.trial_record import CheckpointResult, TrialRecord
from search.tracking.connection import Connection, TrackingError
from search.tracking.mlflow_writer import MlflowWriter
from search.tracking.registry import Champion
from search.tracking.run_view import (
    INTERRUPTED,
    RUNNING,
    Identity,
    RunView,
    State,
    search_view,
    trial_view,
)

logger = logging.getLogger(__name__)

TRIES = 3
"""How often a server that is well may refuse something before it is left out."""

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Waits between attempts while MLflow is away; the last is repeated."""

PATIENCE = 30.0
"""Seconds that the end of a search waits for MLflow to take the next thing."""

CHAMPION = "champion"
"""What is pending under this name beside the runs, which have their trial's."""


class Tracker(TrialListener):
    """One search's runs in MLflow. Use as a context manager: on leaving, MLflow has been given what it would take.

    Args:
        uri: Tracking URI; None for the sqlite database `mlflow.db` in `home`.
        experiment: Name of the MLflow experiment.
        home: Folder of the default database and of its artifacts.
        patience: Seconds that the end waits for MLflow to take the next thing.

    Raises:
        TrackingError: MLflow cannot be used like this. A server that is away does not raise: see `failure`.
    """

    def __init__(self, uri: str | None, experiment: str, home: Path, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._connection = Connection(uri, experiment, home)
        self.shown_uri = self._connection.shown_uri
        """The tracking URI without a password."""
        self._absences = 0 if self.experiment_id else 1
        self._away = f"MLflow at {self.shown_uri} does not answer"
        self.failure = self._away if self._absences else ""
        """The first thing that went wrong, in words; empty if nothing did, or if MLflow has taken all of it since."""
        self._folder = Path()
        self._identity: Identity | None = None
        self._writer: MlflowWriter | None = None
        self._views: dict[str, RunView] = {}
        self._pending: dict[str, RunView | Champion] = {}
        self._refused = set[str]()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._monitor: Any = None
        self._doubtful = False
        self._progress = time.monotonic()

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment; empty while MLflow is away."""
        return self._connection.experiment_id

    @property
    def run_id(self) -> str:
        """MLflow's id of the search's own run; empty while MLflow does not have it."""
        return self._writer.run_id if self._writer is not None else ""

    @property
    def pending(self) -> int:
        """Runs, and the champion, of which MLflow has not taken everything."""
        return len({*self._pending, *self._refused})

    def start(self, folder: Path, params: Mapping[str, Any] | None = None, records: Sequence[TrialRecord] = ()) -> None:
        """Open the search's run, or the one that a run folder has already, and begin to write.

        Args:
            folder: The run folder; its name is the run's.
            params: What is the same for all trials; None for a search that has ended and is delivered afterwards.
            records: Trials of earlier parts of the search.

        Raises:
            InUseError: another process is writing for this run folder.
            TrackingError: nothing was begun that could be delivered.
        """
        self._folder = folder
        identity = Identity.read(folder)
        if identity is None and params is None:
            raise TrackingError(f"{folder} has nothing to deliver: its search ended before it began a trial")
        self._identity = identity or Identity.make(folder, params or {})
        self._writer = MlflowWriter(self._connection, folder, self._identity.token)
        self._put_search(None, None if params is None else RUNNING)
        for record in records:
            self.changed(record)
        self._thread.start()

    def changed(self, record: TrialRecord | None = None) -> None:
        """Show what has become of a trial; without one, what the run folder holds of the search itself."""
        if record is not None:
            self._put(record.id, trial_view(record, RUNNING))
        else:
            self._put_search(None, RUNNING)

    def started(self, record: TrialRecord) -> None:
        self.changed(record)

    def checkpoint(self, record: TrialRecord, result: CheckpointResult) -> None:
        self.changed(record)

    def ended(self, record: TrialRecord) -> None:
        self.changed(record)

    def champion(self, champion: Champion) -> str | None:
        """Register the winner and give it the alias `champion`.

        Returns:
            `models:/NAME/VERSION`; None if MLflow is away, which then gets it later.
        """
        self._put(CHAMPION, champion)
        self.flush()
        return (self._writer.model_uri or None) if self._writer is not None else None

    def flush(self) -> None:
        """Wait until MLflow has taken everything, as long as it goes on taking."""
        while self._pending and not self._absences and time.monotonic() - self._progress < self._patience:
            time.sleep(0.05)

    def finish(self, records: Sequence[TrialRecord]) -> None:
        """Close all runs as the result in the run folder says it; without one, as those of an interrupted search."""
        result = find_result(self._folder)
        state = INTERRUPTED if result is None else State.of_search(result)
        for record in records:
            self._put(record.id, trial_view(record, state, result))
        self._put_search(result, state)

    def as_result(self) -> MlflowResult:
        """Where MLflow keeps the search, for the result file."""
        known = {"tracking_uri": self.shown_uri, "experiment_id": self.experiment_id, "run_id": self.run_id}
        return MlflowResult(**known, failure=self.failure)

    def close(self) -> None:
        """What leaving the `with` block does, for a process that ends before it leaves it."""
        self.__exit__(None, None, None)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give MLflow what is left, as long as it goes on taking it; runs that are still open get the search's end."""
        if self._writer is None:
            return
        if kind is not None:
            interrupted = issubclass(kind, KeyboardInterrupt | SystemExit)  # SystemExit: Ray's answer to SIGTERM
            state = INTERRUPTED if interrupted else State.of("FAILED", f"failed: {error}")
            for view in list(self._views.values()):
                if view.state is not None and not view.state.ended:
                    self._put(view.trial, replace(view, state=state, files=()))
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        while self._thread.is_alive() and time.monotonic() - self._progress < self._patience:
            self._thread.join(0.2)
        if self.pending and not self.failure:
            self.failure = f"{self._away} in time"

    def _put(self, name: str, what: RunView | Champion) -> None:
        with self._changed:
            if isinstance(what, RunView):
                if self._views.get(name) == what:
                    return
                self._views[name] = what
            self._pending[name] = what
            self._changed.notify_all()

    def _put_search(self, result: SearchResult | None, state: State | None) -> None:
        assert self._identity is not None, "started before anything changes"
        self._put("", search_view(self._folder, self._identity, result, state))

    def _run(self) -> None:
        """The thread, which may outlive the search in a call that hangs, but not the process."""
        assert self._writer is not None
        try:
            self._deliver_all(self._writer)
        finally:
            self._stop_monitor()
            self._writer.close()

    def _deliver_all(self, writer: MlflowWriter) -> None:
        """Write view after view; while MLflow is away, try again."""
        while (following := self._next(writer)) is not None:
            if self._absences and not self._connection.reachable():
                if self._closing.wait(RETRY_SECONDS[min(self._absences, len(RETRY_SECONDS)) - 1]):
                    return
                self._absences += 1
                continue
            name, what = following
            refusal = self._deliver(writer, what)
            if refusal is None:
                self.failure = self.failure or self._away
                self._absences += 1
                self._stop_monitor()
                continue
            self._absences = 0
            self._refused.discard(name)
            if refusal:
                self._refused.add(name)
                self.failure = self.failure or refusal
                logger.warning("MLflow at %s would not take %s: %s", self.shown_uri, name or "the search", refusal)
            with self._changed:
                if self._pending.get(name) is what:
                    del self._pending[name]
            if not self._refused and not self._pending:
                self.failure = ""
            self._progress = time.monotonic()

    def _next(self, writer: MlflowWriter) -> tuple[str, RunView | Champion] | None:
        """Wait for what is to be written next; None at the end."""
        with self._changed:
            while not self._pending and not self._closing.is_set():
                self._changed.wait(0.2)
                self._progress = time.monotonic()
            if not self._pending and self._doubtful:
                # A server that hung may have done later what it was asked for, a second time: look at all of it again.
                self._doubtful = False
                writer.forget()
                self._pending |= {name: view for name, view in self._views.items() if name not in self._refused}
            return next(iter(self._pending.items()), None)

    def _deliver(self, writer: MlflowWriter, what: RunView | Champion) -> str | None:
        """Why MLflow refuses something; empty if it has taken it, None if it is away."""
        refusal = ""
        for tried in range(TRIES):
            if tried:
                self._closing.wait(RETRY_SECONDS[0])
            self._progress = time.monotonic() if not self._absences else self._progress
            try:
                if isinstance(what, Champion):
                    writer.register(what)
                else:
                    self._write(writer, what)
            except Exception as error:  # Whatever it is: hours of search do not end for want of a record.
                writer.forget()
                self._doubtful = True
                if not self._connection.reachable():
                    return None
                refusal = f"{type(error).__name__}: {error}"
            else:
                return ""
        return refusal

    def _write(self, writer: MlflowWriter, view: RunView) -> None:
        if not view.trial and view.state is not RUNNING:
            self._stop_monitor()  # it writes to runs that go on
        writer.write(view)
        if self._monitor is None and self._views[""].state is RUNNING:
            monitor: Any = SystemMetricsMonitor  # carries no types
            self._monitor = monitor(writer.run_id, resume_logging=True, tracking_uri=self._connection.uri)
            self._monitor.start()

    def _stop_monitor(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None
