"""The final: who enters, who wins, and how sure we are."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from evaluation.config import ObjectiveConfig
from evaluation.objective import objective
from evaluation.scores import Anchors, ImageRow, score_rows
from search.champion import Final, JobFailedError, Verdict, run_final
from search.dispatch import Dispatch
from search.job import AnchorJob, Job, JobState, JobStatus, Report, ScoreJob
from search.record import TrialRecord

ANCHORS = Anchors(base_distance=1.0, real_distance=0.5, base_clip_score=30.0)
WEIGHTS = ObjectiveConfig()


class ScriptedDispatch:
    """Stands for the dispatcher and its seats: answers each job with images at given face distances.

    Their CLIP score is the base model's, 30, unless `clip_scores` has another for the trial.
    """

    def __init__(
        self, distances: Mapping[str, Sequence[float | None]], clip_scores: Mapping[str, float] | None = None
    ) -> None:
        self.distances = distances
        self.clip_scores = clip_scores or {}
        self.jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def status(self, job_id: str, *, reports: int = 0, timeout: float = 0.0) -> JobStatus:
        job = next(job for job in self.jobs if job.id == job_id)
        if isinstance(job, AnchorJob):
            report = Report(step=0, metrics=asdict(ANCHORS) | {"objective": 0.3}, rows=(), folder=job.folder)
        elif (name := job.id.removeprefix("final-")) in self.distances:
            clip_score = self.clip_scores.get(name, 30.0)
            rows = [
                ImageRow(prompt_index=n, seed=1, face_found=d is not None, face_distance=d, clip_score=clip_score)
                for n, d in enumerate(self.distances[name])
            ]
            scores = score_rows(rows, ANCHORS)
            metrics = {**scores.as_metrics(), "objective": objective(scores, WEIGHTS)}
            report = Report(step=0, metrics=metrics, rows=tuple(asdict(row) for row in rows), folder=job.folder)
        else:
            return JobStatus(id=job_id, state=JobState.FAILED, reason="the adapter is missing")
        return JobStatus(id=job_id, state=JobState.FINISHED, reports=(report,))


def trial(name: str, value: float, *, faceless_rate: float = 0.0) -> TrialRecord:
    record = TrialRecord(id=name, params={}, steps=100)
    metrics = {"objective": value, "likeness": value, "fidelity": 1.0 - value, "faceless_rate": faceless_rate}
    record.add(Report(step=100, metrics=metrics, rows=(), folder=Path(name) / "step-100"))
    return record


def final(
    dispatch: ScriptedDispatch, *records: TrialRecord, candidates: int = 2, rule: ObjectiveConfig = WEIGHTS
) -> Final | None:
    return run_final(
        cast(Dispatch, dispatch),
        records,
        Path("final"),
        candidates=candidates,
        objective=rule,
        confidence=0.95,
        seed=0,
    )


def noisy(mean: float) -> list[float]:
    return [float(value) for value in mean + np.random.default_rng(int(mean * 1000)).normal(0, 0.05, 24)]


def test_the_best_of_the_search_and_the_first_trial_enter_and_the_finals_best_wins() -> None:
    dispatch = ScriptedDispatch({"000": noisy(0.9), "002": noisy(0.8), "003": noisy(0.6)})
    outcome = final(dispatch, trial("000", 0.3), trial("001", 0.35), trial("002", 0.6), trial("003", 0.5))
    assert outcome is not None
    assert [job.id for job in dispatch.jobs] == ["base-final", "final-002", "final-003", "final-000"]
    assert {job.prompt_set for job in dispatch.jobs if isinstance(job, AnchorJob | ScoreJob)} == {"final"}
    assert [finalist.record.id for finalist in outcome.finalists] == ["003", "002", "000"]
    assert outcome.verdict is Verdict.BETTER
    assert outcome.choice == "the highest objective"
    assert outcome.difference is not None
    assert outcome.difference.mean == pytest.approx(
        outcome.champion.final.metrics["objective"] - outcome.finalists[2].final.metrics["objective"]
    )
    interval = outcome.champion.intervals["likeness"]
    assert interval.lower < outcome.champion.final.metrics["likeness"] < interval.upper


def test_what_the_images_cannot_tell_apart_is_a_tie() -> None:
    first = noisy(0.7)
    # Better by less than the images differ among themselves.
    second = [distance - 0.01 + 0.1 * (-1) ** n for n, distance in enumerate(first)]
    outcome = final(ScriptedDispatch({"000": first, "001": second}), trial("000", 0.4), trial("001", 0.5))
    assert outcome is not None
    assert outcome.champion.record.id == "001"
    assert outcome.verdict is Verdict.TIE
    assert outcome.difference is not None
    assert outcome.difference.lower <= 0 <= outcome.difference.upper


def test_the_first_trial_may_win_itself() -> None:
    outcome = final(ScriptedDispatch({"000": noisy(0.6), "001": noisy(0.9)}), trial("000", 0.6), trial("001", 0.5))
    assert outcome is not None
    assert (outcome.verdict, outcome.difference) == (Verdict.SAME, None)


def test_without_a_usable_candidate_there_is_no_final() -> None:
    dispatch = ScriptedDispatch({})
    assert final(dispatch, trial("000", -9.0, faceless_rate=1.0), TrialRecord(id="001", params={}, steps=9)) is None
    assert dispatch.jobs == []


def test_a_first_trial_without_a_candidate_is_not_compared() -> None:
    dispatch = ScriptedDispatch({"001": noisy(0.6)})
    outcome = final(dispatch, trial("000", -9.0, faceless_rate=1.0), trial("001", 0.5))
    assert outcome is not None
    assert (outcome.verdict, outcome.difference) == (Verdict.NOT_COMPARED, None)


def test_a_finalist_without_a_face_cannot_win() -> None:
    dispatch = ScriptedDispatch({"000": [None] * 24, "001": noisy(0.9)})
    outcome = final(dispatch, trial("000", 0.6), trial("001", 0.5))
    assert outcome is not None
    assert [finalist.record.id for finalist in outcome.finalists] == ["001"]
    assert outcome.verdict is Verdict.NOT_COMPARED
    assert final(ScriptedDispatch({"000": [None] * 24}), trial("000", 0.6)) is None


def test_a_final_that_cannot_be_scored_says_why() -> None:
    with pytest.raises(JobFailedError, match=r"final-001 failed: the adapter is missing"):
        final(ScriptedDispatch({"000": noisy(0.9)}), trial("000", 0.4), trial("001", 0.5))


def test_in_mode_pareto_the_rule_chooses_whatever_the_weights_say() -> None:
    # Objectives about 0.5 x 0.9 + 0.3 x 0.6 = 0.63 and 0.5 x 0.5 + 0.3 x 1 = 0.55.
    dispatch = ScriptedDispatch({"000": noisy(0.55), "001": noisy(0.75)}, {"000": 18.0})
    rule = ObjectiveConfig(mode="pareto", minimum_likeness=0.4)
    outcome = final(dispatch, trial("000", 0.9), trial("001", 0.5), trial("002", 0.3), candidates=1, rule=rule)
    assert outcome is not None
    assert [job.id for job in dispatch.jobs] == ["base-final", "final-001", "final-000"], "002 is not like enough"
    assert [finalist.record.id for finalist in outcome.finalists] == ["001", "000"]
    assert outcome.choice == "the highest fidelity at a likeness of 0.4 or more"
    assert outcome.verdict is Verdict.WORSE
    assert outcome.difference is not None
    assert outcome.difference.upper < 0
