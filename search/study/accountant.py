"""The accountant: measures what trials take, foretells the whole search, and asks for its end before the budget ends.

The budget includes the final. The study is ended while there is still time for that: one scoring that cannot be broken
off, the final at the measured pace with `MARGIN` beyond, and the writing down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from types import TracebackType
from typing import Any

from search.config.search_config import SearchConfig
from search.storage.clock import duration
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.budget import Rate, first_limit
from search.study.forecast import Forecast, Pace, final_seconds, makespan
from search.study.workload import Workload

MARGIN = 1.15
"""How much longer than foretold a final may take."""

CLOSING_SECONDS = 15.0
"""For the champion's files, the report, MLflow's registry and the workers' leaving."""

FORECAST_AFTER = 2
"""Trials that have ended when the search is first foretold."""

POLL_SECONDS = 1.0

OVER = {JobState.FINISHED, JobState.STOPPED, JobState.FAILED}


@dataclass(frozen=True, kw_only=True)
class Before:
    """What was measured before the first trial."""

    base: CheckpointResult
    """The untuned model on the validation prompts."""
    judging: float = 0.0
    """Seconds in which the second judge looked at these images; 0 without one."""


class BudgetMonitor:
    """Use it as a context manager around the study: it looks once a second, in a thread of its own.

    Args:
        config: The search.
        rate: What its time costs.
        seats: How many trials are trained side by side.
        before: What was measured before the first trial.
        elapsed: Seconds since the start of the search.
        records: The trials so far.
        steps: Optimizer steps by trial, scored or not.
        request: Asks for the end of the study, with a reason in words; called once at most.
        say: Is told the forecast, a line.
    """

    def __init__(
        self,
        config: SearchConfig,
        *,
        rate: Rate,
        workers: int,
        before: Before,
        elapsed: Callable[[], float],
        records: Callable[[], Sequence[TrialRecord]],
        steps: Callable[[], Mapping[str, int]],
        request: Callable[[str], None],
        say: Callable[[str], None],
    ) -> None:
        self._config = config
        self._work = Workload.of(config)
        self._rate = rate
        self._workers = workers
        self._before = before
        self._elapsed = elapsed
        self._records = records
        self._steps = steps
        self._request = request
        self._say = say
        self.limit = first_limit(config.budget, rate)
        self.first: Forecast | None = None
        """What was foretold when `FORECAST_AFTER` trials had ended."""
        self.cut_off = ""
        """Why the study was ended before its last trial; empty if the budget did not end it."""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="accountant", daemon=True)

    def __enter__(self) -> BudgetMonitor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=5)

    def look(self) -> None:
        """Foretell and decide, by what is known now."""
        records = [record for record in self._records() if record.state is not JobState.DUPLICATE]
        ended = sum(record.state in OVER for record in records)
        if self.first is None and ended >= FORECAST_AFTER and self._paces(records):
            self.first = self.forecast()
            self._say(self._line(self.first))
        if not self.cut_off and self._elapsed() >= self._latest(records):
            self.cut_off = f"the budget of {self.limit.name} is used up but for the final"
            self._request(self.cut_off)

    def forecast(self) -> Forecast:
        """The whole search as it would go on without a budget. Only once a checkpoint was scored."""
        records = [record for record in self._records() if record.state is not JobState.DUPLICATE]
        paces = self._paces(records)
        step = fmean(pace.step for pace in paces.values())
        image = fmean(pace.image for pace in paces.values())
        rungs = self._work.rungs(records)
        steps_now = self._steps()
        running = []
        for record in records:
            if record.state not in OVER:
                done = max(steps_now.get(record.id, 0), record.checkpoints[-1].step if record.checkpoints else 0)
                spared = int(record.id) < self._work.spared
                checkpoints = self._work.checkpoints(record.steps)
                left = rungs.expected(checkpoints, done, spared=spared)
                rungs = rungs.after([checkpoints], done, spared=spared)
                own = paces.get(record.id, Pace(step=step, image=image))
                running.append(left[0] * own.step + left[1] * image * self._work.images)
        coming = [
            steps * step + scored * image * self._work.images
            for steps, scored in self._work.coming(len(records), rungs)
        ]
        return Forecast(
            search_end=self._elapsed() + makespan(coming, self._workers, running),
            final=self._final(records, entrants=self._work.entrant_count()),
            closing=CLOSING_SECONDS,
        )

    def as_result(self, elapsed: float) -> dict[str, Any]:
        """The budget's part of `cost` in the result: truth and forecast.

        Args:
            elapsed: Seconds that the search has taken.
        """
        foretold = None if self.first is None else self._total(self.first)
        return {
            **self._rate.as_result(elapsed),
            "unit": f"{self._rate.unit} hours",
            "limit": {"name": self.limit.name, **self._rate.as_result(self.limit.seconds)} if self.limit.name else None,
            "cut_off": self.cut_off,
            "forecast": None
            if foretold is None
            else {
                "after_trials": FORECAST_AFTER,
                **self._rate.as_result(foretold),
                "error": round(foretold / elapsed - 1, 4),
            },
        }

    def summary(self, elapsed: float) -> str:
        """Truth and forecast in a line."""
        foretold = "" if self.first is None else f" (foretold {duration(self._total(self.first))})"
        cut = f"; {self.cut_off}" if self.cut_off else ""
        return f"took {self._rate.words(elapsed)}{foretold}{cut}"

    def _poll(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.look()

    def _total(self, forecast: Forecast) -> float:
        """With the budget's end: a search that is cut off uses its budget up, as far as it is meant to."""
        return min(forecast.total, max(self.limit.seconds, forecast.final + forecast.closing))

    def _line(self, forecast: Forecast) -> str:
        line = (
            f"forecast after {FORECAST_AFTER} trials: {self._rate.words(forecast.total)} "
            f"(of it {duration(forecast.final)} for the final)"
        )
        return (
            line if forecast.total <= self.limit.seconds else f"{line}; the budget of {self.limit.name} ends it before"
        )

    def _latest(self, records: Sequence[TrialRecord]) -> float:
        """The time at which the study has to end."""
        reports = [report for record in records for report in record.checkpoints]
        longest = max((report.scoring_seconds for report in reports), default=0.0)
        final = self._final(records, entrants=len(self._work.entrants(records))) if self._paces(records) else 0.0
        return self.limit.seconds - longest - final * MARGIN - CLOSING_SECONDS

    def _final(self, records: Sequence[TrialRecord], *, entrants: int) -> float:
        """Seconds of the final and of the second judge, at the pace and with the best trials of now.

        Args:
            records: The trials.
            entrants: Candidates that there will be; beyond those of now of mean length.
        """
        paces = self._paces(records)
        image = fmean(pace.image for pace in paces.values())
        step = fmean(pace.step for pace in paces.values())
        scoring = image * self._work.final_images
        best = self._work.entrants(records)
        trainings = [candidate.step * paces[record.id].step for record, candidate in best]
        trainings += [self._work.mean_steps * step] * (entrants - len(best))
        base = self._before.base
        judged = self._work.trials + 1 + len(trainings)
        return final_seconds(
            trainings=trainings,
            entrants=len(trainings),
            retrain=self._config.final.retrain,
            scoring=scoring,
            anchors=base.scoring_seconds * self._work.final_images / self._work.images,
            workers=self._workers,
        ) + makespan([self._before.judging] * judged, self._workers)

    @staticmethod
    def _paces(records: Sequence[TrialRecord]) -> dict[str, Pace]:
        """By trial, for those that have a checkpoint."""
        paces = {}
        for record in records:
            reports = list(record.checkpoints)
            if reports:
                images = sum(len(report.rows) + len(report.other_rows) for report in reports)
                paces[record.id] = Pace(
                    step=sum(report.training_seconds for report in reports) / reports[-1].step,
                    image=sum(report.scoring_seconds for report in reports) / images,
                )
        return paces
