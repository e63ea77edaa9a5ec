"""The budget of a search: what a second costs, which limit comes first, and who watches over it while trials run."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from types import TracebackType
from typing import Any

from search.config.search_config import SearchConfig
from search.config.sections import BudgetConfig, SeatsConfig
from search.storage.clock import duration
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.forecast import CLOSING_SECONDS, Pace, Workload, makespan
from search.study.ranking import finalists


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What a search uses up while it runs, whether its workers have work or not: they are reserved all the time."""

    units: float
    """GPUs that all workers reserve together, or their number where there are no GPUs."""
    unit: str
    """`GPU` or `worker`."""
    price: float | None = None
    """Of one unit's hour."""

    @classmethod
    def of(cls, workers: SeatsConfig, count: int, budget: BudgetConfig, *, gpus: bool) -> Rate:
        """What `count` workers reserve."""
        units = count * workers.workers * workers.gpus_per_worker if gpus else count
        return cls(units=units, unit="GPU" if gpus else "worker", price=budget.gpu_hour_price)

    def hours(self, seconds: float) -> float:
        """The units' hours together."""
        return self.units * seconds / 3600

    def cost(self, seconds: float) -> float | None:
        """What that time costs; None without a price."""
        return None if self.price is None else self.hours(seconds) * self.price

    def words(self, seconds: float) -> str:
        """The time, the hours and the cost of it, for people."""
        cost = self.cost(seconds)
        priced = "" if cost is None else f", cost {cost:.2f}"
        return f"{duration(seconds)}, {self.hours(seconds):.2f} {self.unit} hours{priced}"

    def as_result(self, seconds: float) -> dict[str, float | None]:
        """The same as the result file holds it."""
        cost = self.cost(seconds)
        return {
            "seconds": round(seconds, 1),
            "hours": round(self.hours(seconds), 4),
            "price": None if cost is None else round(cost, 4),
        }


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The limit of a budget that is reached first."""

    seconds: float = math.inf
    """From the start of the search; infinite where there is no limit."""
    name: str = ""
    """The limit, in words."""


def first_limit(budget: BudgetConfig, rate: Rate) -> Limit:
    """Which limit ends a search, and after how many seconds."""
    limits = [Limit()]
    if budget.max_minutes is not None:
        limits.append(Limit(seconds=budget.max_minutes * 60, name=f"{budget.max_minutes:g} minutes"))
    if budget.max_gpu_hours is not None:
        name = f"{budget.max_gpu_hours:g} {rate.unit} hours"
        limits.append(Limit(seconds=budget.max_gpu_hours * 3600 / rate.units, name=name))
    if budget.max_cost is not None and budget.gpu_hour_price is not None:
        hours = budget.max_cost / budget.gpu_hour_price
        limits.append(Limit(seconds=hours * 3600 / rate.units, name=f"a cost of {budget.max_cost:g}"))
    return min(limits, key=lambda limit: limit.seconds)


MARGIN = 1.15
"""How much longer than predicted a final may take."""

FORECAST_AFTER = 2
"""Trials that have ended when the forecast of the result is made."""

POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Seconds of a search from its start to its result, as it would go on without a budget."""

    search_end: float
    """When the last trial ends."""
    final: float
    """Of the final."""

    @property
    def total(self) -> float:
        return self.search_end + self.final + CLOSING_SECONDS


@dataclass(eq=False)
class BudgetMonitor:
    """Predicts the whole search, and asks for the study's end before the budget ends, which includes the final.

    The study is ended while there is still time for one scoring that cannot be broken off, for the final at the
    measured pace with `MARGIN` beyond, and for writing everything down. Use it as a context manager around the study:
    it looks once a second, in a thread of its own.
    """

    config: SearchConfig
    _: KW_ONLY
    rate: Rate
    """What the search's time costs."""
    workers: int
    """How many trials are trained side by side."""
    base: CheckpointResult
    """The untuned model on the validation prompts."""
    judging: float = 0.0
    """Seconds in which the second judge looked at these images; 0 without one."""
    elapsed: Callable[[], float]
    """Seconds since the start of the search."""
    records: Sequence[TrialRecord]
    """The trials so far, by number; the list grows while the study runs."""
    steps: Callable[[], Mapping[str, int]]
    """Optimizer steps by trial, scored or not. Must not block: the limit would be missed."""
    request: Callable[[str], None]
    """Asks for the end of the study, with a reason in words; called once at most."""
    say: Callable[[str], None]
    """Prints a line: the forecast."""
    first: Forecast | None = field(default=None, init=False)
    """What was predicted when `FORECAST_AFTER` trials had ended."""
    cut_off: str = field(default="", init=False)
    """Why the study was ended before its last trial; empty if the budget did not end it."""

    def __post_init__(self) -> None:
        self._work = Workload.of(self.config)
        self.limit = first_limit(self.config.budget, self.rate)
        self._newest: Forecast | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="budget", daemon=True)

    def __enter__(self) -> BudgetMonitor:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=5)
        if kind is None:  # the last trials may have ended since the thread looked
            self._forecast(*self._known())

    def look(self) -> None:
        """Decide and predict, by what is known now."""
        records, paces = self._known()
        if self.limit.name and not self.cut_off and self.elapsed() >= self._latest(records, paces):
            self.cut_off = f"the budget of {self.limit.name} is used up but for the final"
            self.request(self.cut_off)
        self._forecast(records, paces)

    def _known(self) -> tuple[list[TrialRecord], dict[str, Pace]]:
        records = [record for record in list(self.records) if record.state is not JobState.DUPLICATE]
        return records, {record.id: Pace.of(tuple(record.checkpoints)) for record in records if record.checkpoints}

    def _forecast(self, records: Sequence[TrialRecord], paces: Mapping[str, Pace]) -> None:
        if not paces:
            return
        self._newest = self._predict(records, paces)
        if self.first is None and sum(record.is_over for record in records) >= FORECAST_AFTER:
            self.first = self._newest
            self.say(self._line(self.first))

    def seconds_left(self) -> float | None:
        """Until the end of the search as predicted now, the final included; None before a checkpoint was scored."""
        return None if self._newest is None else max(0.0, self._total(self._newest) - self.elapsed())

    def as_result(self, elapsed: float) -> dict[str, Any]:
        """The budget's part of `cost` in the result file: truth and forecast.

        Args:
            elapsed: Seconds that the search has taken.
        """
        forecast = None
        if self.first is not None:
            predicted = self._total(self.first)
            error = round(predicted / elapsed - 1, 4)
            forecast = {"after_trials": FORECAST_AFTER, **self.rate.as_result(predicted), "error": error}
        return {
            **self.rate.as_result(elapsed),
            "unit": f"{self.rate.unit} hours",
            "limit": {"name": self.limit.name, **self.rate.as_result(self.limit.seconds)} if self.limit.name else None,
            "cut_off": self.cut_off,
            "forecast": forecast,
        }

    def summary(self, elapsed: float) -> str:
        """Truth and forecast in a line."""
        predicted = "" if self.first is None else f" (predicted {duration(self._total(self.first))})"
        cut = f"; {self.cut_off}" if self.cut_off else ""
        return f"took {self.rate.words(elapsed)}{predicted}{cut}"

    def _poll(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.look()

    def _predict(self, records: Sequence[TrialRecord], paces: Mapping[str, Pace]) -> Forecast:
        work, mean, steps_now = self._work, Pace.mean(list(paces.values())), self.steps()
        going_on = work.going_on(records)
        running = []
        for record in records:
            if not record.is_over:
                done = max(steps_now.get(record.id, 0), record.last_step)
                share = 1.0 if record.number < work.exempt else going_on
                pace = replace(mean, step=paces.get(record.id, mean).step)
                running.append(work.seconds(work.expected(record.steps, going_on=share, done=done), pace))
        coming = [work.seconds(trial, mean) for trial in work.coming(records)]
        return Forecast(
            search_end=self.elapsed() + makespan(coming, self.workers, running),
            final=self._final(records, paces, missing=True),
        )

    def _total(self, forecast: Forecast) -> float:
        """With the budget's end: a search that is cut off uses its budget up, as far as it is meant to."""
        return min(forecast.total, max(self.limit.seconds, forecast.final + CLOSING_SECONDS))

    def _line(self, forecast: Forecast) -> str:
        cut = "" if forecast.total <= self.limit.seconds else f"; the budget of {self.limit.name} ends it before"
        return (
            f"forecast after {FORECAST_AFTER} trials: {self.rate.words(forecast.total)} "
            f"(of it {duration(forecast.final)} for the final){cut}"
        )

    def _latest(self, records: Sequence[TrialRecord], paces: Mapping[str, Pace]) -> float:
        """The time at which the study has to end."""
        longest = max((report.scoring_seconds for record in records for report in record.checkpoints), default=0.0)
        final = self._final(records, paces) if paces else 0.0
        return self.limit.seconds - longest - final * MARGIN - CLOSING_SECONDS

    def _final(self, records: Sequence[TrialRecord], paces: Mapping[str, Pace], *, missing: bool = False) -> float:
        """Seconds of the final and of the second judge, at the pace and with the best trials of now.

        Args:
            records: The trials.
            paces: By trial.
            missing: Also for the candidates that there are not yet, as of mean length.
        """
        work, mean = self._work, Pace.mean(list(paces.values()))
        entrants = finalists(records, self.config.evaluation.objective, self.config.final.candidates)
        # A trial may have got its first checkpoint since the paces were measured.
        trainings = [candidate.step * paces.get(record.id, mean).step for record, candidate in entrants]
        if missing:
            trainings += [work.mean_steps * mean.step] * (work.entrant_count - len(trainings))
        return work.final_seconds(
            trainings,
            image=mean.image,
            workers=self.workers,
            judging=self.judging,
            anchors=self.base.scoring_seconds * work.final_images / work.images,
        )
