"""The champion at several strengths: what is drawn, what the final had, what is kept, what a failure costs."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.scale.synthetic_run import DrawingWorkers
from search.config.prompts import prompt_sets
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig, load_config
from search.final.final import Final, run_final
from search.final.strengths import Sweep, sweep_strengths
from search.storage.trial_record import JobState, TrialRecord
from search.study.trial import TrialSetup, train_job
from search.workers.client import measure_anchors
from search.workers.jobs import Job, JobStatus, ScoreJob


class CountingWorkers(DrawingWorkers):
    """Keeps what it is asked for; fails what it is told to."""

    asked: list[Job]
    failing: str

    def submit(self, job: Job) -> None:
        if not hasattr(self, "asked"):
            object.__setattr__(self, "asked", [])
        self.asked.append(job)
        super().submit(job)

    def status(self, job_id: str, *, reports: int = 0, timeout: float = 0.0) -> JobStatus:
        status = super().status(job_id)
        if job_id == getattr(self, "failing", ""):
            return replace(status, state=JobState.FAILED, reason="out of memory", checkpoints=())
        return status


@pytest.fixture
def config(document: dict[str, Any], write_config: Callable[[dict[str, Any]], Path], tmp_path: Path) -> SearchConfig:
    (tmp_path / "final.txt").write_text("".join(f"a photo of {{trigger}} man, {number}\n" for number in range(3)))
    document["final"] |= {"retrain": 0, "strengths": [1.5, 0.5, 1.0], "strength_prompts": 2}
    return load_config(write_config(document))


@pytest.fixture
def workers(config: SearchConfig) -> CountingWorkers:
    return CountingWorkers(prompt_sets(config), config, 16)


@pytest.fixture
def final(config: SearchConfig, workers: CountingWorkers, tmp_path: Path) -> Final:
    """Of one trial, whose champion is at step 100."""
    _, anchors = measure_anchors(workers, RunLayout(tmp_path / "run"), "validation")
    setup = TrialSetup(config=config, client=workers, anchors=anchors, layout=RunLayout(tmp_path / "run"))
    params = {"learning_rate": 1e-3, "rank": 4, "alpha": 4, "steps": 100}
    job = train_job(setup, 0, params)
    record = TrialRecord(id="000", params=params, steps=100)
    workers.submit(job)
    record.add(workers.status(job.id).checkpoints[-1])
    return run_final(workers, config, [record], RunLayout(tmp_path / "run"), say=lambda text: None)


def sweep(workers: CountingWorkers, config: SearchConfig, final: Final, tmp_path: Path) -> Sweep:
    outcome = sweep_strengths(workers, config, final, RunLayout(tmp_path / "run"))
    assert outcome is not None
    return outcome


def test_only_what_the_final_has_not_drawn_is_drawn(
    workers: CountingWorkers, config: SearchConfig, final: Final, tmp_path: Path
) -> None:
    before = len(workers.asked)
    outcome = sweep(workers, config, final, tmp_path)
    jobs = [job for job in workers.asked[before:] if isinstance(job, ScoreJob)]
    assert [(job.strength, job.prompts, job.prompt_set) for job in jobs] == [(0.5, 2, "final"), (1.5, 2, "final")]
    assert {job.adapter for job in jobs} == {final.champion.shipped.folder}
    assert [strength for strength, _ in outcome.reports] == [0.0, 0.5, 1.0, 1.5]
    assert [strength for strength, _ in outcome.drawn] == [0.5, 1.5]
    for _, report in outcome.reports:
        assert [(row.prompt_index, row.seed) for row in report.rows] == [(0, 101), (1, 101)]


def test_nothing_and_full_strength_are_the_finals_own_images(
    workers: CountingWorkers, config: SearchConfig, final: Final, tmp_path: Path
) -> None:
    outcome = sweep(workers, config, final, tmp_path)
    reports = dict(outcome.reports)
    for strength, whole in ((0.0, final.base), (1.0, final.champion.shipped.report)):
        report = reports[strength]
        assert report.rows == (whole.rows[0], whole.rows[2]), "the first seed of the first two prompts"
        distance = np.mean([row.face_distance or 0.0 for row in report.rows])
        anchors = final.base.anchors()
        assert report.metrics["likeness"] == pytest.approx((anchors.untuned["face_distance"] - distance) / anchors.gap)
        sheet, cut = (np.asarray(Image.open(each.folder / "grid.png")) for each in (whole, report))
        np.testing.assert_array_equal(cut, np.concatenate([sheet[:16, :16], sheet[16:32, :16]]))
    result = outcome.as_result(tmp_path / "run")
    assert result["reason"] == ""
    assert [point["folder"] for point in result["points"]][1:3] == [
        "final/strengths/000-step-100-at-0.5",
        "final/strengths/000-step-100-at-1",
    ]
    rows = json.loads((tmp_path / "run" / result["points"][0]["folder"] / "report.json").read_text("utf-8"))["rows"]
    assert rows == [asdict(row) for row in reports[0.0].rows]


def test_what_is_there_is_kept(workers: CountingWorkers, config: SearchConfig, final: Final, tmp_path: Path) -> None:
    first = sweep(workers, config, final, tmp_path)
    asked = len(workers.asked)
    assert sweep(workers, config, final, tmp_path).reports == first.reports
    assert len(workers.asked) == asked


def test_a_failure_is_a_reason(workers: CountingWorkers, config: SearchConfig, final: Final, tmp_path: Path) -> None:
    object.__setattr__(workers, "failing", "strength-000-0.5")
    outcome = sweep(workers, config, final, tmp_path)
    reason = "job strength-000-0.5 failed: out of memory"
    assert outcome.as_result(tmp_path) == {"points": [], "reason": reason}
    assert outcome.drawn == ()


def test_it_can_be_turned_off(workers: CountingWorkers, config: SearchConfig, final: Final, tmp_path: Path) -> None:
    for strengths in ((), (1.0,)):
        off = config.model_copy(update={"final": config.final.model_copy(update={"strengths": strengths})})
        assert sweep_strengths(workers, off, final, RunLayout(tmp_path / "off")) is None
    assert not (tmp_path / "off").exists()
