"""The straight line: photos, baseline, trials, final, outcome. One process's part of a search, from top to bottom."""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from evaluation.scores import Anchors
from search.config.search_config import SearchConfig
from search.final.export import write_champion
from search.final.final import Final, NoCandidateError, run_final
from search.final.second_opinion import NoOpinion, SecondJudgeClient, SecondOpinion
from search.final.strengths import Sweep, sweep_strengths
from search.report.figures import draw_figures, write_plots
from search.report.outcome import build_result
from search.report.progress import Progress, say, summary
from search.report.report_page import write_report
from search.report.tables import write_images, write_trials
from search.storage.clock import TOTAL, Clock
from search.storage.result import CHAMPION, INTERRUPTED, SearchResult, mark_unfinished
from search.storage.resume import Continuation, ended_result, how_to_resume, in_shell
from search.storage.run_folder import RunFolder
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.budget import BudgetMonitor, Rate
from search.study.callback import TrialCallback
from search.study.history import JournalNotes, open_journal, read_history
from search.study.samplers.study_sampler import StudySampler
from search.study.samplers.warm_start import warm_start
from search.study.stop import Interrupts, SteadyConsole, Stop, end_now
from search.study.study import run_study
from search.study.trial import TrialSetup
from search.tracking.registry import Champion
from search.tracking.tracker import Tracker
from search.workers.client import JobFailedError, WorkersClient, measure_anchors
from search.workers.dispatcher import Dispatcher
from search.workers.gpus import usable_capacity
from search.workers.pool import Pool
from search.workers.preflight import Preflight
from search.workers.ray_session import RayError, ray_session
from trainer import exit_codes
from trainer.storage import StorageError, storage_errors

SAVE_SECONDS = 20.0
"""How long an interrupted search waits for workers to save what they train, and to end a scoring that is under way."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message names it and the remedy. Nothing was begun."""


class SearchInterrupted(KeyboardInterrupt):
    """The search was interrupted before it could write a result.

    Attributes:
        folder: The run folder.
        reason: What a signal did not say.
    """

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
        continuation: The run that is resumed, whose `config` is the same; None begins a new one.
        console: Where progress is shown. Default: the terminal.

    Raises:
        InputError: photos, prompts, MLflow or the run's name cannot be used.
        SearchInterrupted: a signal came before there was a result to write, or the run folder's storage gave out.
    """
    # These log every event of every worker and trial; the terminal belongs to the search.
    for name in ("ray", "ray.train", "ray.tune", "optuna", "mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return Search(config, address=address, continuation=continuation, console=console).run()


class Search:
    """What one process does of a search. What earlier processes have measured is taken as it is.

    `run` calls the stages in their order: `prepare`, `baseline`, `trials`, `final`, `outcome`.
    """

    def __init__(
        self,
        config: SearchConfig,
        *,
        address: str | None = None,
        continuation: Continuation | None = None,
        console: Console | None = None,
    ) -> None:
        self.config = config
        self.address = address
        self.continuation = continuation
        self.console = console or SteadyConsole()
        self.clock = Clock()
        self.stop = Stop()
        try:
            checked = Preflight(config, address=address, resumed=continuation is not None, seconds=None)
            self.setup, self.inputs, self.warnings = checked.setup, checked.inputs, checked.warnings
            self.tracker = Tracker(config.tracking.uri, config.tracking.experiment, config.runs.parent)
            self.folder = RunFolder.make(config) if continuation is None else RunFolder.reopen(continuation.folder)
        except ValueError as error:
            raise InputError(str(error)) from error
        self.layout = self.folder.layout
        self.records: list[TrialRecord] = []
        """What became of every trial so far, by number; the list grows while the study runs."""
        self.base: CheckpointResult | None = None
        self.judge: SecondJudgeClient | None = None
        self.judging_seconds = 0.0
        self.monitor: BudgetMonitor | None = None
        self.finale: Final | None = None
        self.opinion: SecondOpinion | NoOpinion | None = None
        self.sweep: Sweep | None = None
        self.status = ""

    def run(self) -> SearchResult:
        """The whole line.

        Raises:
            InputError: the journal or the cluster cannot be used.
            SearchInterrupted: see `run_search`.
        """
        path = self.folder.path
        with self.folder:
            try:
                sampler = self.prepare()
                if (ended := self._ended(sampler)) is not None:
                    return ended
                with ExitStack() as stack:
                    interrupts = stack.enter_context(Interrupts(self.stop))
                    stack.enter_context(self.tracker)
                    starting = interrupts.children_ignoring_hangups()
                    stack.enter_context(ray_session(self.address, starting=starting, lost=self._lost))
                    stack.enter_context(storage_errors(path))
                    result, workers_left = self._measure(sampler)
                    if not workers_left:
                        # Workers are still scoring; Ray would wait for them, and so would Python.
                        self.tracker.close()
                        end_now(exit_codes.INTERRUPTED)
                if self.tracker.pending:
                    self._say(
                        f"MLflow has not taken all of {self.tracker.pending} runs ({self.tracker.failure}); "
                        f"python -m search.sync {in_shell(path)} delivers what it has missed"
                    )
                return result
            except (InputError, RayError) as error:
                self.folder.discard()
                raise InputError(str(error)) from error
            except KeyboardInterrupt:
                raise SearchInterrupted(path) from None
            except StorageError as error:
                raise SearchInterrupted(path, str(error)) from error

    def prepare(self) -> StudySampler:
        """The sampler on the run's journal. Whatever forbids a resume is said before anything is changed."""
        try:
            sampler = open_journal(self.config, self.folder, self.continuation, self.inputs)
        except ValueError as error:
            raise InputError(str(error)) from error
        self.clock.keep(sampler.note, sampler.notes)
        return sampler

    def _ended(self, sampler: StudySampler) -> SearchResult | None:
        """The result of a run that has nothing left to do; of any other, its first lines are said and it is begun."""
        config, split, path = self.config, self.setup.split, self.folder.path
        if self.continuation is not None:
            ended = None if sampler.remaining or self.continuation.changes_final else ended_result(path)
            if ended is not None:
                self._say(f"{path} has ended already: {ended.outcome.status}; ask for more with --trials")
                return ended
            mark_unfinished(path)
            self.folder.begin(config, self.inputs)
        self._say(
            f"{config.name}: {len(split.training)} photos to train on, {len(split.reference)} to compare "
            f"with, {config.trials} trials, {sampler.remaining} of them to do, into {path}"
        )
        if self.continuation is None and (known := warm_start(config)).line:
            self._say(known.line)
        self._say(*self.warnings)
        return None

    def _measure(self, sampler: StudySampler) -> tuple[SearchResult, bool]:
        """The stages that need workers, and the outcome; and whether all workers have left."""
        config = self.config
        try:
            capacity = usable_capacity(config, joined=self.address is not None)
            workers = capacity.workers(config.seats)
        except ValueError as error:
            raise InputError(str(error)) from error
        rate = Rate.of(config.seats, workers, config.budget, gpus=capacity.gpus)
        self.records = read_history(sampler, config, self.layout.trials)
        self.tracker.start(self.folder.path, self.setup.params(config), self.records)
        self._say(f"starting {workers} worker(s)")
        with ExitStack() as stack:
            pool = Pool(config.seats, self.setup, self.layout.ray, gpus=capacity.gpus, count=workers, say=self._say)
            with pool:
                client = pool.client
                try:
                    with self.clock.phase("start"):
                        anchors = self.baseline(client)
                    with self.clock.phase("search"):
                        self.trials(client, sampler, anchors, workers=workers, rate=rate)
                    with self.clock.phase("final"):
                        self.final(client)
                except (JobFailedError, NoCandidateError) as error:
                    self.status = str(error)
                except KeyboardInterrupt:
                    # What is under way is kept; the workers are given a moment for it.
                    client.call(Dispatcher.pause, self.stop.reason)
                    pool.hurried = not client.call(Dispatcher.rest, SAVE_SECONDS)
                    self.status = INTERRUPTED
                # From here on a first signal changes nothing: all that is left is to write down what there is.
                stack.enter_context(self.stop.watching())
            return self.outcome(workers), pool.closed

    def baseline(self, client: WorkersClient) -> Anchors:
        """Measure the untuned model and the real photos: the ends between which every checkpoint is scored."""
        self.base, anchors = measure_anchors(client, self.layout, "validation")
        self._say(*(f"untuned model: {remark}" for remark in self.base.remarks))
        began = time.monotonic()
        self.judge = SecondJudgeClient.begin(client, self.config, self.base, self.layout)
        self.judging_seconds = time.monotonic() - began if self.judge is not None else 0.0
        # Where all that was measured before: trials that no worker could do would fail, and stay so in the journal.
        client.wait_for_worker()
        self.tracker.changed()
        return anchors

    def trials(
        self, client: WorkersClient, sampler: StudySampler, anchors: Anchors, *, workers: int, rate: Rate
    ) -> None:
        """Let Tune run the trials that the sampler proposes, until they have ended or a stop is requested."""
        assert self.base is not None, "measured by `baseline`"
        config, clock = self.config, self.clock
        setup = TrialSetup(config=config, client=client, anchors=anchors, layout=self.layout)
        progress = Progress(config.trials, self.records, client.steps, self.console, self._seconds_left)
        self.monitor = BudgetMonitor(
            config,
            rate=rate,
            workers=workers,
            base=self.base,
            judging=self.judging_seconds,
            elapsed=lambda: clock.seconds()[TOTAL],
            records=self.records,
            steps=lambda: progress.steps,
            request=self.stop.request,
            say=self._say,
        )
        callback = TrialCallback(setup, self.records, [JournalNotes(sampler, clock), self.tracker, progress])
        earlier = tuple(self.records)
        with progress, self.monitor:
            run_study(config, setup, callback, sampler, self.stop, earlier=earlier, workers=workers)
        if self.stop.interrupted:
            raise KeyboardInterrupt
        if self.stop.requested:
            client.call(Dispatcher.rest, SAVE_SECONDS)
            client.call(Dispatcher.unpause)

    def final(self, client: WorkersClient) -> None:
        """Score the best candidates again on other prompts and seeds, train each again, and choose the champion."""
        self.finale = run_final(client, self.config, self.records, self.layout, say=self._say)
        if self.judge is not None:
            self.opinion = self.judge.opinion(self.records, self.finale)
        self.sweep = sweep_strengths(client, self.config, self.finale, self.layout)

    def outcome(self, workers: int) -> SearchResult:
        """Write down what there is: champion, tables, result, report, MLflow's record, the last lines."""
        interrupted = self.status == INTERRUPTED
        # Interrupted, the final may have been reached, but not all that belongs to it.
        final, opinion, sweep = (None, None, None) if interrupted else (self.finale, self.opinion, self.sweep)
        self._settle_trials(interrupted=interrupted)
        model_uri = None
        if final is not None:
            self.status = CHAMPION
            write_champion(self.config, final, self.layout, self.setup, second_judge=opinion.line if opinion else "")
            won, adapter = final.champion, self.layout.champion
            trial, step, metrics = won.record.id, won.candidate.step, won.shipped.report.metrics
            champion = Champion(config=self.config, adapter=adapter, trial=trial, step=step, final=metrics)
            model_uri = self.tracker.champion(champion)
        if self.base is not None:
            shown: dict[str, Any] = {"prompt_sets": self.setup.prompt_sets, "other_sets": self.setup.other_sets}
            shown |= {"final": final, "sweep": sweep, "evaluation": self.config.evaluation}
            write_images(self.layout.image_table, base=self.base, records=self.records, **shown)
        result = build_result(
            self.config,
            self.folder.path,
            status=self.status,
            base=self.base,
            final=final,
            opinion=opinion,
            records=self.records,
            sweep=sweep,
            model_uri=model_uri,
            seconds=self.clock.seconds(),
            workers=workers,
            mlflow=self.tracker.as_result(),
            budget=self.monitor.as_result(self.clock.seconds()[TOTAL]) if self.monitor else None,
        )
        self.clock.save()
        figures = draw_figures(result, self.config)
        result.write()
        write_report(result, self.config, self.setup.split.reference, figures)
        write_trials(result.outcome.trials, self.folder.path)
        write_plots(figures, self.layout.plots)
        self.tracker.finish(self.records)
        if self.monitor is not None:
            self._say(self.monitor.summary(self.clock.seconds()[TOTAL]))
        self._say(*summary(result, final, self.address))
        return result

    def _settle_trials(self, *, interrupted: bool) -> None:
        """Say of trials that were cut off why; of an ended search nothing is kept from which others could resume."""
        cut_off = [record for record in self.records if record.state is JobState.RUNNING]
        for record in cut_off:
            record.reason = f"{self.stop.reason or self.status}; last scored at step {record.last_step}"
            if not interrupted:
                record.state = JobState.STOPPED
        if not interrupted:
            self.folder.remove_leftovers(kept=[record.id for record in cut_off])

    def _say(self, *lines: str) -> None:
        for line in lines:
            say(self.console, line)

    def _seconds_left(self) -> float | None:
        return self.monitor.seconds_left() if self.monitor is not None else None

    def _lost(self, reason: str) -> None:
        """Ray's head has died: the main thread may be in a call that never returns, so this one ends the process."""
        with suppress(OSError):
            os.write(2, f"\n{reason}\n{how_to_resume(self.folder.path, self.address)}\n".encode())
        end_now(exit_codes.INTERRUPTED)
