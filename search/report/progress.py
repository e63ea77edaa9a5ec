"""Live progress on the terminal: what runs, how far it is, the best so far, and how long it will take."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from evaluation.scores import (
    FACELESS_RATE,
    FIDELITY,
    LEAKAGE,
    LIKENESS,
    LIKENESS_SPREAD,
    MEMORISATION,
    OBJECTIVE,
    SEARCH_VALUE,
)
from search.final.final import Final
from search.storage.clock import duration
from search.storage.result import SearchResult
from search.storage.resume import how_to_go_on
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord

REFRESH_SECONDS = 1.0


class Progress:
    """A live table where the output is a terminal, a line an event where it is a file or a pipe.

    Args:
        trials: Trials planned.
        steps: Asks how many optimizer steps each running trial has done, by trial id.
        console: Where to write.
    """

    def __init__(self, trials: int, steps: Callable[[], dict[str, int]], console: Console) -> None:
        self._trials = trials
        self._ask_steps = steps
        self._console = console
        self._began = time.monotonic()
        self._records: dict[str, TrialRecord] = {}
        self._steps: dict[str, int] = {}
        self._share_before = 0.0
        self._best: tuple[TrialRecord, CheckpointResult] | None = None
        self._remarks: set[tuple[str, str]] = set()
        self._done = threading.Event()
        self._lock = threading.RLock()
        self._live: AbstractContextManager[Live | None] = (
            Live(console=console, get_renderable=self._table, refresh_per_second=2)
            if console.is_terminal
            else nullcontext()
        )
        self._thread = threading.Thread(target=self._poll, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        self._live.__enter__()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=5)
        self._live.__exit__(kind, error, trace)

    def recall(self, records: Sequence[TrialRecord]) -> None:
        """What earlier parts of the search have done: it counts as done, but does not tell how long the rest takes."""
        with self._lock:
            for record in records:
                self._records[record.id] = record
                if record.best is not None and (self._best is None or _value(record.best) > _value(self._best[1])):
                    self._best = (record, record.best)
                if record.checkpoints:
                    self._steps[record.id] = record.checkpoints[-1].step
            self._share_before = self.done_share()

    def started(self, record: TrialRecord) -> None:
        """A trial begins."""
        with self._lock:
            self._records[record.id] = record

    def reported(self, record: TrialRecord, report: CheckpointResult) -> None:
        """A checkpoint was scored."""
        with self._lock:
            self._steps[record.id] = report.step
            if self._best is None or _value(report) > _value(self._best[1]):
                self._best = (record, report)
        unfit = f"  unfit: {'; '.join(report.unfit)}" if report.unfit else ""
        self._line(f"trial {record.id}  step {report.step:>5}/{record.steps}  {_scores(report)}{unfit}")
        self._remark(record, report.remarks)

    def ended(self, record: TrialRecord) -> None:
        """A trial has ended, one way or another."""
        note = f": {record.reason}" if record.reason else ""
        self._line(f"trial {record.id}  {record.state}{note}")
        self._remark(record, record.remarks)

    def done_share(self) -> float:
        """Share of the planned work that is done, [0, 1]; a stopped trial counts as done.

        Counted anew at each call from the trials as they are, by a sum that is rounded once: nothing adds up over
        calls. It falls where a trial lost its worker and goes on from its last checkpoint.
        """
        with self._lock:
            shares = [
                1.0 if _over(record) else min(self._steps.get(record.id, 0) / record.steps, 1.0)
                for record in self._records.values()
                if record.state is not JobState.DUPLICATE
            ]
        return min(math.fsum(shares) / self._trials, 1.0)

    def _remark(self, record: TrialRecord, remarks: Sequence[str]) -> None:
        """Each remark once a trial."""
        for remark in remarks:
            if (record.id, remark) not in self._remarks:
                self._remarks.add((record.id, remark))
                self._say(f"trial {record.id}  {remark}")

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            self._say(text)

    def _say(self, text: str) -> None:
        """A line of its own, above the table where there is one."""
        # No markup: reasons come from anywhere, and many hold brackets.
        self._console.print(f"{self._clock()}  {text}", markup=False, highlight=False, soft_wrap=True)

    def _clock(self) -> str:
        elapsed = time.monotonic() - self._began
        share = self.done_share()
        best = f"best {self._best[1].metrics[OBJECTIVE]:.3f} (trial {self._best[0].id})" if self._best else "best -"
        done = share - self._share_before
        left = f"{duration(elapsed * (1 - share) / done)} left" if done > 0.02 else "measuring"
        return f"[{duration(elapsed)}, {share:4.0%}, {left}, {best}]"

    def _table(self) -> Table:
        table = Table(title=Text(self._clock()), title_justify="left", expand=False)
        for column in ("trial", "step", "objective", "likeness", "fidelity", "faceless", "state"):
            table.add_column(column, justify="left" if column == "state" else "right")
        with self._lock:
            for record in list(self._records.values())[-12:]:
                best = record.best
                cells = (
                    [f"{best.metrics[name]:.3f}" for name in (OBJECTIVE, LIKENESS, FIDELITY, FACELESS_RATE)]
                    if best
                    else ["-"] * 4
                )
                star = " *" if self._best is not None and self._best[0] is record else ""
                table.add_row(
                    record.id + star, f"{self._steps.get(record.id, 0)}/{record.steps}", *cells, str(record.state)
                )
        return table

    def _poll(self) -> None:
        while not self._done.wait(REFRESH_SECONDS):
            steps = self._ask_steps()
            with self._lock:
                self._steps.update(steps)


def _value(report: CheckpointResult) -> float:
    return report.metrics[SEARCH_VALUE]


def _over(record: TrialRecord) -> bool:
    return record.state not in {JobState.QUEUED, JobState.RUNNING}


def _scores(report: CheckpointResult) -> str:
    return "  ".join(f"{name} {report.metrics[name]:6.3f}" for name in (OBJECTIVE, LIKENESS, FIDELITY, FACELESS_RATE))


def summary(result: SearchResult, final: Final | None, address: str | None) -> list[str]:
    """What is said when a search ends.

    Args:
        result: What it wrote.
        final: None if it has no champion.
        address: Of the Ray cluster that was used; None for this machine.
    """
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
    return lines


def tell(console: Console, line: str) -> None:
    """Print a line as it is: no markup, for what is told comes from anywhere."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
