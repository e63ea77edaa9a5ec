"""The second opinion: whether another face model, which steered nothing, would have chosen the same champion. Pure.

A search that follows one face model may find what pleases that model and nobody else (Gao et al. 2022,
arXiv:2210.10760), so it helps to ask another. It warns and never overrules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scipy import stats

from evaluation.bootstrap import Interval
from evaluation.config import FaceConfig
from evaluation.scores import METRICS, SECOND_LIKENESS

FEWEST_TRIALS = 3
"""Below this many trials a rank correlation says nothing: two always agree or always disagree."""


@dataclass(frozen=True, kw_only=True)
class RankCorrelation:
    """How alike two judges order the trials by likeness: 1 the same order, -1 the reverse."""

    trials: int
    kendall: float | None
    """Kendall's tau-b, [-1, 1], which minds ties; None with a reason."""
    spearman: float | None
    """Spearman's rho, [-1, 1]; None with a reason."""
    reason: str = ""
    """Why there is none."""


@dataclass(frozen=True, kw_only=True)
class JudgedFinalist:
    """A finalist in the second judge's eyes."""

    trial: str
    likeness: Interval
    """Bootstrap interval over the final's images, with the second judge's own anchors."""
    objective: float
    """In the final, with this likeness in place of the first judge's."""


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """What the second judge says."""

    judge: FaceConfig
    trials: Mapping[str, float]
    """Its likeness of every trial's best checkpoint, by trial, on the validation images."""
    correlation: RankCorrelation
    finalists: tuple[JudgedFinalist, ...]
    """In the final's order."""
    champion: str
    """The trial that won the final."""
    prefers: str
    """The trial that it would put first; the champion among equals."""
    lead: Interval | None
    """By how much, in its eyes: objective of that trial less the champion's, paired by prompt and seed; None if that is
    the champion."""

    def __post_init__(self) -> None:
        for likeness in self.trials.values():
            METRICS[SECOND_LIKENESS].check(likeness)

    @property
    def agrees(self) -> bool:
        """Whether it would have chosen the champion, too, or the images cannot tell its choice from the champion."""
        return self.lead is None or self.lead.lower <= 0.0

    @property
    def line(self) -> str:
        """What there is to say, in one line."""
        told = "agrees" if self.agrees else "disagrees"
        if self.lead is not None:
            told += ", though " if self.agrees else ": "
            told += f"it prefers trial {self.prefers} by {self.lead.mean:.3f} of objective"
            if self.agrees:
                told += ", which is within the noise of these images"
        correlation = self.correlation
        ranks = (
            f"rank correlation over {correlation.trials} trials: tau {correlation.kendall:.2f}, "
            f"rho {correlation.spearman:.2f}"
            if correlation.kendall is not None
            else f"no rank correlation: {correlation.reason}"
        )
        return f"{'' if self.agrees else 'warning: '}second judge {self.judge.name}: {told} ({ranks})"

    def as_metrics(self) -> dict[str, float]:
        """How well the judges agree, by name, for tracking; what is unknown is left out."""
        values = {
            "second_judge_kendall": self.correlation.kendall,
            "second_judge_spearman": self.correlation.spearman,
            "second_judge_agrees": float(self.agrees),
        }
        return {name: value for name, value in values.items() if value is not None}

    def as_result(self) -> dict[str, Any]:
        """Its entry in the result."""
        return _entry(
            self.judge,
            summary=self.line,
            agrees=self.agrees,
            prefers=self.prefers,
            lead=asdict(self.lead) if self.lead else None,
            rank_correlation=asdict(self.correlation),
            trials=dict(self.trials),
            finalists=[
                {
                    "trial": finalist.trial,
                    "likeness": finalist.likeness.mean,
                    "interval": [finalist.likeness.lower, finalist.likeness.upper],
                    "objective": finalist.objective,
                }
                for finalist in self.finalists
            ],
        )


@dataclass(frozen=True, kw_only=True)
class NoOpinion:
    """There is none, and why."""

    judge: FaceConfig
    reason: str

    @property
    def line(self) -> str:
        """What there is to say, in one line."""
        return f"second judge {self.judge.name}: no second opinion: {self.reason}"

    def as_result(self) -> dict[str, Any]:
        """Its entry in the result: the same keys as an opinion's."""
        return _entry(self.judge, summary=self.line, reason=self.reason)


def _entry(judge: FaceConfig, **values: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {
        "agrees": None,
        "prefers": None,
        "lead": None,
        "rank_correlation": None,
        "trials": {},
        "finalists": [],
    }
    return {"recognizer": judge.recognizer, "detector": judge.detector, "reason": "", **nothing, **values}


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> RankCorrelation:
    """Kendall's tau-b and Spearman's rho of two judges' likeness, trial by trial.

    Args:
        first: One finite value a trial.
        second: The same trials in the same order.
    """
    reason = ""
    if len(first) < FEWEST_TRIALS:
        reason = f"{len(first)} scored trials, at least {FEWEST_TRIALS} are needed"
    else:
        for name, values in (("first", first), ("second", second)):
            if len(set(values)) == 1:
                reason = f"the {name} judge gives all trials the same likeness"
    if reason:
        return RankCorrelation(trials=len(first), kendall=None, spearman=None, reason=reason)
    return RankCorrelation(
        trials=len(first),
        kendall=float(stats.kendalltau(first, second, variant="b").statistic),
        spearman=float(stats.spearmanr(first, second).statistic),
    )
