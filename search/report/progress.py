"""Live progress on the terminal: what runs, how far it is, the best so far, and how long it will take."""

from __future__ import annotations

import math
import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from evaluation.measures import JUDGED_BY, METERS, OBJECTIVE, SEARCH_VALUE
from search.final.final import Final
from search.storage.clock import duration
from search.storage.result import SearchResult
from search.storage.resume import how_to_resume
from search.storage.trial_listener import TrialListener
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord

REFRESH_SECONDS = 1.0


SHOWN_TRIALS = 12
"""Rows of the live table: the newest trials."""


class Progress(TrialListener):
    """A live table where the output is a terminal, a line an event where it is a file or a pipe.

    Args:
        trials: Trials planned.
        records: The trials so far; the list grows while the search runs.
        steps: Asks how many optimizer steps each running trial has done, by trial id.
        console: Where to write.
        left: Seconds until the end of the search as it is predicted now; None where nothing is known yet.
    """

    def __init__(
        self,
        trials: int,
        records: Sequence[TrialRecord],
        steps: Callable[[], Mapping[str, int]],
        console: Console,
        left: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._trials = trials
        self._records = records
        self._ask_steps = steps
        self.steps: Mapping[str, int] = {}
        """Optimizer steps by trial, scored or not, as the workers last said."""
        self._console = console
        self._left = left
        self._began = time.monotonic()
        self._best: tuple[TrialRecord, CheckpointResult] | None = None
        for record in records:
            for report in record.checkpoints:
                self._compare(record, report)
        self._remarks: set[tuple[str, str]] = set()
        self._done = threading.Event()
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

    def checkpoint(self, record: TrialRecord, result: CheckpointResult) -> None:
        self._compare(record, result)
        unfit = f"  unfit: {'; '.join(result.unfit)}" if result.unfit else ""
        self._line(f"trial {record.id}  step {result.step:>5}/{record.steps}  {_scores(result)}{unfit}")
        self._remark(record, result.remarks)

    def ended(self, record: TrialRecord) -> None:
        note = f": {record.reason}" if record.reason else ""
        self._line(f"trial {record.id}  {record.state}{note}")
        self._remark(record, record.remarks)

    def done_share(self) -> float:
        """Share of the planned work that is done, [0, 1]; a stopped trial counts as done.

        Counted anew at each call from the trials as they are, by a sum that is rounded once: nothing adds up over
        calls. It falls where a trial lost its worker and resumes from its last checkpoint.
        """
        shares = [
            1.0 if record.is_over else min(self._done_steps(record) / record.steps, 1.0)
            for record in list(self._records)
            if record.state is not JobState.DUPLICATE
        ]
        return min(math.fsum(shares) / self._trials, 1.0)

    def _done_steps(self, record: TrialRecord) -> int:
        """As its worker last said, or its last checkpoint where that is newer."""
        return max(self.steps.get(record.id, 0), record.last_step)

    def _compare(self, record: TrialRecord, result: CheckpointResult) -> None:
        if self._best is None or _value(result) > _value(self._best[1]):
            self._best = (record, result)

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
        left = self._left()
        remaining = "measuring" if left is None else f"{duration(left)} left"
        best = f"best {self._best[1].metrics[OBJECTIVE]:.3f} (trial {self._best[0].id})" if self._best else "best -"
        return f"[{duration(elapsed)}, {self.done_share():4.0%}, {remaining}, {best}]"

    def _table(self) -> Table:
        table = Table(title=Text(self._clock()), title_justify="left", expand=False)
        for column in ("trial", "step", "objective", "likeness", "fidelity", "faceless", "state"):
            table.add_column(column, justify="left" if column == "state" else "right")
        for record in self._records[-SHOWN_TRIALS:]:
            best = record.best
            cells = [f"{best.metrics[name]:.3f}" for name in JUDGED_BY] if best else ["-"] * len(JUDGED_BY)
            star = " *" if self._best is not None and self._best[0] is record else ""
            table.add_row(record.id + star, f"{self._done_steps(record)}/{record.steps}", *cells, str(record.state))
        return table

    def poll(self) -> None:
        """Ask the workers how far they are."""
        self.steps = self._ask_steps()

    def _poll(self) -> None:
        while not self._done.wait(REFRESH_SECONDS):
            self.poll()


def _value(report: CheckpointResult) -> float:
    return report.metrics[SEARCH_VALUE]


def _scores(report: CheckpointResult) -> str:
    return "  ".join(f"{name} {report.metrics[name]:6.3f}" for name in JUDGED_BY)


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
    counts = ", ".join(f"{count} {state}" for state, count in states.items()) or "none"
    lines = [f"trials: {counts}"]
    if final is None:
        lines.append(f"no champion: {result.values['status']}")
    else:
        champion, metrics = final.champion, final.champion.shipped.report.metrics
        values = "  ".join(f"{name} {metrics[name]:.3f} (base {final.base.metrics[name]:.3f})" for name in JUDGED_BY)
        meters = "  ".join(f"{name} {metrics[name]:.3f}" for name in METERS if name in metrics)
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
    lines.append(f"compare: mlflow ui --backend-store-uri {shlex.quote(result.values['mlflow']['tracking_uri'])}")
    if result.interrupted:
        lines.append(how_to_resume(result.folder, address))
    return lines


def say(console: Console, line: str) -> None:
    """Print a line as it is: no markup, for texts come from anywhere."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
