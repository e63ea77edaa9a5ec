"""A session: one process that begins a search or goes on with one, from its configuration to its result."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from search.config.prompts import other_sets, prompt_sets
from search.config.search_config import ConfigurationError, SearchConfig
from search.part import SearchPart
from search.photos.split import read_split
from search.report.progress import tell
from search.storage.clock import Clock
from search.storage.result import SearchResult, find_result, mark_unfinished
from search.storage.resume import Continuation, forget_final, how_to_go_on
from search.storage.run_folder import RunFolder, changed_inputs, inputs_of
from search.study.history import read_history
from search.study.samplers.study_sampler import StudySampler
from search.study.samplers.warm_start import warm_start
from search.study.stop import Interrupts, SteadyConsole, Stop, end_now
from search.study.study import make_sampler
from search.tracking.connection import TrackingError
from search.tracking.tracker import Tracker
from search.workers.cluster import Capacity, CapacityError
from search.workers.head_watch import OWN_PATIENCE, SHARED_PATIENCE, HeadWatch
from search.workers.setup import RunnerSetup
from trainer.data.buckets import bucket_warnings
from trainer.data.class_photos import load_class_photos
from trainer.data.photos import PhotoFolderError, PhotoSplit, repeated, resemblance_warnings
from trainer.exit_codes import INTERRUPTED
from trainer.storage import StorageError, storage_errors


class InputError(ValueError):
    """Something the user gave cannot be used; the message names it and the remedy. Raised before Ray starts."""


class SearchInterrupted(KeyboardInterrupt):
    """The search was interrupted before it could write a result; `folder` is the run's, `reason` what a signal did not
    say."""

    def __init__(self, folder: Path, reason: str = "") -> None:
        super().__init__(str(folder))
        self.folder = folder
        self.reason = reason


def run_search(
    config: SearchConfig,
    *,
    address: str | None = None,
    continuation: Continuation | None = None,
    console: Console | None = None,
) -> SearchResult:
    """Search for the best adapter; everything it finds is in the run folder, also if this call does not return.

    Args:
        config: Checked and resolved (`search.config.search_config.load_config`).
        address: A running Ray cluster; None starts Ray on this machine.
        continuation: The run that goes on, whose `config` is the same; None begins a new one.
        console: Where progress is shown. Default: the terminal.

    Raises:
        InputError: photos, prompts, MLflow or the run's name cannot be used.
        SearchInterrupted: a signal came where there was nothing to write a result of yet, or the run folder's storage
            gave out.
    """
    console = console or SteadyConsole()
    clock = Clock()
    # These log every event of every worker and trial; the terminal belongs to the search.
    for name in ("ray", "ray.train", "ray.tune", "optuna", "mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        weighs_faces = any(training.face_loss_weight > 1 for training in config.possible_trainings())
        split = read_split(config.photos, config.evaluation.faces, find_faces=weighs_faces)
        class_photos = load_class_photos(
            config.photos.prior,
            (*split.training, *split.reference),
            trigger=config.photos.trigger,
            maximum_pixels=config.photos.maximum_pixels,
        )
        person = prompt_sets(config)
        others = other_sets(config, person)
        inputs = inputs_of(config, split, class_photos)
        tracker = Tracker(config.tracking.uri, config.tracking.experiment, config.runs.parent)
        run = RunFolder.make(config) if continuation is None else RunFolder.reopen(continuation.folder)
    except (PhotoFolderError, ConfigurationError, TrackingError, ValueError) as error:
        raise InputError(str(error)) from error
    setup = RunnerSetup.of(config, split, person, others, class_photos=class_photos)
    with run:
        try:
            sampler = _open_journal(config, run, continuation, inputs)
            clock.keep(sampler.note, sampler.notes)
            if continuation is not None and (ended := _ended(run, sampler, continuation)) is not None:
                tell(console, f"{run.path} has ended already: {ended.values['status']}; ask for more with --trials")
                return ended
            if continuation is not None:
                mark_unfinished(run.path)
                run.begin(config, inputs)
            tell(
                console,
                f"{config.name}: {len(split.training)} photos to train on, {len(split.reference)} to compare with, "
                f"{config.trials} trials, {sampler.remaining} of them to do, into {run.path}",
            )
            if continuation is None and (known := warm_start(config)).line:
                tell(console, known.line)
            largest = max(training.batch_size for training in config.possible_trainings())
            for warning in (
                *resemblance_warnings((*split.training, *split.reference)),
                *bucket_warnings(repeated(split.training), config.photos.buckets, config.training.resolution, largest),
            ):
                tell(console, f"photos: {warning}")
            if config.photos.prior is not None:
                tell(console, f"class images: {config.photos.prior.source}")
            stop = Stop()
            with Interrupts(stop) as interrupts, tracker, _ray(address, interrupts, run.path), storage_errors(run.path):
                count = _workers(config)
                records = read_history(sampler, config, run.layout.trials)
                tracker.start(run.path, _common(config, split), records)
                search = SearchPart(config, setup, run.path, tracker, console, clock, sampler, records, stop, address)
                result, whole = search.run(count)
                if not whole:
                    # Workers are still scoring; Ray would wait for them, and so would Python.
                    tracker.__exit__(None, None, None)
                    end_now(INTERRUPTED)
            if tracker.pending:
                tell(
                    console,
                    f"MLflow has not taken all of {tracker.pending} runs ({tracker.failure}); "
                    f"python -m search.sync {run.path} delivers what it has missed",
                )
            return result
        except InputError:
            run.discard()
            raise
        except KeyboardInterrupt:
            raise SearchInterrupted(run.path) from None
        except StorageError as error:
            raise SearchInterrupted(run.path, str(error)) from error


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
            if not run.layout.journal.exists() and any(run.layout.trials.glob("*")):
                raise ConfigurationError(f"{run.layout.journal} is missing though there are trials; put it back")
            if changed or continuation.remeasures_final:
                forget_final(run.path)
        sampler = make_sampler(config, run.path)
        if sampler.begun > config.trials:
            raise ConfigurationError(
                f"trials is {config.trials}, but {run.path} has begun {sampler.begun}; ask for as many or more"
            )
    except ValueError as error:
        raise InputError(str(error)) from error
    return sampler


def _ended(run: RunFolder, sampler: StudySampler, continuation: Continuation) -> SearchResult | None:
    """The result of a run that has nothing left to do; None if it has."""
    result = find_result(run.path)
    if result is None or sampler.remaining or continuation.changes_final:
        return None
    return result if result.has_champion or result.has_no_candidate else None


@contextmanager
def _ray(address: str | None, interrupts: Interrupts, folder: Path) -> Iterator[None]:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with interrupts.children_ignoring_hangups():
        ray.init(
            address=address or "local",  # never join a cluster that the user did not name
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address is None else None,
        )

    def lost(told: str) -> None:
        # The main thread may be in a call that never returns, and Ray's other processes end when they please.
        with suppress(OSError):
            os.write(2, f"\n{told}\n{how_to_go_on(folder, address)}\n".encode())
        end_now(INTERRUPTED)

    patience = OWN_PATIENCE if address is None else SHARED_PATIENCE
    try:
        with HeadWatch(ray.get_runtime_context().gcs_address, patience, lost):
            yield
    finally:
        ray.shutdown()


def _workers(config: SearchConfig) -> int:
    """How many workers there will be.

    Raises:
        InputError: the cluster can never hold them; they would be waited for without end.
    """
    try:
        return Capacity.of(ray.nodes(), config.seats).workers(config.seats)
    except CapacityError as error:
        raise InputError(str(error)) from error


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
