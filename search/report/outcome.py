"""The outcome of a search: what the result file is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.bootstrap import Interval
from search.config.run_layout import ANCHORS_FILE, RunLayout
from search.config.search_config import SearchConfig
from search.final.final import Final
from search.final.finalist import Finalist
from search.final.second_opinion import NoOpinion, SecondOpinion
from search.final.strengths import Sweep
from search.storage.result import SearchResult
from search.storage.result_schema import (
    AgainstFirstTrial,
    AmongFinalists,
    AnchorsResult,
    BaseResult,
    BudgetResult,
    ChampionResult,
    Cost,
    FinalistResult,
    FinalMetrics,
    FrontPoint,
    MlflowResult,
    Outcome,
    RetrainingResult,
    SecondJudgeResult,
    StrengthsResult,
    TrialResult,
)
from search.storage.trial_record import CheckpointResult, TrialRecord
from search.study.ranking import front_as_result


def build_result(
    config: SearchConfig,
    folder: Path,
    *,
    status: str,
    base: CheckpointResult | None,
    final: Final | None,
    opinion: SecondOpinion | NoOpinion | None,
    records: Sequence[TrialRecord],
    sweep: Sweep | None = None,
    model_uri: str | None,
    seconds: dict[str, float],
    workers: int,
    mlflow: MlflowResult,
    budget: dict[str, Any] | None = None,
) -> SearchResult:
    """Gather the outcome.

    Args:
        config: The search, as resolved.
        folder: The run folder; paths in the result are relative to it.
        status: `champion`, or why there is none.
        base: The untuned model on the validation prompts; None if that could not be measured.
        final: None if there was no candidate.
        opinion: The second judge's; None if there is no second judge, or no champion to judge.
        records: All trials.
        sweep: The champion at several strengths; None if that was not asked for, or there is no champion.
        model_uri: Where MLflow has registered the champion; None if it could not.
        seconds: Wall-clock seconds by phase: `start`, `search`, `final`, `total`.
        workers: How many trained side by side.
        budget: What the budget monitor says of time, cost, forecast and limit; None if no trial began.
        mlflow: Where MLflow keeps the search.
    """
    first = {record.id: record for record in records}
    searched = [report for record in records for report in record.checkpoints]
    retrained = _retrainings(final)
    reports = [*searched, *retrained, *_scored(base, final), *(report for _, report in (sweep.drawn if sweep else ()))]
    untuned = [each for each in (base, final.base if final else None) if each is not None]
    outcome = Outcome(
        name=config.name,
        status=status,
        objective=asdict(config.evaluation.objective) | {"protocol": config.evaluation.protocol},
        limits=asdict(config.evaluation.limits),
        base=BaseResult(
            search=dict(base.metrics) if base else {},
            final=dict(final.base.metrics) if final else {},
            remarks=tuple(dict.fromkeys(remark for report in untuned for remark in report.remarks)),
        ),
        anchors=_anchors(base, final, folder),
        champion=_champion(final, folder, model_uri) if final else None,
        finalists=tuple(_finalist(final, finalist) for finalist in final.finalists) if final else (),
        second_judge=SecondJudgeResult.model_validate(opinion.as_result()) if opinion else None,
        strengths=StrengthsResult.model_validate(sweep.as_result(folder)) if sweep else None,
        front=tuple(
            FrontPoint.model_validate(point) for point in front_as_result(records, config.evaluation.objective)
        ),
        trials=tuple(TrialResult.model_validate(record.as_result(first.get(record.same_as))) for record in records),
        seconds={phase: round(value, 3) for phase, value in seconds.items()},
        cost=Cost(
            seats=workers,
            training_seconds=round(sum(report.training_seconds for report in reports), 3),
            scoring_seconds=round(sum(report.scoring_seconds for report in reports), 3),
            optimizer_steps=sum(record.checkpoints[-1].step for record in records if record.checkpoints)
            + sum(report.step for report in retrained),
            images=sum(len(report.rows) + len(report.other_rows) for report in reports),
            budget=BudgetResult.model_validate(budget) if budget else None,
        ),
        mlflow=mlflow,
    )
    return SearchResult(folder=folder, outcome=outcome)


def _champion(final: Final, folder: Path, model_uri: str | None) -> ChampionResult:
    champion = final.champion
    return ChampionResult(
        trial=champion.record.id,
        step=champion.candidate.step,
        params=dict(champion.record.params),
        search=dict(champion.candidate.metrics),
        final=_with_intervals(champion.shipped.report, champion.shipped.intervals),
        shipped_seed=champion.shipped.seed,
        retrained=_retrained(champion),
        across_seeds=dict(champion.across_seeds),
        trainings=champion.trainings,
        among_finalists=AmongFinalists(
            verdict="tie" if final.decision.tied else "winner",
            leader=final.decision.standings[0].id,
            tied=tuple(final.decision.tied),
        ),
        choice=final.decision.reason,
        against_first_trial=AgainstFirstTrial(verdict=str(final.verdict), difference=final.difference),
        adapter=RunLayout(folder).champion.name,
        model_uri=model_uri,
    )


def _finalist(final: Final, finalist: Finalist) -> FinalistResult:
    behind = {standing.id: standing.behind for standing in final.decision.standings}
    return FinalistResult(
        trial=finalist.record.id,
        step=finalist.candidate.step,
        search=dict(finalist.candidate.metrics),
        final=_with_intervals(finalist.final, finalist.intervals),
        unfit=tuple(finalist.unfit),
        retrained=_retrained(finalist),
        across_seeds=dict(finalist.across_seeds),
        trainings=finalist.trainings,
        behind_leader=behind.get(finalist.record.id),
    )


def _retrainings(final: Final | None) -> list[CheckpointResult]:
    finalists = final.finalists if final else ()
    return [again.report for finalist in finalists for again in finalist.retrained if again.report is not None]


def _scored(base: CheckpointResult | None, final: Final | None) -> list[CheckpointResult]:
    """Reports of what was only scored: the untuned model, and the finalists' adapters in the final."""
    finals = [final.base, *(finalist.final for finalist in final.finalists)] if final else []
    return [*([base] if base else []), *finals]


def _retrained(finalist: Finalist) -> tuple[RetrainingResult, ...]:
    return tuple(
        RetrainingResult(
            seed=again.seed, metrics=dict(again.report.metrics) if again.report else {}, reason=again.reason
        )
        for again in finalist.retrained
    )


def _anchors(base: CheckpointResult | None, final: Final | None, folder: Path) -> dict[str, AnchorsResult]:
    """The anchors of likeness by prompt set, and the file that lists what was paired with what."""
    reports = {"validation": base, "final": final.base if final else None}
    return {
        name: AnchorsResult(
            **{**vars(anchors), "faceless_prompts": tuple(sorted(anchors.faceless_prompts))},
            pairings=str((report.folder / ANCHORS_FILE).relative_to(folder)),
        )
        for name, report in reports.items()
        if report is not None and (anchors := report.anchors())
    }


def _with_intervals(report: CheckpointResult, intervals: Mapping[str, Interval]) -> FinalMetrics:
    ends = {name: (interval.lower, interval.upper) for name, interval in intervals.items()}
    return FinalMetrics.model_validate({**report.metrics, "intervals": ends})
