"""One part of a search: what one process does of it, in the order of the straight line."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import ray
from rich.console import Console

from search.config.run_layout import STATE_FOLDER, RunLayout
from search.config.search_config import SearchConfig
from search.final.export import export_champion, write_card, write_samples
from search.final.final import Final, NoCandidateError, run_final
from search.final.second_opinion import NoOpinion, SecondJudgeClient, SecondOpinion
from search.final.strengths import Sweep, sweep_strengths
from search.report.figures import draw_figures, write_plots
from search.report.outcome import build_result
from search.report.progress import Progress, summary, tell
from search.report.report_page import write_report
from search.report.tables import write_images, write_trials
from search.storage.clock import TOTAL, Clock
from search.storage.result import CHAMPION, SearchResult
from search.storage.result import INTERRUPTED as INTERRUPTED_STATUS
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.budget import BudgetMonitor, Rate
from search.study.callback import TrialCallback
from search.study.history import JournalNotes
from search.study.samplers.study_sampler import StudySampler
from search.study.stop import Stop
from search.study.study import run_study
from search.study.trial import TrialSetup
from search.tracking.registry import Champion
from search.tracking.tracker import Tracker
from search.workers.client import JobFailedError, WorkersClient, measure_anchors
from search.workers.cluster import Capacity
from search.workers.dispatcher import Dispatcher
from search.workers.pool import Pool
from search.workers.setup import RunnerSetup
from trainer.files import written_folder

SAVE_SECONDS = 20.0
"""How long an interrupted search waits for workers to save what they train, and to end a scoring that is under way."""


@dataclass
class SearchPart:
    """From the workers to the result; what earlier parts have measured is taken as it is."""

    config: SearchConfig
    runner: RunnerSetup
    folder: Path
    tracker: Tracker
    console: Console
    clock: Clock
    sampler: StudySampler
    records: list[TrialRecord]
    """What became of every trial so far, by number; the list grows while the study runs."""
    stop: Stop
    address: str | None = None
    base: CheckpointResult | None = None
    final: Final | None = None
    opinion: SecondOpinion | NoOpinion | None = None
    sweep: Sweep | None = None
    monitor: BudgetMonitor | None = None
    status: str = ""

    @property
    def layout(self) -> RunLayout:
        return RunLayout(self.folder)

    @property
    def _gpus(self) -> bool:
        return Capacity.of(ray.nodes(), self.config.seats).gpus

    def run(self, workers: int) -> tuple[SearchResult, bool]:
        """The result, and whether all workers have left."""
        gpus = self._gpus
        with ExitStack() as stack:
            with Pool(self.config.seats, self.runner, self.layout.ray, gpus=gpus, count=workers) as pool:
                try:
                    self._measure(pool.client, workers)
                except (JobFailedError, NoCandidateError) as error:
                    self.status = str(error)
                except KeyboardInterrupt:
                    # What is under way is kept; the workers are given a moment for it.
                    pool.client.call(Dispatcher.pause, self.stop.reason)
                    pool.hurried = not pool.client.call(Dispatcher.rest, SAVE_SECONDS)
                    self.status = INTERRUPTED_STATUS
                # From here on a first signal changes nothing: all that is left is to write down what there is.
                stack.enter_context(self.stop.watching())
            return self._conclude(workers), pool.closed

    def _measure(self, client: WorkersClient, workers: int) -> None:
        config, clock = self.config, self.clock
        self.console.print(f"starting {workers} worker(s)", highlight=False)
        with clock.phase("start"):
            self.base, anchors = measure_anchors(client, self.layout, "validation")
            began = time.monotonic()
            second_judge = SecondJudgeClient.begin(client, config, self.base, self.layout)
            judging = time.monotonic() - began if second_judge is not None else 0.0
            # Where all that was measured before: trials that no worker could do would fail, and stay so in the journal.
            client.wait_for_worker()
        self.tracker.changed()
        trials = TrialSetup(config=config, client=client, anchors=anchors, layout=self.layout)
        progress = Progress(config.trials, self.records, client.steps, self.console, self._seconds_left)
        self.monitor = BudgetMonitor(
            config,
            rate=Rate.of(config.seats, workers, config.budget, gpus=self._gpus),
            workers=workers,
            base=self.base,
            judging=judging,
            elapsed=lambda: clock.seconds()[TOTAL],
            records=self.records,
            steps=lambda: progress.steps,
            request=self.stop.request,
            say=lambda line: tell(self.console, line),
        )
        callback = TrialCallback(trials, self.records, [JournalNotes(self.sampler, clock), self.tracker, progress])
        with progress, clock.phase("search"), self.monitor:
            run_study(
                config,
                trials,
                callback,
                self.sampler,
                self.stop,
                earlier=tuple(self.records),
                workers=workers,
                run_folder=self.folder,
            )
        if self.stop.interrupted:
            raise KeyboardInterrupt
        if self.stop.requested:
            client.call(Dispatcher.rest, SAVE_SECONDS)
            client.call(Dispatcher.unpause)
        with clock.phase("final"):
            self.final = run_final(client, config, self.records, self.layout, say=self.console.print)
            if second_judge is not None:
                self.opinion = second_judge.opinion(self.records, self.final)
            self.sweep = sweep_strengths(client, config, self.final, self.layout)

    def _seconds_left(self) -> float | None:
        return self.monitor.seconds_left() if self.monitor is not None else None

    def _conclude(self, workers: int) -> SearchResult:
        config, folder, final, tracker = self.config, self.folder, self.final, self.tracker
        interrupted = self.status == INTERRUPTED_STATUS
        if interrupted:
            final = None  # it may have been reached, but not all that belongs to it
        cut_off = [record for record in self.records if record.state is JobState.RUNNING]
        for record in cut_off:
            step = record.checkpoints[-1].step if record.checkpoints else 0
            record.reason = f"{self.stop.reason or self.status}; last scored at step {step}"
            if not interrupted:
                record.state = JobState.STOPPED
        if not interrupted:
            _remove_leftovers(self.layout.trials, self.layout.final, kept=[record.id for record in cut_off])
        model_uri = None
        if final is not None:
            self.status = CHAMPION
            model_uri = self._crown(final)
        if self.base is not None:
            self._write_images(final)
        result = build_result(
            config,
            folder,
            status=self.status,
            base=self.base,
            final=final,
            opinion=self.opinion if final is not None else None,
            records=self.records,
            sweep=self.sweep if final is not None else None,
            model_uri=model_uri,
            seconds=self.clock.seconds(),
            workers=workers,
            mlflow=_mlflow(tracker),
            budget=self.monitor.as_result(self.clock.seconds()[TOTAL]) if self.monitor else None,
        )
        self.clock.save()
        figures = draw_figures(result, config)
        result.write()
        write_report(result, config, self.runner.split.reference, figures)
        write_trials(result.outcome.trials, folder)
        write_plots(figures, self.layout.plots)
        tracker.finish(self.records)
        if self.monitor is not None:
            tell(self.console, self.monitor.summary(self.clock.seconds()[TOTAL]))
        for line in summary(result, final, self.address):
            tell(self.console, line)
        return result

    def _crown(self, final: Final) -> str | None:
        """Write the champion's folder and register it; where it is registered, None if MLflow failed."""
        config, opinion = self.config, self.opinion
        with written_folder(self.layout.champion) as temporary:
            export_champion(final, temporary, config.name)
            write_samples(final, temporary / "samples.png")
        split = self.runner.split
        write_card(
            config,
            final,
            self.layout.champion,
            photos=(len(split.training), len(split.reference)),
            prompt=self.runner.prompt_sets["final"].prompts[0].replace("{trigger}", config.photos.trigger),
            second_judge=opinion.line if opinion else "",
        )
        champion = final.champion
        trial, step = champion.record.id, champion.candidate.step
        return self.tracker.champion(
            Champion.of(config, self.layout.champion, trial=trial, step=step, final=champion.final.metrics)
        )

    def _write_images(self, final: Final | None) -> None:
        assert self.base is not None, "without it nothing was scored"
        write_images(
            self.layout.image_table,
            base=self.base,
            records=self.records,
            final=final,
            sweep=self.sweep if final is not None else None,
            prompt_sets=self.runner.prompt_sets,
            other_sets=self.runner.other_sets,
        )


def _remove_leftovers(*folders: Path, kept: Sequence[str]) -> None:
    """What stopped or killed trainings keep to go on from, but for the trials that were only cut off."""
    for folder in folders:
        for leftover in (*folder.glob(f"*/{STATE_FOLDER}"), *folder.glob("*/*.tmp"), *folder.glob("*/*.old")):
            if leftover.parent.name in kept:
                continue
            shutil.rmtree(leftover, ignore_errors=True)


def _mlflow(tracker: Tracker) -> dict[str, str]:
    values = {"tracking_uri": tracker.shown_uri, "experiment_id": tracker.experiment_id, "run_id": tracker.run_id}
    return {**values, "failure": tracker.failure} if tracker.failure else values
