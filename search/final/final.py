"""The final: the best candidates once more, on prompts and seeds that did not steer the search, and trained again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from evaluation.bootstrap import Interval, Values, paired_difference_interval
from evaluation.measures import FACELESS_RATE, FIDELITY, LIKENESS, OBJECTIVE
from evaluation.pareto import Point
from evaluation.scores import Anchors
from search.config.run_layout import RunLayout, checkpoint_folder
from search.config.search_config import SearchConfig
from search.final.decision import Decision, Entrant, decide, decide_by_front
from search.final.finalist import Finalist, Retraining, configuration_values, finalist_of
from search.storage.result import NO_CANDIDATE
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.ranking import Candidate
from search.study.ranking import finalists as choose_finalists
from search.workers.client import WorkersClient, measure_anchors
from search.workers.jobs import Job, JobStatus, ScoreJob, TrainJob


class NoCandidateError(RuntimeError):
    """No trial has a candidate that may win; the message says why."""


class Verdict(StrEnum):
    """The champion against the first trial (by default the homework's configuration), in the final."""

    BETTER = "better"
    """The interval of the paired difference of objectives lies above 0."""
    TIE = "tie"
    """It holds 0: the images at hand cannot tell them apart."""
    WORSE = "worse"
    """It lies below 0: the rule of mode `pareto` may prefer what the weights do not."""
    SAME = "same"
    """The champion IS the first trial."""
    NOT_COMPARED = "not compared"
    """The first trial has no candidate that may win."""


@dataclass(frozen=True, kw_only=True)
class Final:
    """The outcome of a search."""

    base: CheckpointResult
    """The untuned model on the final prompts and seeds."""
    finalists: tuple[Finalist, ...]
    """The highest mean objective over all trainings first; those that proved unfit last."""
    champion: Finalist
    decision: Decision
    verdict: Verdict
    difference: Interval | None
    """Champion minus first trial, objective, paired by prompt and seed; None where they are not compared."""


def run_final(
    client: WorkersClient,
    config: SearchConfig,
    records: Sequence[TrialRecord],
    layout: RunLayout,
    *,
    say: Callable[[str], None],
) -> Final:
    """Score the best candidates and the first trial's on the final prompts and seeds, train each again, and decide.

    Args:
        client: Hands the work to the workers.
        config: The search.
        records: All trials.
        layout: Of the run folder, which gets one folder a finalist and one a retraining.
        say: Is given a line each time that a part is done.

    Raises:
        NoCandidateError: no trial has a candidate that is fit to win, in the search or in the final.
        JobFailedError: the final could not be scored; the message says why.
    """
    entrants = choose_finalists(records, config.evaluation.objective, config.final.candidates)
    if not entrants:
        raise NoCandidateError(_why_none(records))
    say(f"final: {len(entrants)} candidates on new prompts and seeds, each trained again {config.final.retrain} times")
    base, _ = measure_anchors(client, layout, "final")
    finalists = _score(client, config, entrants, base, layout, say)
    fit = [finalist for finalist in finalists if not finalist.unfit]
    if not fit:
        reasons = "; ".join(f"trial {one.record.id}: {', '.join(one.unfit)}" for one in finalists)
        raise NoCandidateError(f"{NO_CANDIDATE} in the final: {reasons}")
    values = {one.record.id: configuration_values(one, base, config)[OBJECTIVE] for one in fit}
    decision = decide_final(config, fit, values)
    places = {standing.id: place for place, standing in enumerate(decision.standings)}
    finalists.sort(key=lambda one: places.get(one.record.id, len(places)))
    verdict, difference = Verdict.NOT_COMPARED, None
    if records[0].id == decision.winner:
        verdict = Verdict.SAME
    elif records[0].id in values:
        difference = paired_difference_interval(
            values[decision.winner], values[records[0].id], seed=config.seed, level=config.final.confidence
        )
        verdict = Verdict.BETTER if difference.lower > 0 else Verdict.WORSE if difference.upper < 0 else Verdict.TIE
    for one in finalists:
        if any(again.report is None for again in one.retrained):
            say(f"final: trial {one.record.id}, trainings: {one.trainings}")
    return Final(
        base=base,
        finalists=tuple(finalists),
        champion=next(one for one in finalists if one.record.id == decision.winner),
        decision=decision,
        verdict=verdict,
        difference=difference,
    )


def decide_final(config: SearchConfig, finalists: Sequence[Finalist], values: Mapping[str, Values]) -> Decision:
    """The rule of a final.

    Args:
        config: The search.
        finalists: Those that may win, at least one.
        values: Objective of every image by trial, [runs, prompts, seeds] (`configuration_values`).
    """
    entrants = [
        Entrant(
            id=one.record.id,
            cost=one.candidate.parameters * one.candidate.step,
            objective=values[one.record.id],
        )
        for one in finalists
    ]
    rule, confidence = config.evaluation.objective, config.final.confidence
    if rule.mode == "weighted":
        return decide(entrants, confidence=confidence, seed=config.seed, indifference=config.final.indifference)
    points = [
        Point(
            likeness=one.across_seeds[LIKENESS].mean,
            fidelity=one.across_seeds[FIDELITY].mean,
            faceless_rate=one.across_seeds[FACELESS_RATE].mean,
        )
        for one in finalists
    ]
    return decide_by_front(entrants, points, rule, confidence=confidence, seed=config.seed)


def _score(
    client: WorkersClient,
    config: SearchConfig,
    entrants: Sequence[Candidate],
    base: CheckpointResult,
    layout: RunLayout,
    say: Callable[[str], None],
) -> list[Finalist]:
    anchors = base.anchors()
    scoring = [
        ScoreJob(
            id=f"final-{record.id}",
            folder=layout.finalist(record.id, candidate.step),
            adapter=candidate.folder,
            prompt_set="final",
            anchors=anchors,
        )
        for record, candidate in entrants
    ]
    training = [
        _retraining(config, entrant, number + 1, anchors, layout)
        for entrant in entrants
        for number in range(config.final.retrain)
    ]
    # All at once, so that no worker idles; what cannot be scored is known before the long trainings.
    # But for what an earlier part of the search has done: that lies there already.
    scored = {job.id: known for job in scoring if (known := CheckpointResult.find(job.folder))}
    trained = {job.id: known for job in training if (known := CheckpointResult.find(_checkpoint(job)))}
    every: list[Job] = [*scoring, *training]
    jobs = [job for job in every if job.id not in scored and job.id not in trained]
    for job in jobs:
        client.submit(job)
    missing = [job for job in scoring if job.id not in scored]
    scored |= dict(zip((job.id for job in missing), client.run(missing), strict=True))
    reports = [scored[job.id] for job in scoring]
    outcomes = []
    for number, again in enumerate(training, start=1):
        if again.id in trained:
            outcomes.append(Retraining(seed=again.config.seed, report=trained[again.id]))
        else:
            outcomes.append(_outcome(again.config.seed, client.wait(again)))
        say(f"final: {number} of {len(training)} trainings with other seeds done")
    times = config.final.retrain
    return [
        finalist_of(config, entrant, report, tuple(outcomes[place * times : (place + 1) * times]), base)
        for place, (entrant, report) in enumerate(zip(entrants, reports, strict=True))
    ]


def _retraining(config: SearchConfig, entrant: Candidate, number: int, anchors: Anchors, layout: RunLayout) -> TrainJob:
    record, candidate = entrant
    seed = config.trial_seed(record.number, retraining=number)
    return TrainJob(
        id=f"final-{record.id}-seed-{seed}",
        folder=layout.retraining(record.id, seed),
        config=config.training_config(record.params, seed=seed),
        score_at=(candidate.step,),
        anchors=anchors,
        prompt_set="final",
    )


def _checkpoint(job: TrainJob) -> Path:
    """Folder of the one checkpoint that a retraining scores."""
    return checkpoint_folder(job.folder, job.score_at[-1])


def _outcome(seed: int, status: JobStatus) -> Retraining:
    if status.state is JobState.FINISHED and status.checkpoints:
        return Retraining(seed=seed, report=status.checkpoints[0])
    return Retraining(seed=seed, report=None, reason=status.reason or "it reported nothing")


def _why_none(records: Sequence[TrialRecord]) -> str:
    """The reasons, the most frequent first."""
    reasons = [reason for record in records if record.best for reason in record.best.unfit]
    reasons += [record.reason for record in records if record.best is None and record.reason]
    counted = sorted({reason: reasons.count(reason) for reason in reasons}.items(), key=lambda item: -item[1])
    return NO_CANDIDATE + "".join(f"; {reason}" for reason, _ in counted[:3])
