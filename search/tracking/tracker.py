"""The record in MLflow: a parent run for the search, a child run for each trial, the champion in the registry.

What there is to tell is written into a ledger in the run folder, which takes milliseconds; a thread tells MLflow, in
order, while the search goes on. MLflow may be away at the start, hang or die midway: nothing waits for it, the thread
tries again until the search ends, and `python -m search.sync` tells the rest later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from search.config.space import Value
from search.storage.trial_record import CheckpointResult, JobState
from search.tracking.mlflow_writer import Bookkeeper, new_token
from search.tracking.outbox import Entry, Kind, Ledger
from search.tracking.system_metrics import MachineMetrics

logger = logging.getLogger(__name__)

RUN_STATUS = {
    JobState.FINISHED: "FINISHED",
    JobState.STOPPED: "FINISHED",
    JobState.DUPLICATE: "FINISHED",
    JobState.FAILED: "FAILED",
}
"""MLflow's status of a trial's run. A stopped trial did all that was asked of it; its tag `state` tells it apart."""

TRIES = 3
"""How often a server that is well may refuse an entry before it is left out."""

RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Waits between attempts while MLflow is away; the last goes on."""

PATIENCE = 30.0
"""Seconds without progress after which the end of a search does not wait for MLflow any longer."""


class Tracker:
    """One search's runs in MLflow. Use as a context manager: on leaving, MLflow has been told what it would hear.

    Args:
        uri: Tracking URI; None for the sqlite database `mlflow.db` in `home`.
        experiment: Name of the MLflow experiment.
        home: Folder of the default database and of its artifacts.

    Raises:
        TrackingError: the URI cannot be used at all. A server that is away does not raise: see `failure`.
    """

    def __init__(self, uri: str | None, experiment: str, home: Path) -> None:
        self._uri = uri
        self._experiment = experiment
        self._bookkeeper = Bookkeeper(uri, experiment, home)
        self.failure = "" if self._bookkeeper.experiment_id else self._away()
        """The first thing that went wrong, in words; empty if nothing did, or if all of it was told later."""
        self._folder = Path()
        self._ledger: Ledger | None = None
        self._token = ""
        self._known: set[str] = set()
        self._open: dict[str, None] = {}
        self._logged: set[tuple[str, int]] = set()
        self._thread = threading.Thread(target=self._write, name="mlflow", daemon=True)
        self._closing = threading.Event()
        self._absences = 0
        self._progress = time.monotonic()
        self._machine: MachineMetrics | None = None

    @property
    def shown_uri(self) -> str:
        """The tracking URI without a password."""
        return self._bookkeeper.shown_uri

    @property
    def experiment_id(self) -> str:
        """MLflow's id of the experiment; empty while MLflow is away."""
        return self._bookkeeper.experiment_id

    @property
    def run_id(self) -> str:
        """MLflow's id of the search's own run; empty while MLflow has not heard of it."""
        return self._bookkeeper.run_id

    @property
    def untold(self) -> int:
        """Entries that MLflow has not taken."""
        told = len(self._ledger) - self._bookkeeper.told if self._ledger else 0
        return told + len(self._bookkeeper.refused)

    def start(
        self, folder: Path, params: Mapping[str, Any], files: Sequence[Path], *, unfinished: Sequence[str] = ()
    ) -> None:
        """Open the search's run, or go on with the one that a run folder has already.

        Args:
            folder: The run folder; its name is the run's.
            params: What is the same for all trials.
            files: Kept with the run.
            unfinished: Trials that go on, also if their runs have been closed.
        """
        self._folder = folder
        self._ledger = Ledger(folder)
        self._bookkeeper.open(folder)
        known = self._ledger.entries
        if known:
            self._remember(known)
            self._open |= dict.fromkeys(trial for trial in unfinished if trial in self._known)
            self._put("search_resumed", open_trials=list(self._open))
        else:
            self._token = new_token()
            self._put(
                "search_started",
                name=folder.name,
                token=self._token,
                uri=None if self._uri is None else self.shown_uri,
                experiment=self._experiment,
                params={key: str(value) for key, value in params.items()},
                files=[self._relative(file) for file in files],
            )
        self._thread.start()
        self._machine = MachineMetrics(lambda metrics, step: self.metrics(metrics, step=step), known)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Tell what is left, as long as MLflow goes on taking it; runs that are still open get the search's end."""
        if self._ledger is None:
            return
        if self._machine is not None:
            self._machine.close()
        if kind is not None:
            interrupted = issubclass(kind, KeyboardInterrupt | SystemExit)  # SystemExit: Ray's answer to SIGTERM
            status, state = ("KILLED", "interrupted") if interrupted else ("FAILED", f"failed: {error}")
            self._finish(status, state, ())
        self._closing.set()
        while self._thread.is_alive() and time.monotonic() - self._progress < PATIENCE:
            self._thread.join(0.2)
        self._ledger.close()

    def metrics(self, metrics: Mapping[str, float], *, step: int = 0, prefix: str = "") -> None:
        """Log metrics of the search itself to its run."""
        self._put("metrics", metrics={prefix + name: float(value) for name, value in metrics.items()}, step=step)

    def picture(self, path: Path, name: str) -> None:
        """Keep a picture with the search's run."""
        self._put("picture", file=self._relative(path), name=name)

    def trial_started(self, trial: str, params: Mapping[str, Value]) -> None:
        """Open a trial's run, with its parameters flat and numeric. A trial that is known already stays as it is."""
        if trial not in self._known:
            self._known.add(trial)
            self._open[trial] = None
            self._put("trial_started", trial, token=self._token, params=dict(params))

    def trial_report(self, trial: str, report: CheckpointResult) -> None:
        """Log a scored checkpoint: its metrics and its sample grid, by step. A replayed step is logged once."""
        if trial in self._known and (trial, report.step) not in self._logged:
            self._logged.add((trial, report.step))
            grid = self._relative(report.grid)
            self._put("checkpoint", trial, metrics=dict(report.metrics), step=report.step, grid=grid)

    def trial_ended(
        self, trial: str, state: JobState, reason: str, best: CheckpointResult | None, remarks: tuple[str, ...] = ()
    ) -> None:
        """Close a trial's run honestly, with the adapter of its best checkpoint if it has one."""
        if trial not in self._open:
            return
        del self._open[trial]
        metrics = {f"best_{name}": value for name, value in best.metrics.items()} if best else {}
        self._put(
            "trial_ended",
            trial,
            adapter=None if best is None else self._relative(best.folder / "pytorch_lora_weights.safetensors"),
            metrics=metrics | ({"best_step": float(best.step)} if best else {}),
            step=best.step if best else 0,
            status=RUN_STATUS[state],
            tags={"state": str(state), "reason": reason, "remarks": "; ".join(remarks)},
        )

    def trial_metrics(self, trial: str, metrics: Mapping[str, float], step: int) -> None:
        """Log what became known of a trial only after its end. Nothing for a trial without a run."""
        if trial in self._known:
            self._put("metrics", trial, metrics=dict(metrics), step=step)

    def champion(self, name: str, adapter: Path, base_model: str, metadata: Mapping[str, str]) -> str | None:
        """Log the winner with `mlflow.diffusers`, register it as `name` and give it the alias `champion`.

        Returns:
            `models:/NAME/VERSION`; None if MLflow is away, which then hears of it later.
        """
        self._put(
            "champion", name=name, adapter=self._relative(adapter), base_model=base_model, metadata=dict(metadata)
        )
        return self._bookkeeper.model_uri or None if self._flush() else None

    def finish(self, state: str, files: Sequence[Path], *, failed: bool) -> None:
        """Close the search's run: `state` is `champion` or why there is no champion."""
        self._finish("FAILED" if failed else "FINISHED", state, files)

    def interrupt(self, state: str, files: Sequence[Path]) -> None:
        """Close all runs that are open, as those of a search that may go on."""
        self._finish("KILLED", state, files)

    def _finish(self, status: str, state: str, files: Sequence[Path]) -> None:
        self._put(
            "search_ended",
            status=status,
            tags={"state": state},
            files=[self._relative(file) for file in files],
            open_trials=list(self._open),
        )
        self._open.clear()

    def _remember(self, entries: Sequence[Entry]) -> None:
        """Take up what a former process wrote down; trials that it closed as interrupted are open again."""
        for entry in entries:
            match entry.kind:
                case "search_started":
                    self._token = entry.values["token"]
                case "trial_started":
                    self._known.add(entry.run)
                    self._open[entry.run] = None
                case "checkpoint":
                    self._logged.add((entry.run, entry.values["step"]))
                case "trial_ended":
                    self._open.pop(entry.run, None)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._folder))

    def _put(self, kind: Kind, run: str = "", **values: Any) -> None:
        assert self._ledger is not None, "started before anything is told"
        self._ledger.append(Entry(kind=kind, run=run, time=int(time.time() * 1000), values=values))

    def _flush(self) -> bool:
        """Wait until MLflow has heard everything, as long as it goes on hearing; whether it has."""
        assert self._ledger is not None
        while (
            self._bookkeeper.told < len(self._ledger)
            and not self._absences
            and time.monotonic() - self._progress < PATIENCE
        ):
            time.sleep(0.05)
        return self._bookkeeper.told >= len(self._ledger)

    def _away(self) -> str:
        return f"MLflow at {self._bookkeeper.shown_uri} does not answer"

    def _write(self) -> None:
        """The thread, which may outlive the search in a call that hangs, but not the process."""
        try:
            self._tell_all()
        finally:
            self._bookkeeper.close()

    def _tell_all(self) -> None:
        """Tell entry after entry; while MLflow is away, try again."""
        assert self._ledger is not None
        tries = 0
        self._absences = 0 if self._bookkeeper.experiment_id else 1
        while True:
            entry = self._ledger.next(self._bookkeeper.told, 0.2)
            if entry is None:
                if self._closing.is_set():
                    return
                self._progress = time.monotonic()
                continue
            self._progress = time.monotonic() if not self._absences else self._progress
            if self._absences and not self._bookkeeper.reachable():
                if self._closing.wait(RETRY_SECONDS[min(self._absences, len(RETRY_SECONDS)) - 1]):
                    return
                self._absences += 1
                continue
            try:
                self._bookkeeper.tell(entry)
            except Exception as error:  # Whatever it is: hours of search do not end for want of a record.
                if not self._bookkeeper.reachable():
                    self.failure = self.failure or self._away()
                    self._absences += 1
                    continue
                tries += 1
                if tries < TRIES:
                    self._closing.wait(RETRY_SECONDS[0])
                    continue
                reason = f"{type(error).__name__}: {error}"
                logger.warning("MLflow at %s would not take a record (%s): %s", self.shown_uri, entry.kind, error)
                self.failure = self.failure or reason
                self._bookkeeper.refuse(reason)
            else:
                if not self._bookkeeper.refused:
                    self.failure = ""
            tries = self._absences = 0
            self._progress = time.monotonic()
