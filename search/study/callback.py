"""The callback: hears of every event in Tune and passes it to the records, to MLflow and to the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ray import tune

from search.config.space import Value
from search.storage.trial_record import BEATEN, CheckpointResult, JobState, TrialRecord, trial_id
from search.study.history import end_note
from search.study.trial import TrialSetup
from search.workers.dispatcher import UnknownJobError
from search.workers.jobs import JobStatus

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

    from search.report.progress import Progress
    from search.storage.clock import Clock
    from search.study.samplers.study_sampler import StudySampler
    from search.tracking.tracker import Tracker


class TrialCallback(tune.Callback):
    """Keeps `records`. Runs in the driver, within Tune's loop.

    Args:
        setup: What the trials share.
        tracker: Keeps MLflow's record.
        progress: Shows the terminal's.
        sampler: Keeps the journal, which is given the words and the seconds of each end.
        clock: Is saved at every event.
        earlier: What became of the trials in earlier parts of the search.
    """

    def __init__(
        self,
        setup: TrialSetup,
        tracker: Tracker,
        progress: Progress,
        sampler: StudySampler,
        clock: Clock,
        earlier: Sequence[TrialRecord] = (),
    ) -> None:
        self._setup = setup
        self._tracker = tracker
        self._progress = progress
        self._sampler = sampler
        self._clock = clock
        sampler.on_duplicate = self.duplicate
        self._began: dict[str, float] = {}
        self._records: dict[str, TrialRecord] = {record.id: record for record in earlier}
        self._progress.recall(earlier)
        for record in earlier:
            # Again, for a kill may have come before MLflow was told; what it knows already it is not told twice.
            self._tracker.trial_started(record.id, {**record.params, "steps": record.steps})
            for report in record.checkpoints:
                self._tracker.trial_report(record.id, report)
            if record.state is not JobState.RUNNING:
                self._tracker.trial_ended(record.id, record.state, record.reason, record.best, record.remarks)

    def __getstate__(self) -> dict[str, Any]:
        # Tune pickles its callbacks into a snapshot that nothing here reads; threads and sockets do not pickle.
        return {}

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial so far, in the order in which they were proposed; they start in any order."""
        return sorted(self._records.values(), key=lambda record: int(record.id))

    def so_far(self) -> list[TrialRecord]:
        """The records, for whoever looks at them again and again."""
        return self.records

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tune starts a trial, or starts it again after its process died."""
        name = trial_id(trial.config["number"])
        if name in self._began:
            return
        self._began[name] = time.monotonic()
        if name not in self._records:
            params = trial.config["params"]
            config = self._setup.config.training_config(params, seed=0)
            self._records[name] = TrialRecord(id=name, params=params, steps=config.steps)
            self._tracker.trial_started(name, {**params, "steps": config.steps})
        self._progress.started(self._records[name])

    def duplicate(self, number: int, params: Mapping[str, Value], first: int) -> None:
        """The sampler has proposed a configuration again; it is not trained."""
        name = trial_id(number)
        config = self._setup.config.training_config(params, seed=0)
        record = TrialRecord.of_duplicate(name, params, config.steps, trial_id(first))
        self._began[name] = time.monotonic()
        self._records[name] = record
        self._tracker.trial_started(name, {**params, "steps": config.steps})
        self._progress.started(record)
        self._end(record, record.state, record.reason)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """A checkpoint was scored."""
        record = self._records[trial_id(trial.config["number"])]
        if "step" not in result:
            return
        report = CheckpointResult.read(self._setup.layout.checkpoint(record.id, result["step"]))
        if record.add(report):
            self._tracker.trial_report(record.id, report)
            self._progress.reported(record, report)
            self._clock.save()

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A trial has run to its end, was stopped, or its job has failed."""
        record = self._records[trial_id(trial.config["number"])]
        status = self._status(record.id)
        record.losses += status.losses if status is not None else ()
        if status is not None and status.state is JobState.FAILED:
            self._end(record, JobState.FAILED, status.reason)
        elif not record.checkpoints:
            self._end(record, JobState.FAILED, "it ended without a scored checkpoint")
        elif record.checkpoints and record.checkpoints[-1].step < record.steps:
            last = record.checkpoints[-1].step
            self._end(record, JobState.STOPPED, f"stopped after step {last}: {BEATEN}")
        else:
            self._end(record, JobState.FINISHED, "")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tune gave a trial up: its own process died too often."""
        record = self._records[trial_id(trial.config["number"])]
        self._end(record, JobState.FAILED, f"its trial process died too often ({trial.error_file or 'no error file'})")

    def _end(self, record: TrialRecord, state: JobState, reason: str) -> None:
        record.state, record.reason = state, reason
        record.seconds += time.monotonic() - self._began[record.id]
        note = {"reason": reason, "seconds": record.seconds, "losses": record.losses}
        self._sampler.note(end_note(record.id), note)
        self._clock.save()
        self._tracker.trial_ended(record.id, state, reason, record.best, record.remarks)
        self._progress.ended(record)

    def _status(self, job_id: str) -> JobStatus | None:
        try:
            return self._setup.client.status(job_id)
        except UnknownJobError:
            return None  # The dispatcher was restarted after the job had ended well.
