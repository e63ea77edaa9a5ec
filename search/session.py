"""A session: one search from its configuration to its result, in the order of the straight line."""

from __future__ import annotations

import logging
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from evaluation.scores import (
    FACELESS_RATE,
    FIDELITY,
    LEAKAGE,
    LIKENESS,
    LIKENESS_SPREAD,
    MEMORISATION,
    OBJECTIVE,
    SECOND_LIKENESS,
)
from search.anchors import measure_anchors
from search.card import write_card
from search.champion import export_champion
from search.clock import Clock
from search.config import ConfigurationError, SearchConfig, dump_config
from search.dispatch import Dispatch, JobFailedError
from search.final import Final, NoCandidateError, run_final
from search.images import IMAGES_FILE, write_images
from search.inputs import changed_inputs, inputs_of
from search.interrupt import INTERRUPTED, Interrupts, SteadyConsole, end_now
from search.job import STATE, JobState, Report
from search.photo_split import read_split
from search.pool import Pool
from search.progress import Progress
from search.prompts import other_sets, prompt_sets
from search.recollection import recollect
from search.record import TrialRecord
from search.report import write_report
from search.result import CHAMPION, SearchResult, build_result
from search.result import INTERRUPTED as INTERRUPTED_STATUS
from search.resume import Continuation, ended_result, forget_final, how_to_go_on
from search.run_folder import RunFolder
from search.sampler import StudySampler
from search.samples import write_samples
from search.second_judging import SecondJudging
from search.second_opinion import NoOpinion, SecondOpinion
from search.stop import Stop
from search.study import make_sampler, run_study
from search.tracking import Tracker, TrackingError
from search.trial import TrialSetup
from search.watcher import Watcher
from search.workbench_setup import WorkbenchSetup
from trainer.files import written_folder
from trainer.photos import PhotoFolderError, PhotoSplit, resemblance_warnings

IDENTITY = "search"
"""Name under which the journal keeps what tells this search from every other, in MLflow."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message names it and the remedy. Raised before Ray starts."""


SAVE_SECONDS = 20.0
"""How long an interrupted search waits for seats to save what they train, and to end a scoring that is under way."""


class SearchInterrupted(KeyboardInterrupt):
    """The search was interrupted before it could write a result; `folder` is the run's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder


def run_search(
    config: SearchConfig,
    *,
    address: str | None = None,
    continuation: Continuation | None = None,
    console: Console | None = None,
) -> SearchResult:
    """Search for the best adapter; everything it finds is in the run folder, also if this call does not return.

    Args:
        config: Checked and resolved (`search.config.load_config`).
        address: A running Ray cluster; None starts Ray on this machine.
        continuation: The run that goes on, whose `config` is the same; None begins a new one.
        console: Where progress is shown. Default: the terminal.

    Raises:
        InputError: photos, prompts, MLflow or the run's name cannot be used.
        SearchInterrupted: a signal came where there was nothing to write a result of yet.
    """
    console = console or SteadyConsole()
    clock = Clock()
    # These log every event of every seat and trial; the terminal belongs to the search.
    for name in ("ray", "ray.train", "ray.tune", "optuna", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        weighs_faces = any(training.face_loss_weight > 1 for training in config.possible_trainings())
        split = read_split(config.photos, config.evaluation.faces, find_faces=weighs_faces)
        person = prompt_sets(config)
        others = other_sets(config, person)
        inputs = inputs_of(config, split)
        tracker = Tracker(config.tracking.uri, config.tracking.experiment, config.runs.parent)
        run = RunFolder.make(config) if continuation is None else RunFolder.take_up(continuation.folder)
    except (PhotoFolderError, ConfigurationError, TrackingError, ValueError) as error:
        raise InputError(str(error)) from error
    setup = WorkbenchSetup.of(config, split, person, others)
    with run:
        try:
            sampler = _open_journal(config, run, continuation, inputs)
            clock.keep(sampler.note, sampler.notes)
            if continuation is not None and (ended := _ended(run, sampler, continuation)) is not None:
                _tell(console, f"{run.path} has ended already: {ended.values['status']}; ask for more with --trials")
                return ended
            if continuation is not None:
                run.begin(config, inputs)
            _tell(
                console,
                f"{config.name}: {len(split.training)} photos to train on, {len(split.reference)} to compare with, "
                f"{config.trials} trials, {sampler.remaining} of them to do, into {run.path}",
            )
            for warning in resemblance_warnings((*split.training, *split.reference)):
                _tell(console, f"photos: {warning}")
            stop = Stop()
            with Interrupts(stop) as interrupts, tracker, _ray(address, interrupts):
                count = _seats(config)
                records = recollect(sampler, config, run.path / "trials")
                tracker.start(
                    config.name,
                    _common(config, split),
                    dump_config(config),
                    search=sampler.notes[IDENTITY],
                    unfinished=[record.id for record in records if record.state is JobState.RUNNING],
                )
                search = _Search(config, setup, run.path, tracker, console, clock, sampler, records, stop, address)
                result, whole = search.run(count)
                if not whole:
                    # Seats are still scoring; Ray would wait for them, and so would Python.
                    tracker.__exit__(None, None, None)
                    end_now(INTERRUPTED)
                return result
        except InputError:
            run.discard()
            raise
        except KeyboardInterrupt:
            raise SearchInterrupted(run.path) from None


def _open_journal(
    config: SearchConfig, run: RunFolder, continuation: Continuation | None, inputs: Mapping[str, str]
) -> StudySampler:
    """The sampler on the run's journal; whatever forbids to go on with the run is said before anything is changed."""
    try:
        if continuation is None:
            run.begin(config, inputs)  # first of all: without it a killed search could not go on
        else:
            changed = changed_inputs(run.inputs, inputs)
            refused = [text for text in changed if not text.startswith("file final.prompts ")]
            if refused:
                raise ConfigurationError(
                    f"{run.path} cannot go on with other inputs than it was begun with: {', '.join(refused)}; put them "
                    "back, or begin a new run with another --name"
                )
            if not run.journal.exists() and any((run.path / "trials").glob("*")):
                raise ConfigurationError(f"{run.journal} is missing though there are trials; put it back")
            if changed or continuation.remeasures_final:
                forget_final(run.path)
        sampler = make_sampler(config, run.path)
        if len(sampler.earlier) > config.trials:
            raise ConfigurationError(
                f"trials is {config.trials}, but {run.path} has begun {len(sampler.earlier)}; ask for as many or more"
            )
    except ValueError as error:
        raise InputError(str(error)) from error
    if IDENTITY not in sampler.notes:
        sampler.note(IDENTITY, uuid.uuid4().hex)
    return sampler


def _ended(run: RunFolder, sampler: StudySampler, continuation: Continuation) -> SearchResult | None:
    """The result of a run that has nothing left to do; None if it has."""
    values = ended_result(run.path)
    if values is None or sampler.remaining or continuation.changes_final:
        return None
    result = SearchResult(folder=run.path, values=values)
    return result if result.has_champion or result.has_no_candidate else None


@dataclass
class _Search:
    """One part of a search, from its seats to its result."""

    config: SearchConfig
    workbench: WorkbenchSetup
    folder: Path
    tracker: Tracker
    console: Console
    clock: Clock
    sampler: StudySampler
    earlier: list[TrialRecord]
    stop: Stop
    address: str | None = None
    base: Report | None = None
    final: Final | None = None
    opinion: SecondOpinion | NoOpinion | None = None
    watcher: Watcher | None = None
    status: str = ""

    @property
    def records(self) -> list[TrialRecord]:
        return self.watcher.records if self.watcher else self.earlier

    def run(self, seats: int) -> tuple[SearchResult, bool]:
        """The result, and whether all seats have left."""
        gpus = "GPU" in ray.cluster_resources()
        with ExitStack() as stack:
            with Pool(self.config.seats, self.workbench, self.folder / "ray", gpus=gpus, count=seats) as pool:
                try:
                    self._measure(pool.dispatch, seats)
                except (JobFailedError, NoCandidateError) as error:
                    self.status = str(error)
                except KeyboardInterrupt:
                    # What is under way is kept; the seats are given a moment for it.
                    pool.dispatch.pause(self.stop.reason)
                    pool.hurried = not pool.dispatch.rest(SAVE_SECONDS)
                    self.status = INTERRUPTED_STATUS
                # From here on a first signal changes nothing: all that is left is to write down what there is.
                stack.enter_context(self.stop.heed())
            return self._conclude(seats), pool.closed

    def _measure(self, dispatch: Dispatch, seats: int) -> None:
        config, clock = self.config, self.clock
        self.console.print(f"starting {seats} seat(s)", highlight=False)
        with clock.phase("start"):
            self.base, anchors = measure_anchors(dispatch, self.folder, "validation")
            second_judging = SecondJudging.begin(dispatch, config, self.base, self.folder)
        self.tracker.metrics(self.base.metrics, prefix="base_")
        self.tracker.picture(self.base.folder / "grid.png", "base")
        trials = TrialSetup(config=config, dispatch=dispatch, anchors=anchors, folder=self.folder / "trials")
        with Progress(config.trials, dispatch.steps, self.console) as progress, clock.phase("search"):
            self.watcher = Watcher(trials, self.tracker, progress, self.sampler, clock, self.earlier)
            run_study(
                config,
                trials,
                self.watcher,
                self.sampler,
                self.stop,
                earlier=self.earlier,
                seats=seats,
                run_folder=self.folder,
            )
        if self.stop.interrupted:
            raise KeyboardInterrupt
        if self.stop.requested:
            dispatch.rest(SAVE_SECONDS)
            dispatch.unpause()
        with clock.phase("final"):
            self.final = run_final(dispatch, config, self.records, self.folder / "final", say=self.console.print)
            if second_judging is not None:
                self.opinion = second_judging.opinion(self.records, self.final)

    def _conclude(self, seats: int) -> SearchResult:
        config, folder, final, tracker = self.config, self.folder, self.final, self.tracker
        interrupted = self.status == INTERRUPTED_STATUS
        if interrupted:
            final = None  # it may have been reached, but not all that belongs to it
        cut_off = [record for record in self.records if record.state is JobState.RUNNING]
        for record in cut_off:
            step = record.reports[-1].step if record.reports else 0
            record.reason = f"{self.stop.reason}; last scored at step {step}"
            if not interrupted:
                record.state = JobState.STOPPED
                tracker.trial_ended(record.id, record.state, record.reason, record.best)
        if not interrupted:
            _remove_leftovers(folder / "trials", folder / "final", kept=[record.id for record in cut_off])
        model_uri = None
        if final is not None:
            self.status = CHAMPION
            model_uri = self._crown(final)
        images = () if self.base is None else (self._write_images(final),)
        result = build_result(
            config,
            folder,
            status=self.status,
            base=self.base,
            final=final,
            opinion=self.opinion if final is not None else None,
            records=self.records,
            model_uri=model_uri,
            seconds=self.clock.seconds(),
            seats=seats,
            mlflow=_mlflow(tracker),
        )
        self.clock.save()
        files = (result.write(), write_report(result), *images)
        if interrupted:
            tracker.interrupt(self.status, files)
        else:
            card = (folder / "champion" / "README.md",) if final else ()
            tracker.finish(self.status, (*files, *card), failed=final is None)
        _say(self.console, result, final, self.address)
        return result

    def _crown(self, final: Final) -> str | None:
        """Write the champion's folder and register it; where it is registered, None if MLflow failed."""
        config, folder, opinion = self.config, self.folder, self.opinion
        with written_folder(folder / "champion") as temporary:
            export_champion(final, temporary, config.name)
            write_samples(final, temporary / "samples.png")
        split = self.workbench.split
        write_card(
            config,
            final,
            folder / "champion",
            photos=(len(split.training), len(split.reference)),
            prompt=self.workbench.prompt_sets["final"].prompts[0].replace("{trigger}", config.photos.trigger),
            second_judge=opinion.line if opinion else "",
        )
        self.tracker.metrics(final.champion.final.metrics, prefix="champion_")
        self.tracker.picture(folder / "champion" / "samples.png", "champion")
        if isinstance(opinion, SecondOpinion):
            _track(opinion, self.records, self.tracker)
        return _register(config, final, folder, self.tracker)

    def _write_images(self, final: Final | None) -> Path:
        assert self.base is not None, "without it nothing was scored"
        return write_images(
            self.folder / IMAGES_FILE,
            base=self.base,
            records=self.records,
            final=final,
            prompt_sets=self.workbench.prompt_sets,
            other_sets=self.workbench.other_sets,
        )


@contextmanager
def _ray(address: str | None, interrupts: Interrupts) -> Iterator[None]:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with interrupts.unheard_by_children():
        ray.init(
            address=address or "local",  # never join a cluster that the user did not name
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address is None else None,
        )
    try:
        yield
    finally:
        ray.shutdown()


def _seats(config: SearchConfig) -> int:
    """How many seats there will be.

    Raises:
        InputError: the cluster cannot hold them; they would be waited for without end.
    """
    cluster = ray.cluster_resources()
    worker = {"GPU": config.seats.gpus_per_worker, "CPU": 1.0} if "GPU" in cluster else {"CPU": config.seats.threads}
    fitting = min(int(cluster.get(kind, 0) / (share * config.seats.workers)) for kind, share in worker.items())
    count = config.seats.count or max(1, fitting)
    if count > fitting:
        needs = " and ".join(f"{share * config.seats.workers * count:g} {kind}s" for kind, share in worker.items())
        has = " and ".join(f"{cluster.get(kind, 0):g} {kind}s" for kind in worker)
        raise InputError(
            f"{count} seat(s) of {config.seats.workers} worker(s) need {needs}, but Ray has {has}; "
            "lower seats.count, seats.workers, seats.threads or seats.gpus_per_worker"
        )
    return count


def _remove_leftovers(*folders: Path, kept: Sequence[str]) -> None:
    """What stopped or killed trainings keep to go on from, but for the trials that were only cut off."""
    for folder in folders:
        for leftover in (*folder.glob(f"*/{STATE}"), *folder.glob("*/*.tmp")):
            if leftover.parent.name in kept:
                continue
            shutil.rmtree(leftover, ignore_errors=True)


def _register(config: SearchConfig, final: Final, folder: Path, tracker: Tracker) -> str | None:
    champion = final.champion
    metadata = {
        "trial": champion.record.id,
        "step": str(champion.candidate.step),
        "trigger": config.photos.trigger,
        **{f"final_{name}": f"{value:.6g}" for name, value in champion.final.metrics.items()},
    }
    version = tracker.champion(config.name, folder / "champion", config.model, metadata)
    return version.uri if version else None


def _track(opinion: SecondOpinion, records: Sequence[TrialRecord], tracker: Tracker) -> None:
    """The second judge's likeness with each trial's run, its agreement with the search's."""
    for record in records:
        if record.best is not None and record.id in opinion.trials:
            tracker.trial_metrics(record.id, {SECOND_LIKENESS: opinion.trials[record.id]}, record.best.step)
    tracker.metrics(opinion.as_metrics())


def _common(config: SearchConfig, split: PhotoSplit) -> dict[str, Any]:
    varying = set(config.space)
    fixed = {name: value for name, value in vars(config.training).items() if name not in varying}
    return {
        "model": config.model,
        "photos": config.photos.folder,
        "training_photos": len(split.training),
        "reference_photos": len(split.reference),
        "trials": config.trials,
        "seed": config.seed,
        "protocol": config.evaluation.protocol,
        **fixed,
    }


def _mlflow(tracker: Tracker) -> dict[str, str]:
    values = {"tracking_uri": tracker.shown_uri, "experiment_id": tracker.experiment_id, "run_id": tracker.run_id}
    return {**values, "failure": tracker.failure} if tracker.failure else values


def _say(console: Console, result: SearchResult, final: Final | None, address: str | None) -> None:
    states: dict[str, int] = {}
    for trial in result.values["trials"]:
        states[trial["state"]] = states.get(trial["state"], 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in states.items()) or "none"
    lines = [f"trials: {told}"]
    if final is None:
        lines.append(f"no champion: {result.values['status']}")
    else:
        champion = final.champion
        values = "  ".join(
            f"{name} {champion.final.metrics[name]:.3f} (base {final.base.metrics[name]:.3f})"
            for name in (OBJECTIVE, LIKENESS, FIDELITY, FACELESS_RATE)
        )
        meters = "  ".join(
            f"{name} {champion.final.metrics[name]:.3f}"
            for name in (LIKENESS_SPREAD, MEMORISATION, LEAKAGE)
            if name in champion.final.metrics
        )
        lines.append(
            f"champion: trial {champion.record.id}, step {champion.candidate.step}: {dict(champion.record.params)}"
        )
        lines.append(f"final: {values}")
        lines.append(f"meters: {meters}")
        lines.append(f"choice: {final.decision.reason}")
        lines.append(f"against the first trial: {final.verdict}")
        if result.values["second_judge"]:
            lines.append(result.values["second_judge"]["summary"])
        lines.append(f"adapter: {result.folder / 'champion'}")
    lines.append(f"report: {result.folder / 'report.html'}")
    lines.append(f"compare: mlflow ui --backend-store-uri {result.values['mlflow']['tracking_uri']}")
    if result.interrupted:
        lines.append(how_to_go_on(result.folder, address))
    for line in lines:
        _tell(console, line)


def _tell(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
