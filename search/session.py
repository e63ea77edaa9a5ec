"""A session: one search from its configuration to its result, in the order of the straight line."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from search.capacity import Capacity, CapacityError
from search.card import write_card
from search.champion import export_champion
from search.config import ConfigurationError, SearchConfig, dump_config
from search.dispatch import JobFailedError
from search.final import Final, NoCandidateError, run_final
from search.images import IMAGES_FILE, write_images
from search.job import STATE, Report
from search.photo_split import read_split
from search.pool import Pool
from search.progress import Progress
from search.prompts import other_sets, prompt_sets
from search.record import TrialRecord
from search.report import write_report
from search.result import CHAMPION, SearchResult, build_result
from search.samples import write_samples
from search.second_judging import SecondJudging
from search.second_opinion import NoOpinion, SecondOpinion
from search.study import run_study
from search.tracking import Tracker, TrackingError
from search.trial import TrialSetup
from search.watcher import Watcher
from search.workbench_setup import WorkbenchSetup
from trainer.files import write_file, written_folder
from trainer.photos import PhotoFolderError, PhotoSplit, resemblance_warnings


class InputError(ValueError):
    """Something the user gave cannot be used; the message names it and the remedy. Raised before Ray starts."""


@dataclass
class _Clock:
    """Wall-clock seconds by phase."""

    began: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - began

    def total(self) -> dict[str, float]:
        return {**self.seconds, "total": time.monotonic() - self.began}


def run_search(
    config: SearchConfig, *, address: str | None = None, new_name: bool = True, console: Console | None = None
) -> SearchResult:
    """Search for the best adapter; everything it finds is in the run folder, also if this call does not return.

    Args:
        config: Checked and resolved (`search.config.load_config`).
        address: A running Ray cluster; None starts Ray on this machine.
        new_name: A run folder that exists already gets a numbered neighbour; False refuses.
        console: Where progress is shown. Default: the terminal.

    Raises:
        InputError: photos, prompts, MLflow or the run's name cannot be used.
    """
    console = console or Console()
    clock = _Clock()
    # These log every event of every seat and trial; the terminal belongs to the search.
    for name in ("ray", "ray.train", "ray.tune", "optuna", "mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        weighs_faces = any(training.face_loss_weight > 1 for training in config.possible_trainings())
        split = read_split(config.photos, config.evaluation.faces, find_faces=weighs_faces)
        person = prompt_sets(config)
        others = other_sets(config, person)
        tracker = Tracker(config.tracking.uri, config.tracking.experiment, config.runs.parent)
        folder = run_folder(config, new_name=new_name)
    except (PhotoFolderError, ConfigurationError, TrackingError, ValueError) as error:
        raise InputError(str(error)) from error
    console.print(
        f"{config.name}: {len(split.training)} photos to train on, {len(split.reference)} to compare with, "
        f"{config.trials} trials, into {folder}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    for warning in resemblance_warnings((*split.training, *split.reference)):
        console.print(f"photos: {warning}", markup=False, highlight=False, soft_wrap=True)
    write_file(folder / "search.yaml", lambda path: path.write_text(dump_config(config), "utf-8"))
    setup = WorkbenchSetup.of(config, split, person, others)
    with tracker, _ray(address):
        count = _seats(config)
        tracker.start(folder.name, _common(config, split), dump_config(config))
        return _search(config, setup, folder, tracker, console, clock, count)


def _search(
    config: SearchConfig,
    workbench: WorkbenchSetup,
    folder: Path,
    tracker: Tracker,
    console: Console,
    clock: _Clock,
    count: int,
) -> SearchResult:
    gpus = Capacity.of(ray.nodes(), config.seats).gpus
    base: Report | None = None
    final: Final | None = None
    opinion: SecondOpinion | NoOpinion | None = None
    watcher: Watcher | None = None
    status = ""
    with Pool(config.seats, workbench, folder / "ray", gpus=gpus, count=count) as pool:
        try:
            console.print(f"starting {count} seat(s)", highlight=False)
            with clock.phase("start"):
                base, anchors = measure_anchors(pool.dispatch, folder, "validation")
                second_judging = SecondJudging.begin(pool.dispatch, config, base)
            tracker.metrics(base.metrics, prefix="base_")
            tracker.picture(base.folder / "grid.png", "base")
            trials = TrialSetup(config=config, dispatch=pool.dispatch, anchors=anchors, folder=folder / "trials")
            with Progress(config.trials, pool.dispatch.steps, console) as progress, clock.phase("search"):
                watcher = Watcher(trials, tracker, progress)
                run_study(config, trials, watcher, seats=count, run_folder=folder)
            with clock.phase("final"):
                final = run_final(pool.dispatch, config, watcher.records, folder / "final", say=console.print)
                if second_judging is not None:
                    opinion = second_judging.opinion(watcher.records, final)
        except (JobFailedError, NoCandidateError) as error:
            status = str(error)
    _remove_leftovers(folder / "trials", folder / "final")
    model_uri = None
    if final is not None:
        status = CHAMPION
        with written_folder(folder / "champion") as temporary:
            export_champion(final, temporary, config.name)
            write_samples(final, temporary / "samples.png")
        write_card(
            config,
            final,
            folder / "champion",
            photos=(len(workbench.split.training), len(workbench.split.reference)),
            prompt=workbench.prompt_sets["final"].prompts[0].replace("{trigger}", config.photos.trigger),
            second_judge=opinion.line if opinion else "",
        )
        tracker.metrics(final.champion.final.metrics, prefix="champion_")
        tracker.picture(folder / "champion" / "samples.png", "champion")
        if isinstance(opinion, SecondOpinion) and watcher is not None:
            _track(opinion, watcher.records, tracker)
        model_uri = _register(config, final, folder, tracker)
    images = () if base is None else (_write_images(workbench, folder, base, final, watcher),)
    result = build_result(
        config,
        folder,
        status=status,
        base=base,
        final=final,
        opinion=opinion,
        records=watcher.records if watcher else [],
        model_uri=model_uri,
        seconds=clock.total(),
        seats=count,
        mlflow=_mlflow(tracker),
    )
    files = [result.write(), write_report(result), *images]
    card = (folder / "champion" / "README.md",) if final else ()
    tracker.finish(status, (*files, *card), failed=final is None)
    _say(console, result, final)
    return result


def run_folder(config: SearchConfig, *, new_name: bool) -> Path:
    """A folder that did not exist, made now: no run is ever overwritten."""
    config.runs.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = config.runs / (config.name if number == 1 else f"{config.name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            if not new_name:
                raise ConfigurationError(f"the run {folder} exists already; give another --name") from None
            number += 1
        else:
            return folder


@contextmanager
def _ray(address: str | None) -> Iterator[None]:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
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
        InputError: the cluster can never hold them; they would be waited for without end.
    """
    try:
        return Capacity.of(ray.nodes(), config.seats).seats(config.seats)
    except CapacityError as error:
        raise InputError(str(error)) from error


def _write_images(
    workbench: WorkbenchSetup, folder: Path, base: Report, final: Final | None, watcher: Watcher | None
) -> Path:
    return write_images(
        folder / IMAGES_FILE,
        base=base,
        records=watcher.records if watcher else [],
        final=final,
        prompt_sets=workbench.prompt_sets,
        other_sets=workbench.other_sets,
    )


def _remove_leftovers(*folders: Path) -> None:
    """What stopped or killed trainings keep to go on from; the search is over."""
    for folder in folders:
        for leftover in (*folder.glob(f"*/{STATE}"), *folder.glob("*/*.tmp")):
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


def _say(console: Console, result: SearchResult, final: Final | None) -> None:
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
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
