"""The callback: hears of every event in Tune, keeps the records, and passes the event on to the listeners."""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray import tune

from search.config.space import Value
from search.storage.trial_listener import TrialListener
from search.storage.trial_record import BEATEN, CheckpointResult, JobState, TrialRecord, trial_id
from search.study.trial import TrialSetup
from search.workers.dispatcher import UnknownJobError
from search.workers.jobs import JobStatus

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class TrialCallback(tune.Callback):
    """Keeps the records. Runs in the driver, within Tune's loop.

    Args:
        setup: What the trials share.
        records: What became of the trials in earlier parts of the search, by number. The list grows here: a trial that
            starts gets its record, in the place of its number.
        listeners: Hear of each event once the records hold it, one after the other.
    """

    def __init__(self, setup: TrialSetup, records: list[TrialRecord], listeners: Sequence[TrialListener] = ()) -> None:
        self._setup = setup
        self._records = records
        self._listeners = tuple(listeners)
        self._began: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into a snapshot that nothing here reads; threads and sockets do not pickle.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tune starts a trial, or starts it again after its process died."""
        name = trial_id(trial.config["number"])
        if name in self._began:
            return
        params = trial.config["params"]
        new = TrialRecord(id=name, params=params, steps=self._setup.config.planned_steps(params))
        self._start(next((record for record in self._records if record.id == name), new))

    def duplicate(self, number: int, params: Mapping[str, Value], first: int) -> None:
        """The sampler has proposed a configuration again; it is not trained."""
        steps = self._setup.config.planned_steps(params)
        record = TrialRecord.of_duplicate(trial_id(number), params, steps, trial_id(first))
        self._start(record)
        self._end(record, record.state, record.reason)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A checkpoint was scored."""
        record = self._record(trial)
        if "step" not in result:
            return
        report = CheckpointResult.read(self._setup.layout.checkpoint(record.id, result["step"]))
        if record.add(report):
            for listener in self._listeners:
                listener.checkpoint(record, report)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has run to its end, was stopped, or its job has failed."""
        record = self._record(trial)
        status = self._status(record.id)
        record.losses += status.losses if status is not None else ()
        if status is not None and status.state is JobState.FAILED:
            self._end(record, JobState.FAILED, status.reason)
        elif not record.checkpoints:
            self._end(record, JobState.FAILED, "it ended without a scored checkpoint")
        elif record.ended_early:
            self._end(record, JobState.STOPPED, f"stopped after step {record.last_step}: {BEATEN}")
        else:
            self._end(record, JobState.FINISHED, "")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tune gave a trial up: its own process died too often."""
        reason = f"its trial process died too often ({trial.error_file or 'no error file'})"
        self._end(self._record(trial), JobState.FAILED, reason)

    def _record(self, trial: Trial) -> TrialRecord:
        return next(record for record in self._records if record.number == trial.config["number"])

    def _start(self, record: TrialRecord) -> None:
        if record not in self._records:
            insort(self._records, record, key=lambda each: each.number)
        self._began[record.id] = time.monotonic()
        for listener in self._listeners:
            listener.started(record)

    def _end(self, record: TrialRecord, state: JobState, reason: str) -> None:
        record.state, record.reason = state, reason
        record.seconds += time.monotonic() - self._began[record.id]
        for listener in self._listeners:
            listener.ended(record)

    def _status(self, job_id: str) -> JobStatus | None:
        try:
            return self._setup.client.status(job_id)
        except UnknownJobError:
            return None  # The dispatcher was restarted after the job had ended well.
