"""What happened earlier: the trials of a run's earlier parts, from the journal and the trials' folders."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from search.config.run_layout import checkpoint_folder
from search.config.search_config import ConfigurationError, SearchConfig
from search.storage.clock import Clock
from search.storage.resume import Continuation, forget_final
from search.storage.run_folder import RunFolder, changed_inputs
from search.storage.trial_listener import TrialListener
from search.storage.trial_record import BEATEN, CheckpointResult, JobState, TrialRecord, trial_id
from search.study.samplers.distributions import SAME_AS
from search.study.samplers.study_sampler import StudySampler
from search.study.study import make_sampler

STATES = {
    TrialState.COMPLETE: JobState.FINISHED,
    TrialState.PRUNED: JobState.STOPPED,
    TrialState.FAIL: JobState.FAILED,
    TrialState.RUNNING: JobState.RUNNING,
}


def end_note(name: str) -> str:
    """Under which name the journal keeps the words and the seconds of a trial's end."""
    return f"trial {name}"


class JournalNotes(TrialListener):
    """Writes what `read_history` reads and Optuna has no place for into the journal, and with it the time so far."""

    def __init__(self, sampler: StudySampler, clock: Clock) -> None:
        self._sampler = sampler
        self._clock = clock

    def checkpoint(self, record: TrialRecord, result: CheckpointResult) -> None:
        self._clock.save()

    def ended(self, record: TrialRecord) -> None:
        note = {"reason": record.reason, "seconds": record.seconds, "losses": record.losses}
        self._sampler.note(end_note(record.id), note)
        self._clock.save()


def open_journal(
    config: SearchConfig, run: RunFolder, continuation: Continuation | None, inputs: Mapping[str, str]
) -> StudySampler:
    """The sampler on the run's journal. Whatever forbids a resume is said before anything is changed.

    Args:
        config: The search.
        run: The run folder, which this process holds.
        continuation: The run that is resumed; None for a new one, of which configuration and inputs are written first:
            without them a killed search could not be resumed.
        inputs: Checksums of photos and prompts as they are now.

    Raises:
        ValueError: inputs have changed, the journal is missing or damaged, or more trials were begun than are asked
        for.
    """
    if continuation is None:
        run.begin(config, inputs)
    else:
        changed = changed_inputs(run.inputs, inputs)
        refused = [text for text in changed if not text.startswith("file final.prompts ")]
        if refused:
            raise ConfigurationError(
                f"{run.path} cannot go on with other inputs than it was begun with: {', '.join(refused)}; put them "
                "back, or begin a new run with another --name"
            )
        if not run.layout.journal.exists() and any(run.layout.trials.glob("*")):
            raise ConfigurationError(f"{run.layout.journal} is missing though there are trials; put it back")
        if changed or continuation.remeasures_final:
            forget_final(run.path)
    sampler = make_sampler(config, run.path)
    if sampler.begun > config.trials:
        raise ConfigurationError(
            f"trials is {config.trials}, but {run.path} has begun {sampler.begun}; ask for as many or more"
        )
    return sampler


def read_history(sampler: StudySampler, config: SearchConfig, trials: Path) -> list[TrialRecord]:
    """What became of every trial that was begun, in the order of their numbers.

    All else that needs to know it (callback, progress, budget, scheduler, MLflow) reads these records; the sampler, by
    which the journal is read, knows it before.

    The journal counts. A checkpoint that it does not hold is not in the records, though it may lie in the trial's
    folder; the trial, which has not ended then, reports it when it resumes. Folders of trials of which the journal
    knows nothing are removed.

    Args:
        sampler: Has opened the journal.
        config: The search.
        trials: Folder of the trials' folders.
    """
    begun = {trial_id(trial.number): trial for trial in sampler.earlier}
    for folder in trials.glob("*"):
        if folder.name not in begun:
            shutil.rmtree(folder)
    found = (_record(trial, sampler, config, trials / name) for name, trial in begun.items())
    return [record for record in found if record is not None]


def _record(trial: FrozenTrial, sampler: StudySampler, config: SearchConfig, folder: Path) -> TrialRecord | None:
    """None of a trial that was killed before all of its settings were drawn."""
    name, params = folder.name, sampler.settings(trial)
    if params is None:
        return None
    steps = config.planned_steps(params)
    if SAME_AS in trial.user_attrs:
        return TrialRecord.of_duplicate(name, params, steps, trial_id(trial.user_attrs[SAME_AS]))
    reports = [CheckpointResult.find(checkpoint_folder(folder, step)) for step in sorted(sampler.noted(trial))]
    scored = [report for report in reports if report is not None]
    record = TrialRecord(id=name, params=params, steps=steps, state=STATES[trial.state], checkpoints=scored)
    note: Mapping[str, Any] = sampler.notes.get(end_note(name), {})
    spent = sum(report.training_seconds + report.scoring_seconds for report in scored)
    record.seconds = float(note.get("seconds", spent))
    record.losses = [str(loss) for loss in note.get("losses", ())]
    if record.state in {JobState.FINISHED, JobState.STOPPED} and not scored:
        record.state, record.reason = JobState.FAILED, f"its checkpoints in {folder} are gone or damaged"
    elif record.state is JobState.STOPPED:
        record.reason = str(note.get("reason", f"stopped after step {record.last_step}: {BEATEN}"))
    elif record.state is JobState.FAILED:
        record.reason = str(note.get("reason", "it failed just before the search was killed, which took the reason"))
    return record
