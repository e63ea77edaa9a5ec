"""What became of every trial: the one place where states, reports and times of a search meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evaluation.scores import OBJECTIVE, SEARCH_VALUE
from search.job import JobState, Report
from search.space import Value

EFFORTS = ("training_seconds", "scoring_seconds", "training_cpu_seconds", "scoring_cpu_seconds")
"""Fields of a report that add up over a trial."""


@dataclass(kw_only=True)
class TrialRecord:
    """One trial."""

    id: str
    params: Mapping[str, Value]
    """As sampled."""
    steps: int
    """Optimizer steps planned."""
    state: JobState = JobState.RUNNING
    reason: str = ""
    """Why it failed or was stopped, in words."""
    reports: list[Report] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    """How it has lost its workers, in words, one each time; it went on from its last state."""
    same_as: str = ""
    """Of a duplicate: the trial whose result stands for it."""
    seconds: float = 0.0
    """From being proposed to its end, waiting for a seat included."""

    @classmethod
    def of_duplicate(cls, name: str, params: Mapping[str, Value], steps: int, first: str) -> TrialRecord:
        """A trial whose configuration another one had first."""
        reason = f"the same configuration as trial {first}, not trained again"
        return cls(id=name, params=params, steps=steps, state=JobState.DUPLICATE, reason=reason, same_as=first)

    @property
    def best(self) -> Report | None:
        """The scored checkpoint with the highest search value, the earlier of equals; None if none was scored."""
        return _best(self.reports)

    @property
    def candidate(self) -> Report | None:
        """The best of the checkpoints that are fit to win; None if there is nothing to send into the final."""
        return _best([report for report in self.reports if not report.unfit])

    @property
    def remarks(self) -> tuple[str, ...]:
        """Of all its reports, each once, in the order in which they came up; then how it has lost its workers."""
        return tuple(dict.fromkeys([*(remark for report in self.reports for remark in report.remarks), *self.losses]))

    def add(self, report: Report) -> bool:
        """Note a report; False if its step is known already (a trial's actor died and passes its reports on again)."""
        if any(known.step == report.step for known in self.reports):
            return False
        self.reports.append(report)
        return True

    def as_result(self, first: TrialRecord | None = None) -> dict[str, Any]:
        """This trial's entry in `result.json`; a duplicate's figures are those of the first with its configuration."""
        best = first.best if first is not None else self.best
        return {
            "id": self.id,
            "state": str(self.state),
            "reason": self.reason,
            "params": dict(self.params),
            "best_step": best.step if best else None,
            "metrics": dict(best.metrics) if best else {},
            "unfit": list(best.unfit) if best else [],
            "remarks": list(self.remarks),
            "checkpoints": [{"step": report.step, "objective": report.metrics[OBJECTIVE]} for report in self.reports],
            "seconds": round(self.seconds, 3),
            **self._efforts(),
        }

    def _efforts(self) -> dict[str, float | None]:
        """What its scored checkpoints took; None where there is none, or one of them was not measured so."""
        efforts = {}
        for name in EFFORTS:
            parts = [getattr(report, name) for report in self.reports]
            efforts[name] = None if not parts or None in parts else round(sum(parts), 3)
        return efforts


def _best(reports: Sequence[Report]) -> Report | None:
    return max(reports, key=lambda report: (report.metrics[SEARCH_VALUE], -report.step), default=None)


def ranked(records: list[TrialRecord]) -> list[TrialRecord]:
    """Trials that have a candidate, the best objective first; the earlier trial of equals first."""
    usable = [(record.candidate, record) for record in records]
    order = [(report.metrics[OBJECTIVE], record) for report, record in usable if report is not None]
    return [record for _, record in sorted(order, key=lambda pair: -pair[0])]
