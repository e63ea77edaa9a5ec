"""The driver's parts, watched from outside: clocks around the functions in which a search spends its time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages.journal import JournalFileBackend
from ray.tune.execution.tune_controller import TuneController

import search.workers.pool
from benchmarks.scale.growth import Sample
from benchmarks.scale.nested_clocks import NestedClocks, PartTime
from benchmarks.scale.simulated_worker import serve_simulated
from search.final.export import export_champion
from search.report.figures import draw_figures, write_plots
from search.report.outcome import build_result
from search.report.progress import Progress
from search.report.report_page import write_report
from search.report.tables import write_images, write_trials
from search.storage.result import SearchResult
from search.study.callback import TrialCallback
from search.study.samplers.learning_curves import CurveSampler
from search.study.samplers.study_sampler import StudySampler
from search.study.scheduler import AshaScheduler
from search.tracking.mlflow_writer import MlflowWriter
from search.tracking.tracker import Tracker
from search.workers.client import WorkersClient
from search.workers.dispatcher import Dispatcher

REST = "Tune's loop, the rest"

WATCHED: tuple[tuple[Any, tuple[str, ...], str], ...] = (
    (TPESampler, ("sample_relative", "sample_independent", "infer_relative_search_space"), "sampler, its model"),
    (CurveSampler, ("sample_relative",), "sampler, its model"),
    (BaseSampler, ("before_trial", "after_trial"), "sampler, its model"),
    (StudySampler, ("suggest", "on_trial_result", "on_trial_complete", "save"), "sampler, trials asked and told"),
    (JournalFileBackend, ("append_logs", "read_logs"), "journal file"),
    (AshaScheduler, ("on_trial_result",), "scheduler"),
    (TrialCallback, ("on_trial_start", "on_trial_result", "on_trial_complete"), "callback and records"),
    (WorkersClient, ("status",), "dispatcher calls"),
    (Tracker, ("changed",), "MLflow, what it is to show"),
    (MlflowWriter, ("write",), "MLflow itself, in its thread"),
    (SystemMetricsMonitor, ("collect_metrics",), "machine metrics, in their thread"),
    (Progress, ("checkpoint", "ended"), "progress"),
    (WorkersClient, ("steps",), "progress, in its thread"),
    (TuneController, ("checkpoint",), "Tune's snapshots"),
    (TuneController, ("step",), REST),
)
"""Functions by their part; what one calls of the others counts for the other."""

CONCLUDING: tuple[tuple[Any, str, str], ...] = (
    (SearchResult, "write", "result.json"),
    (Tracker, "champion", "MLflow takes the champion, and what it has not heard yet"),
    (Tracker, "__exit__", "MLflow takes the rest"),
)
"""Functions of classes that end a search."""

CONCLUDING_FUNCTIONS: tuple[tuple[Callable[..., Any], str], ...] = (
    (build_result, "gathering the result"),
    (write_images, "images.parquet"),
    (draw_figures, "figures"),
    (write_report, "report.html"),
    (write_plots, "plots"),
    (write_trials, "table of the trials"),
    (export_champion, "champion's files"),
)
"""Functions of modules that do."""


class DriverParts:
    """Looks at the driver of the search that this process runs next, whose workers are simulated from now on.

    Args:
        marks: Numbers of ended trials to look at, ascending.
    """

    def __init__(self, marks: Sequence[int]) -> None:
        self._marks = tuple(marks)
        self._clocks = NestedClocks()
        self._ended = 0
        self._process = psutil.Process()
        self.samples: list[Sample] = []
        """One for every mark that was passed."""
        setattr(search.workers.pool, "serve", serve_simulated)  # noqa: B010 - a name that the module only imports
        for owner, functions, part in WATCHED:
            for function in functions:
                self._clocks.watch(owner, function, part)
        for owner, name, part in CONCLUDING:
            self._clocks.watch(owner, name, part)
        for concluding, part in CONCLUDING_FUNCTIONS:
            self._watch_everywhere(concluding, part)
        # Around the clocks, so that a look counts for nobody but Tune's loop.
        completed = TrialCallback.on_trial_complete

        def on_trial_complete(callback: TrialCallback, *arguments: Any, **options: Any) -> None:
            completed(callback, *arguments, **options)
            self._ended += 1
            if self._ended in self._marks:
                self.samples.append(self._look())

        setattr(TrialCallback, "on_trial_complete", on_trial_complete)  # noqa: B010 - its type says less

    def _watch_everywhere(self, function: Callable[..., Any], part: str) -> None:
        """Watch a function under its name in every module of the search that has imported it."""
        for name, module in list(sys.modules.items()):
            if name.startswith("search.") and vars(module).get(function.__name__) is function:
                self._clocks.watch(module, function.__name__, part)

    def conclusion(self) -> dict[str, PartTime]:
        """What has been done once, at the end of the search, by part."""
        names = [*(part for _, _, part in CONCLUDING), *(part for _, part in CONCLUDING_FUNCTIONS)]
        measured = self._clocks.read()
        return {name: measured[name] for name in names}

    def _look(self) -> Sample:
        times = self._process.cpu_times()
        return Sample(
            trials=self._ended,
            wall=time.perf_counter(),
            cpu=times.user + times.system,
            parts={part: measured.cpu for part, measured in self._clocks.read().items()},
            driver_memory=self._process.memory_info().rss,
            dispatcher_memory=_dispatcher(self._process).memory_info().rss,
        )


def _dispatcher(driver: psutil.Process) -> psutil.Process:
    """The dispatcher's process, which Ray names after its class."""
    named = [
        child for child in driver.children(recursive=True) if _title(child).startswith(f"ray::{Dispatcher.__name__}")
    ]
    assert len(named) == 1, f"{len(named)} processes are the dispatcher's"
    return named[0]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # ended meanwhile
