"""The second opinion: whether another face model, which steered nothing, would have chosen the same champion.

A search that follows one face model may find what pleases that model and nobody else (Gao et al. 2022,
arXiv:2210.10760), so it helps to ask another. It looks at the images that the search has made, warns and never
overrules. Its likeness has anchors of its own, for its distances have a scale of their own. What it decides, it decides
by the same rule over the same trainings: a second judge that is the first one agrees always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from scipy import stats

from evaluation.bootstrap import Interval, paired_difference_interval
from evaluation.config import FaceConfig
from evaluation.measures import LIKENESS, METRICS, OBJECTIVE, SECOND_LIKENESS
from evaluation.scores import Anchors
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig
from search.final.final import Final, decide_final
from search.final.finalist import Finalist, Retraining, configuration_values, finalist_of
from search.storage.trial_record import CheckpointResult, TrialRecord
from search.workers.client import JobFailedError, WorkersClient
from search.workers.jobs import JudgeJob

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
    """Bootstrap interval over its trainings and the final's images, with the second judge's own anchors."""
    objective: float
    """In the final, over the same, with this judge's faces in place of the first one's."""


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
        text = "agrees" if self.agrees else "disagrees"
        if self.lead is not None:
            text += ", though " if self.agrees else ": "
            text += f"it prefers trial {self.prefers} by {self.lead.mean:.3f} of objective"
            if self.agrees:
                text += ", which is within the noise of these images"
        correlation = self.correlation
        ranks = (
            f"rank correlation over {correlation.trials} trials: tau {correlation.kendall:.2f}, "
            f"rho {correlation.spearman:.2f}"
            if correlation.kendall is not None
            else f"no rank correlation: {correlation.reason}"
        )
        return f"{'' if self.agrees else 'warning: '}second judge {self.judge.name}: {text} ({ranks})"

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
    return {"recognizer": judge.recognizer_name, "detector": judge.detector, "reason": "", **nothing, **values}


@dataclass(frozen=True, kw_only=True)
class SecondJudgeClient:
    """Asks the second judge of a search, which has shown at its start that it can judge."""

    client: WorkersClient
    judge: FaceConfig
    anchors: Anchors
    """On the validation prompts."""
    config: SearchConfig
    """The search, whose rule decides."""
    layout: RunLayout | None = None
    """Of the run folder, which keeps what it measured: a resumed search does not ask again. None keeps nothing."""

    @classmethod
    def begin(
        cls, client: WorkersClient, config: SearchConfig, base: CheckpointResult, layout: RunLayout | None = None
    ) -> SecondJudgeClient | None:
        """Have it judge the untuned model, so that one who cannot judge is refused before hours of search.

        Args:
            client: Hands the judging to the workers.
            config: The search, as resolved.
            base: The untuned model on the validation prompts.
            layout: Of the run folder that keeps what it measured.

        Returns:
            None for a search without a second judge.

        Raises:
            JobFailedError: it cannot be used; the message says why, and the remedy.
        """
        judge = config.evaluation.second_judge
        if judge is None:
            return None
        try:
            anchors = _judge(client, {"base-validation": base}, layout)["base-validation"].anchors()
        except (JobFailedError, ValueError) as error:
            raise JobFailedError(
                f"the second judge {judge.name} cannot be used: {error}; set another evaluation.second_judge, or none"
            ) from error
        return cls(
            client=client,
            judge=judge,
            anchors=anchors,
            config=config,
            layout=layout,
        )

    def opinion(self, records: Sequence[TrialRecord], final: Final) -> SecondOpinion | NoOpinion:
        """Have it judge every trial's best checkpoint and the final. Whatever fails here costs no champion.

        Args:
            records: All trials.
            final: The outcome, which is left as it is.
        """
        try:
            return self._opinion(records, final)
        except (JobFailedError, ValueError) as error:
            return NoOpinion(judge=self.judge, reason=str(error))

    def _opinion(self, records: Sequence[TrialRecord], final: Final) -> SecondOpinion:
        best = {record.id: record.best for record in records if record.best is not None}
        retrained = {
            f"final-{one.record.id}-seed-{again.seed}": again.report
            for one in final.finalists
            for again in one.retrained
            if again.report is not None
        }
        judged = _judge(
            self.client,
            {
                **{f"trial-{name}": report for name, report in best.items()},
                "base-final": final.base,
                **{f"final-{one.record.id}": one.final for one in final.finalists},
                **retrained,
            },
            self.layout,
        )
        objective = self.config.evaluation.objective
        trials = {
            name: float(judged[f"trial-{name}"].values(self.anchors, objective)[LIKENESS].mean()) for name in best
        }
        base = judged["base-final"]
        finalists = [_seen(one, judged, base, self.config) for one in final.finalists]
        fit = [one for one in finalists if not one.unfit]
        values = {one.record.id: configuration_values(one, base, self.config)[OBJECTIVE] for one in fit}
        decision = decide_final(self.config, fit, values)
        champion, lead = final.champion.record.id, None
        if decision.winner != champion:
            lead = paired_difference_interval(
                values[decision.winner],
                values[champion],
                seed=self.config.seed,
                level=self.config.final.confidence,
            )
        return SecondOpinion(
            judge=self.judge,
            trials=trials,
            correlation=rank_correlation(
                [report.metrics[LIKENESS] for report in best.values()], [trials[name] for name in best]
            ),
            finalists=tuple(
                JudgedFinalist(
                    trial=one.record.id,
                    likeness=one.across_seeds[LIKENESS],
                    objective=one.across_seeds[OBJECTIVE].mean,
                )
                for one in finalists
            ),
            champion=champion,
            prefers=decision.winner,
            lead=lead,
        )


def _seen(
    finalist: Finalist, judged: Mapping[str, CheckpointResult], base: CheckpointResult, config: SearchConfig
) -> Finalist:
    """A finalist as the second judge sees it; what makes it unfit is the first judge's."""
    name = finalist.record.id

    def seen(report: CheckpointResult, key: str) -> CheckpointResult:
        own = judged[key]
        values = own.values(base.anchors(), config.evaluation.objective)[OBJECTIVE]
        return replace(own, metrics={**own.metrics, OBJECTIVE: float(values.mean())}, unfit=report.unfit)

    def again(training: Retraining) -> Retraining:
        if training.report is None:
            return training
        return replace(training, report=seen(training.report, f"final-{name}-seed-{training.seed}"))

    return finalist_of(
        config,
        (finalist.record, finalist.candidate),
        seen(finalist.final, f"final-{name}"),
        tuple(again(training) for training in finalist.retrained),
        base,
    )


def _judge(
    client: WorkersClient, results: Mapping[str, CheckpointResult], layout: RunLayout | None
) -> dict[str, CheckpointResult]:
    """Have the workers judge the images of scored checkpoints; what they measured by the same names.

    What was judged before the search was resumed is read from the run folder.

    Raises:
        JobFailedError: the images of one could not be judged.
    """
    kept = {name: layout.second_judge_of(result.folder) for name, result in results.items()} if layout else {}
    judged = {name: known for name, folder in kept.items() if (known := CheckpointResult.find(folder))}
    missing = [name for name in results if name not in judged]
    jobs = [JudgeJob(id=f"second-judge-{name}", folder=results[name].folder) for name in missing]
    for name, measured in zip(missing, client.run(jobs), strict=True):
        judged[name] = measured
        if name in kept:
            measured.write(kept[name])
    return judged


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
