"""The final: who enters, who wins, and how sure we are."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.config import ObjectiveConfig
from evaluation.image_row import ImageRow
from evaluation.objective import objective
from evaluation.scores import Anchors, candidate_metrics
from search.config.run_layout import RunLayout
from search.config.search_config import RETRAINING_SEED_STRIDE, SearchConfig, load_config
from search.final.final import Final, NoCandidateError, Verdict, run_final
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.workers.client import JobFailedError, WorkersClient
from search.workers.jobs import DIVERGED, AnchorJob, Job, JobStatus, ScoreJob, TrainJob

ANCHORS = Anchors.between(untuned_distance=1.0, real_distance=0.5, clip_score=30.0)

Distances = Sequence[float | None]

DIVERGES: Distances = (math.inf,)
"""In place of the distances: the training diverges."""


class ScriptedDispatch(WorkersClient):
    """Stands for the dispatcher and its workers: answers each job with images at given face distances.

    Args:
        distances: By trial; the retrainings of a trial draw what it draws, unless they have an entry of their own
            (`ID/NUMBER`, from 1).
        unfit: By trial, why its images of the final make it unfit.
    """

    def __init__(self, distances: Mapping[str, Distances], unfit: Mapping[str, str] | None = None) -> None:
        super().__init__(handle=None)
        object.__setattr__(self, "distances", distances)
        object.__setattr__(self, "unfit", unfit or {})
        object.__setattr__(self, "jobs", [])

    distances: Mapping[str, Distances]
    unfit: Mapping[str, str]
    jobs: list[Job]

    def submit(self, job: Job) -> None:
        if job.id not in [known.id for known in self.jobs]:
            self.jobs.append(job)

    def status(self, job_id: str, *, reports: int = 0, timeout: float = 0.0) -> JobStatus:
        job = next((job for job in self.jobs if job.id == job_id), None)
        if job is None:
            from search.workers.dispatcher import UnknownJobError

            raise UnknownJobError(job_id)
        if isinstance(job, AnchorJob):
            rows = [ImageRow.of(n, 1, face_distance=1.0, clip_score=30.0) for n in range(24)]
            report = scored(job.folder, rows, {"real_face_distance": 0.5})
            return JobStatus(id=job_id, state=JobState.FINISHED, checkpoints=(report,))
        trial = job_id.split("-")[1]
        number = job.config.seed // RETRAINING_SEED_STRIDE if isinstance(job, TrainJob) else 0
        found = self.distances.get(f"{trial}/{number}", self.distances.get(trial))
        if not found or found == DIVERGES:
            reason = DIVERGED + "the loss is not finite" if found == DIVERGES else "the adapter is missing"
            return JobStatus(id=job_id, state=JobState.FAILED, reason=reason)
        rows = [ImageRow.of(n, 1, face_distance=d, clip_score=30.0) for n, d in enumerate(found)]
        report = scored(job.folder, rows, unfit=(self.unfit[trial],) if trial in self.unfit else ())
        return JobStatus(id=job_id, state=JobState.FINISHED, checkpoints=(report,))


def scored(
    folder: Path, rows: Sequence[ImageRow], extra: Mapping[str, float] | None = None, unfit: tuple[str, ...] = ()
) -> CheckpointResult:
    weights = ObjectiveConfig()
    metrics = candidate_metrics(rows, ANCHORS, weights)
    value = objective(metrics, weights)
    values = {**metrics, "objective": value, "search_value": value, "excess": 0.0, **(extra or {})}
    return CheckpointResult(step=0, metrics=values, rows=tuple(rows), folder=folder, unfit=unfit)


@pytest.fixture
def config(document: dict[str, Any], write_config: Callable[[dict[str, Any]], Path]) -> SearchConfig:
    document["final"] |= {"candidates": 2, "retrain": 2}
    return load_config(write_config(document))


def trial(name: str, value: float, *, rank: int = 8, unfit: tuple[str, ...] = ()) -> TrialRecord:
    record = TrialRecord(id=name, params={"rank": rank}, steps=100)
    metrics = {"objective": value, "search_value": value - bool(unfit)}
    record.add(
        CheckpointResult(
            step=100,
            metrics=metrics,
            rows=(),
            folder=Path(name) / "step-100",
            unfit=unfit,
            parameters=1000 * rank,
        )
    )
    return record


def final(
    client: ScriptedDispatch, config: SearchConfig, *records: TrialRecord, told: list[str] | None = None
) -> Final:
    return run_final(client, config, records, RunLayout(Path("run")), say=(told if told is not None else []).append)


def noisy(mean: float, seed: int = 0) -> list[float | None]:
    return [float(value) for value in mean + np.random.default_rng(seed).normal(0, 0.05, 24)]


def test_the_best_of_the_search_and_the_first_trial_enter_and_all_are_trained_again(config: SearchConfig) -> None:
    client = ScriptedDispatch({"000": noisy(0.9), "002": noisy(0.8, 1), "003": noisy(0.6, 2)})
    told: list[str] = []
    records = [trial("000", 0.3), trial("001", 0.35), trial("002", 0.6), trial("003", 0.5)]
    outcome = final(client, config, *records, told=told)
    scored = [job for job in client.jobs if isinstance(job, ScoreJob)]
    assert [job.id for job in scored] == ["final-002", "final-003", "final-000"]
    assert {job.prompt_set for job in client.jobs if isinstance(job, AnchorJob | ScoreJob | TrainJob)} == {"final"}
    trained = [job for job in client.jobs if isinstance(job, TrainJob)]
    assert [job.config.seed for job in trained] == [1000002, 2000002, 1000003, 2000003, 1000000, 2000000]
    assert all(job.score_at == (100,) and job.config.rank == 8 for job in trained)
    assert len({job.folder for job in client.jobs}) == len(client.jobs)
    assert [finalist.record.id for finalist in outcome.finalists] == ["003", "002", "000"]
    assert outcome.champion.record.id == "003"
    assert [again.seed for again in outcome.champion.retrained] == [1000003, 2000003]
    assert outcome.verdict is Verdict.BETTER
    assert outcome.difference is not None
    means = [finalist.across_seeds["objective"].mean for finalist in outcome.finalists]
    assert outcome.difference.mean == pytest.approx(means[0] - means[2])
    interval = outcome.champion.intervals["likeness"]
    assert interval.lower < outcome.champion.final.metrics["likeness"] < interval.upper
    assert told[0] == "final: 3 candidates on new prompts and seeds, each trained again 2 times"
    assert told[-1] == "final: 6 of 6 trainings with other seeds done"


def test_without_retraining_one_run_decides(config: SearchConfig) -> None:
    once = config.model_copy(update={"final": config.final.model_copy(update={"retrain": 0})})
    client = ScriptedDispatch({"000": noisy(0.9), "001": noisy(0.6)})
    outcome = final(client, once, trial("000", 0.3), trial("001", 0.5))
    assert outcome.champion.record.id == "001"
    assert outcome.champion.across_seeds == outcome.champion.intervals
    assert not [job for job in client.jobs if isinstance(job, TrainJob)]


def test_luck_with_the_training_seed_does_not_win(config: SearchConfig) -> None:
    """001 was the best of the search and is the best adapter of the final; trained again it is no better than 000."""
    client = ScriptedDispatch({"000": noisy(0.7), "001": noisy(0.6), "001/1": noisy(0.75), "001/2": noisy(0.76)})
    outcome = final(client, config, trial("000", 0.4, rank=4), trial("001", 0.5, rank=16))
    assert outcome.finalists[-1].final.metrics["likeness"] > outcome.finalists[0].final.metrics["likeness"]
    assert outcome.champion.record.id == "000"
    assert outcome.verdict is Verdict.SAME


def test_what_the_images_cannot_tell_apart_is_a_tie_and_the_cheaper_wins(config: SearchConfig) -> None:
    first = noisy(0.7)
    # Better by less than the images differ among themselves.
    second = [(distance or 0) - 0.004 + 0.1 * (-1) ** n for n, distance in enumerate(first)]
    client = ScriptedDispatch({"000": first, "001": second})
    outcome = final(client, config, trial("000", 0.4, rank=8), trial("001", 0.5, rank=4))
    assert outcome.champion.record.id == "001"
    assert outcome.decision.tied == ("000",)
    assert outcome.verdict is Verdict.TIE
    assert outcome.difference is not None
    assert outcome.difference.lower <= 0 <= outcome.difference.upper
    swapped = final(client, config, trial("000", 0.4, rank=4), trial("001", 0.5, rank=8))
    assert (swapped.champion.record.id, swapped.verdict) == ("000", Verdict.SAME)
    assert swapped.decision.standings[0].id == "001", "the highest mean is told all the same"


def test_without_a_usable_candidate_there_is_no_final(config: SearchConfig) -> None:
    client = ScriptedDispatch({})
    failed = TrialRecord(id="001", params={}, steps=9, reason="the loss is not finite")
    with pytest.raises(NoCandidateError, match=r"no usable candidate; it draws no face; the loss is not finite"):
        final(client, config, trial("000", -9.0, unfit=("it draws no face",)), failed)
    assert client.jobs == []


def test_a_first_trial_without_a_candidate_is_not_compared(config: SearchConfig) -> None:
    client = ScriptedDispatch({"001": noisy(0.6)})
    outcome = final(client, config, trial("000", -9.0, unfit=("it draws no face",)), trial("001", 0.5))
    assert (outcome.verdict, outcome.difference) == (Verdict.NOT_COMPARED, None)


def test_what_proves_unfit_in_the_final_cannot_win(config: SearchConfig) -> None:
    distances = {"000": noisy(0.5), "001": noisy(0.9)}
    unfit = {"000": "memorisation 0.50 is above 0.1"}
    outcome = final(ScriptedDispatch(distances, unfit), config, trial("000", 0.6), trial("001", 0.5))
    assert outcome.champion.record.id == "001"
    assert [finalist.record.id for finalist in outcome.finalists] == ["001", "000"]
    assert outcome.finalists[1].unfit == ("memorisation 0.50 is above 0.1",)
    assert outcome.verdict is Verdict.NOT_COMPARED
    with pytest.raises(NoCandidateError, match=r"in the final: trial 000: memorisation 0.50 is above 0.1"):
        final(ScriptedDispatch({"000": noisy(0.5)}, unfit), config, trial("000", 0.6))


def test_a_training_that_fails_the_second_time_is_told_and_costs_nothing_else(config: SearchConfig) -> None:
    client = ScriptedDispatch({"000": noisy(0.9), "001": noisy(0.6), "001/2": ()})
    told: list[str] = []
    outcome = final(client, config, trial("000", 0.4), trial("001", 0.5), told=told)
    assert outcome.champion.record.id == "001"
    first, second = outcome.champion.retrained
    assert first.report is not None
    assert (second.report, second.reason, second.diverged) == (None, "the adapter is missing", False)
    assert outcome.champion.trainings == "3 (1 of 3 failed, which counts for nothing)"
    assert outcome.champion.across_seeds["likeness"].mean == pytest.approx(0.8, abs=0.03), "of two trainings"
    assert told[-1] == f"final: trial 001, trainings: {outcome.champion.trainings}"


def test_a_lucky_training_whose_repetitions_diverge_does_not_win(config: SearchConfig) -> None:
    client = ScriptedDispatch({"000": noisy(0.7), "001": noisy(0.5), "001/1": DIVERGES, "001/2": DIVERGES})
    outcome = final(client, config, trial("000", 0.4), trial("001", 0.5))
    assert outcome.champion.record.id == "000"
    lucky = outcome.finalists[1]
    assert lucky.trainings == "3 (2 of 3 diverged, which counts as the untuned model)"
    assert lucky.final.metrics["likeness"] == pytest.approx(1.0, abs=0.03)
    assert lucky.across_seeds["likeness"].mean == pytest.approx(1 / 3, abs=0.03)
    assert lucky.across_seeds["fidelity"].mean == pytest.approx(1.0)


def test_the_training_nearest_to_the_mean_of_all_is_handed_over(config: SearchConfig) -> None:
    """Of 0.6 (the search's own), 0.75 and 0.7 the mean is 0.683."""
    client = ScriptedDispatch({"000": noisy(0.9), "001": noisy(0.6), "001/1": noisy(0.75), "001/2": noisy(0.7)})
    shipped = final(client, config, trial("000", 0.4), trial("001", 0.5)).champion.shipped
    assert shipped.seed == 2 * RETRAINING_SEED_STRIDE + 1
    assert shipped.folder == shipped.report.folder
    assert str(shipped.seed) in str(shipped.folder)
    assert shipped.report.metrics["likeness"] == pytest.approx(0.6, abs=0.03)
    assert shipped.intervals["likeness"].mean == pytest.approx(shipped.report.metrics["likeness"])


def test_a_rate_of_0_is_not_sure_to_be_0(config: SearchConfig) -> None:
    client = ScriptedDispatch({"000": noisy(0.9), "001": noisy(0.6)})
    champion = final(client, config, trial("000", 0.4), trial("001", 0.5)).champion
    alone, together = champion.intervals["faceless_rate"], champion.across_seeds["faceless_rate"]
    assert (alone.lower, alone.mean, together.lower, together.mean) == (0.0, 0.0, 0.0, 0.0)
    # Wilson's of 0 of 24 images, and of 0 of 72.
    assert (alone.upper, together.upper) == pytest.approx((0.138, 0.0507), abs=1e-3)


def test_where_all_trainings_are_alike_the_searchs_own_is_handed_over(config: SearchConfig) -> None:
    client = ScriptedDispatch({"000": noisy(0.9), "001": noisy(0.6)})
    champion = final(client, config, trial("000", 0.4), trial("001", 0.5)).champion
    assert (champion.shipped.seed, champion.shipped.folder) == (None, champion.candidate.folder)
    assert champion.shipped.report is champion.final


def test_a_retraining_without_a_face_counts_against_its_configuration(config: SearchConfig) -> None:
    faceless: Distances = [None] * 24
    client = ScriptedDispatch({"000": noisy(0.75), "001": noisy(0.6), "001/1": faceless, "001/2": faceless})
    outcome = final(client, config, trial("000", 0.4), trial("001", 0.5))
    assert outcome.decision.standings[0].id == "000"
    assert outcome.finalists[1].across_seeds["faceless_rate"].mean == pytest.approx(2 / 3)


def test_a_final_that_cannot_be_scored_says_why(config: SearchConfig) -> None:
    with pytest.raises(JobFailedError, match=r"final-001 failed: the adapter is missing"):
        final(ScriptedDispatch({"000": noisy(0.9)}), config, trial("000", 0.4), trial("001", 0.5))
