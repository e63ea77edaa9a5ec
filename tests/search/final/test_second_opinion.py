"""The second judge's opinion: by hand, with a scripted dispatcher in place of workers."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.config import FaceConfig, ObjectiveConfig
from evaluation.image_row import ImageRow
from evaluation.scores import Anchors
from search.config.search_config import SearchConfig, load_config
from search.final.decision import Decision
from search.final.final import Final, Verdict, decide_final
from search.final.finalist import Retraining, configuration_values, finalist_of
from search.final.second_opinion import NoOpinion, SecondJudgeClient, SecondOpinion
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.workers.client import JobFailedError, WorkersClient
from search.workers.dispatcher import UnknownJobError
from search.workers.jobs import Job, JobStatus, JudgeJob

CONFIG = SearchConfig.model_validate(
    {
        "name": "anna",
        "model": "base",
        "photos": {"folder": "photos"},
        "space": {"rank": {"values": [4, 8]}},
        "first_trials": [],
        "evaluation": {"prompts": "prompts.txt", "generation": {"resolution": 64, "batch_size": 4}},
        "final": {"prompts": "final.txt", "indifference": 0.0},
    }
)
JUDGE = FaceConfig(recognizer="Dlib", detector="opencv")
REAL_DISTANCE = 0.5
BASE = [1.0, 1.0]
"""What the judge sees of the untuned model: its likeness of a distance d is (1 - d) / 0.5."""


class ScriptedJudge(WorkersClient):
    """Stands for the dispatcher and a worker with the second judge: answers with given distances, by folder."""

    def __init__(self, distances: Mapping[str, Sequence[float | None]], *, forgets: int = 0) -> None:
        super().__init__(handle=None)
        for name, value in {"distances": distances, "jobs": [], "times": [forgets]}.items():
            object.__setattr__(self, name, value)

    distances: Mapping[str, Sequence[float | None]]
    jobs: list[JudgeJob]
    times: list[int]
    """How often it still has forgotten everything."""

    def submit(self, job: Job) -> None:
        assert isinstance(job, JudgeJob)
        self.jobs.append(job)

    def status(self, job_id: str, *, reports: int = 0, timeout: float = 0.0) -> JobStatus:
        if self.times[0]:
            self.times[0] -= 1
            raise UnknownJobError(f"job {job_id} is unknown; submit it again")
        folder = str(next(job for job in self.jobs if job.id == job_id).folder)
        if folder not in self.distances:
            return JobStatus(id=job_id, state=JobState.FAILED, reason="FaceModelError: out of memory")
        rows = tuple(ImageRow.of(n, 1, face_distance=d, clip_score=30.0) for n, d in enumerate(self.distances[folder]))
        report = CheckpointResult(step=0, metrics={"real_face_distance": REAL_DISTANCE}, rows=rows, folder=Path(folder))
        return JobStatus(id=job_id, state=JobState.FINISHED, checkpoints=(report,))

    @property
    def submitted(self) -> list[str]:
        """Folders, in order."""
        return [str(job.folder) for job in self.jobs]


def seen_by_first(*distances: float) -> tuple[ImageRow, ...]:
    return tuple(ImageRow.of(n, 1, face_distance=d, clip_score=30.0) for n, d in enumerate(distances))


def report(folder: str, likeness: float, objective: float, *, images: int = 2) -> CheckpointResult:
    """As the first judge scored it; its images all have a face for it."""
    rows = seen_by_first(*[0.7] * images)
    metrics = {
        "likeness": likeness,
        "objective": objective,
        "search_value": objective,
        "faceless_rate": 0.0,
        "real_face_distance": 0.5,
    }
    return CheckpointResult(step=100, metrics=metrics, rows=rows, folder=Path(folder))


def trial(name: str, likeness: float) -> TrialRecord:
    record = TrialRecord(id=name, params={}, steps=100)
    record.add(report(name, likeness, 0.4 + 0.5 * likeness))
    return record


RECORDS = [trial("000", 0.1), trial("001", 0.6), trial("002", 0.5), TrialRecord(id="003", params={}, steps=100)]


def final(*names: str, retrained: Mapping[str, tuple[Retraining, ...]] | None = None) -> Final:
    """The trials in the final, the first of them the champion."""
    base = replace(report("final/base", 0.0, 0.4), rows=seen_by_first(0.9, 0.9))
    finalists = tuple(
        finalist_of(
            CONFIG,
            (next(record for record in RECORDS if record.id == name), report(name, 0.5, 0.65)),
            report(f"final/{name}", 0.5, 0.65),
            (retrained or {}).get(name, ()),
            base,
        )
        for name in names
    )
    return Final(
        base=base,
        finalists=finalists,
        champion=finalists[0],
        decision=Decision(winner=names[0], standings=(), tied=(), reason="the highest objective"),
        verdict=Verdict.TIE,
        difference=None,
    )


def judging(client: ScriptedJudge) -> SecondJudgeClient:
    return SecondJudgeClient(
        client=client,
        judge=JUDGE,
        anchors=Anchors.between(untuned_distance=1.0, real_distance=REAL_DISTANCE, clip_score=30.0),
        config=CONFIG,
    )


SEEN: Mapping[str, Sequence[float | None]] = {
    "000": [1.0, 0.9],
    "001": [0.5, None],
    "002": [0.7, 0.8],
    "final/base": BASE,
    "final/001": [0.6, 0.8],
    "final/002": [0.7, None],
}


def test_likeness_is_between_the_judges_own_anchors_and_without_a_face_0() -> None:
    client = ScriptedJudge(SEEN)
    opinion = judging(client).opinion(RECORDS, final("001", "002"))
    assert isinstance(opinion, SecondOpinion)
    assert client.submitted == ["000", "001", "002", "final/base", "final/001", "final/002"]
    assert opinion.trials == pytest.approx({"000": 0.1, "001": 0.5, "002": 0.5}), "003 was never scored"
    first, second = opinion.finalists
    assert (first.trial, second.trial) == ("001", "002")
    # (0.8 + 0.4) / 2, which weighs 0.5, beside a fidelity of 1, which weighs 0.4; and (0.6 + 0) / 2, half of the images
    # without a face, which costs 0.5.
    assert (first.likeness.mean, second.likeness.mean) == pytest.approx((0.6, 0.3))
    assert (first.objective, second.objective) == pytest.approx((0.7, 0.3))
    assert (first.likeness.lower, first.likeness.upper) == pytest.approx((0.4, 0.8)), "of two images"
    assert opinion.agrees
    assert opinion.lead is None


def test_agreement_is_told_with_the_rank_correlation() -> None:
    opinion = judging(ScriptedJudge(SEEN)).opinion(RECORDS, final("001", "002"))
    assert isinstance(opinion, SecondOpinion)
    # Of the three pairs of trials two stand in the same order for both and one ties for the second judge:
    # tau-b = 2 / sqrt(3 x 2); ranks 1, 3, 2 and 1, 2.5, 2.5: rho = 1.5 / sqrt(2 x 1.5).
    assert opinion.correlation.kendall == pytest.approx(2 / 6**0.5)
    assert opinion.correlation.spearman == pytest.approx(0.75**0.5)
    assert opinion.line == (
        "second judge Dlib with opencv: agrees (rank correlation over 3 trials: tau 0.82, rho 0.87)"
    )
    assert opinion.as_metrics() == {
        "second_judge_kendall": opinion.correlation.kendall,
        "second_judge_spearman": opinion.correlation.spearman,
        "second_judge_agrees": 1.0,
    }


def test_a_judge_who_disagrees_warns_and_overrules_nobody() -> None:
    outcome = final("002", "001")
    opinion = judging(ScriptedJudge(SEEN)).opinion(RECORDS, outcome)
    assert isinstance(opinion, SecondOpinion)
    assert outcome.champion.record.id == "002", "as it was"
    assert not opinion.agrees
    assert opinion.line.startswith(
        "warning: second judge Dlib with opencv: disagrees: it prefers trial 001 by 0.400 of objective (rank"
    )
    entry = opinion.as_result()
    assert (entry["agrees"], entry["prefers"]) == (False, "001")
    # Image by image 0.5 x (0.8 - 0.6) and 0.5 x (0.4 - 0) + 0.5 for the face.
    assert entry["lead"] == pytest.approx({"lower": 0.1, "mean": 0.4, "upper": 0.7})
    assert [(finalist["trial"], finalist["likeness"]) for finalist in entry["finalists"]] == [
        ("002", pytest.approx(0.3)),
        ("001", pytest.approx(0.6)),
    ]


def test_a_preference_that_the_images_do_not_bear_out_is_no_disagreement() -> None:
    # Likeness 0.9 and 0.28 against 0.8 and 0.4: 0.05 behind on one image, 0.06 ahead on the other.
    opinion = judging(ScriptedJudge({**SEEN, "final/002": [0.55, 0.86]})).opinion(RECORDS, final("002", "001"))
    assert isinstance(opinion, SecondOpinion)
    assert (opinion.prefers, opinion.agrees) == ("001", True)
    assert opinion.line.startswith(
        "second judge Dlib with opencv: agrees, though it prefers trial 001 by 0.005 of objective, which is within the "
        "noise of these images (rank"
    )


def test_it_sees_the_retrainings_too_and_decides_as_the_final_does() -> None:
    retrained = {
        name: tuple(
            Retraining(seed=seed, report=report(f"final/{name}-{seed}", 0.5, 0.65)) for seed in (1_000_000, 2_000_000)
        )
        for name in ("001", "002")
    }
    lost = Retraining(seed=3_000_000, report=None, reason="lost its worker")
    outcome = final("001", "002", retrained={**retrained, "001": (*retrained["001"], lost)})
    # By its own training 001 leads, 0.6 to 0.3; by all three 002 does.
    seen = {
        **SEEN,
        **{f"final/001-{seed}": [1.0, 1.0] for seed in (1_000_000, 2_000_000)},
        **{f"final/002-{seed}": [0.5, 0.5] for seed in (1_000_000, 2_000_000)},
    }
    opinion = judging(ScriptedJudge(seen)).opinion(RECORDS, outcome)
    assert isinstance(opinion, SecondOpinion)
    assert opinion.prefers == "002"
    likeness = {one.trial: one.likeness.mean for one in opinion.finalists}
    assert likeness == pytest.approx({"001": 0.6 / 3, "002": 2.3 / 3})


@pytest.mark.parametrize("mode", ["weighted", "pareto"])
def test_a_second_judge_that_is_the_first_one_agrees(mode: str) -> None:
    objective = ObjectiveConfig(mode="pareto" if mode == "pareto" else "weighted")
    config = CONFIG.model_copy(update={"evaluation": CONFIG.evaluation.model_copy(update={"objective": objective})})
    random = np.random.default_rng(0)
    for _ in range(20):
        distances = {name: random.uniform(0.4, 1.0, size=(3, 2)).tolist() for name in ("000", "001", "002")}
        base = replace(report("final/base", 0.0, 0.4), rows=seen_by_first(1.0, 1.0))
        finalists, seen = [], {"000": [0.8, 0.8], "001": [0.8, 0.8], "002": [0.8, 0.8], "final/base": [1.0, 1.0]}
        for record in RECORDS[:3]:
            trainings = []
            for number, each in enumerate(distances[record.id]):
                folder = f"final/{record.id}" + (f"-{number}" if number else "")
                rows = seen_by_first(*each)
                seen[folder] = each
                own = replace(report(folder, 0.5, 0.5), rows=rows)
                value = own.values(base.anchors(), objective)["objective"].mean()
                trainings.append(replace(own, metrics={**own.metrics, "objective": float(value)}))
            again = tuple(Retraining(seed=n, report=trainings[n]) for n in (1, 2))
            finalists.append(finalist_of(config, (record, report(record.id, 0.5, 0.5)), trainings[0], again, base))
        values = {one.record.id: configuration_values(one, base, config)["objective"] for one in finalists}
        decision = decide_final(config, finalists, values)
        outcome = Final(
            base=base,
            finalists=tuple(finalists),
            champion=next(one for one in finalists if one.record.id == decision.winner),
            decision=decision,
            verdict=Verdict.TIE,
            difference=None,
        )
        opinion = replace(judging(ScriptedJudge(seen)), config=config).opinion(RECORDS, outcome)
        assert isinstance(opinion, SecondOpinion)
        assert (opinion.prefers, opinion.agrees, opinion.lead) == (decision.winner, True, None)
        for one, first in zip(opinion.finalists, finalists, strict=True):
            assert one.objective == pytest.approx(first.across_seeds["objective"].mean)


def test_among_equals_the_champion_comes_first() -> None:
    opinion = judging(ScriptedJudge({**SEEN, "final/002": [0.6, 0.8]})).opinion(RECORDS, final("002", "001"))
    assert isinstance(opinion, SecondOpinion)
    assert opinion.prefers == "002"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("final/002", "job second-judge-final-002 failed: FaceModelError: out of memory"),
        ("001", "job second-judge-trial-001 failed: FaceModelError: out of memory"),
        ({"final/base": [None, None]}, "the untuned model drew no face in 2 images"),
        ({"final/base": [0.51, 0.51]}, "likeness needs a gap of at least 0.02"),
    ],
)
def test_a_judge_who_fails_at_the_end_has_no_opinion_and_costs_nothing(
    change: str | dict[str, list[float | None]], reason: str
) -> None:
    seen = dict(SEEN)
    if isinstance(change, str):
        del seen[change]
    else:
        seen |= change
    outcome = final("001", "002")
    opinion = judging(ScriptedJudge(seen)).opinion(RECORDS, outcome)
    assert isinstance(opinion, NoOpinion)
    assert reason in opinion.reason
    assert outcome.champion.record.id == "001"
    assert opinion.line == f"second judge Dlib with opencv: no second opinion: {opinion.reason}"
    entry = opinion.as_result()
    heard = judging(ScriptedJudge(SEEN)).opinion(RECORDS, outcome).as_result()
    assert entry.keys() == heard.keys(), "one shape, whatever happened"
    assert (entry["agrees"], entry["prefers"], entry["trials"], entry["reason"]) == (None, None, {}, opinion.reason)
    assert json.loads(json.dumps(entry, allow_nan=False)) == entry


def test_a_dispatcher_that_was_restarted_is_asked_again() -> None:
    client = ScriptedJudge(SEEN, forgets=2)
    assert isinstance(judging(client).opinion(RECORDS, final("001", "002")), SecondOpinion)
    assert client.submitted[-2:] == ["000", "000"]


def test_the_search_begins_with_its_anchors_or_not_at_all(
    document: dict[str, Any], write_config: Callable[[dict[str, Any]], Path]
) -> None:
    def begin(*seen: float | None, second: dict[str, str] | None) -> SecondJudgeClient | None:
        document["evaluation"]["second_judge"] = second
        client = ScriptedJudge({"base": seen} if seen else {})
        return SecondJudgeClient.begin(client, load_config(write_config(document)), report("base", 0, 0))

    opencv = {"recognizer": "Dlib", "detector": "opencv"}
    assert begin(second=None) is None
    begun = begin(0.9, 1.1, second=opencv)
    assert begun is not None
    assert begun.judge == JUDGE
    assert begun.anchors.untuned["face_distance"] == pytest.approx(1.0)
    assert begun.anchors.real == {"face_distance": 0.5}
    for seen, reason in (
        ((), "job second-judge-base-validation failed: FaceModelError: out of memory"),
        ((None, None), "the untuned model drew no face in 2 images"),
        ((0.5, 0.52), "likeness needs a gap"),
    ):
        with pytest.raises(JobFailedError, match=reason) as error:
            begin(*seen, second=opencv)
        assert str(error.value).startswith("the second judge Dlib with opencv cannot be used: ")
        assert "set another evaluation.second_judge, or none" in str(error.value)


def test_without_a_correlation_the_line_says_why() -> None:
    opinion = judging(ScriptedJudge(SEEN)).opinion(RECORDS[:2], final("001"))
    assert isinstance(opinion, SecondOpinion)
    assert opinion.line == (
        "second judge Dlib with opencv: agrees (no rank correlation: 2 scored trials, at least 3 are needed)"
    )
    assert opinion.as_metrics() == {"second_judge_agrees": 1.0}
