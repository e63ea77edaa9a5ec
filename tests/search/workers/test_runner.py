"""The job runner does its jobs with the demo's real models: what it scores, draws and judges, by either protocol."""

import importlib
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from evaluation.clip_score import ClipScorer
from evaluation.config import FaceConfig, with_trigger
from evaluation.faces import FaceModel
from evaluation.hw10 import SEED, hw10_generation, hw10_scores
from evaluation.loading_error import LoadingError
from evaluation.measures import OBJECTIVE, VALIDATION_LOSS
from search.config.run_layout import ANCHORS_FILE, STATE_FOLDER
from search.storage.trial_record import CheckpointResult
from search.workers.jobs import AnchorJob, JudgeJob, ScoreJob, TrainJob
from search.workers.runner import JobRunner
from search.workers.setup import RunnerSetup
from tests.support.runner_jobs import do
from trainer.adapters.adapter_files import WEIGHTS_FILE

DEMO = Path(__file__).resolve().parents[3] / "demo"


def test_the_pairings_of_the_anchors_are_written_down(setup: RunnerSetup, runner: JobRunner, tmp_path: Path) -> None:
    (report,) = do(runner, AnchorJob(id="base", folder=tmp_path / "base", prompt_set="final"))
    pairings = json.loads((tmp_path / "base" / ANCHORS_FILE).read_text("utf-8"))
    reference = [photo.path.name for photo in setup.split.reference]
    assert pairings["generated"]["reference_photos"] == reference
    assert {frozenset(pair[:2]) for pair in pairings["real"]["pairs"]} == {
        frozenset(pair) for pair in itertools.combinations(reference, 2)
    }
    assert np.mean([pair[2] for pair in pairings["real"]["pairs"]]) == pytest.approx(
        report.metrics["real_face_distance"], abs=1e-6
    )
    assert pairings["copies"]["training_photos"] == [photo.path.name for photo in setup.split.training]
    assert pairings["anchors"]["untuned"]["face_distance"] == pytest.approx(report.metrics["face_distance"])


def test_a_job_ends_after_its_last_checkpoint_though_the_schedule_is_longer(
    runner: JobRunner, job: TrainJob, tmp_path: Path
) -> None:
    """As a finalist is trained again: up to the candidate's step, on the final's prompts, exactly as far as before."""
    whole = do(runner, job)
    again = replace(job, folder=tmp_path / "again", score_at=(4,), prompt_set="final")
    (report,) = do(runner, again)
    assert report.step == 4
    assert [row.seed for row in report.rows] == [101]
    assert not (again.folder / STATE_FOLDER).exists()
    expected, found = (load_file(folder / "step-4" / WEIGHTS_FILE) for folder in (job.folder, again.folder))
    assert all((expected[name] == found[name]).all() for name in expected)
    assert report.metrics[VALIDATION_LOSS] == whole[0].metrics[VALIDATION_LOSS]


def test_a_saved_adapter_scores_as_it_did_in_training(runner: JobRunner, job: TrainJob, tmp_path: Path) -> None:
    trained = do(runner, job)[-1]
    (scored,) = do(
        runner,
        ScoreJob(
            id="score",
            folder=tmp_path / "score",
            adapter=trained.folder,
            prompt_set="validation",
            anchors=job.anchors,
        ),
    )
    expected = {name: value for name, value in trained.metrics.items() if name != VALIDATION_LOSS}
    assert scored.metrics == pytest.approx(expected, abs=1e-6)
    assert CheckpointResult.read(tmp_path / "score") == scored


def test_an_adapter_is_drawn_at_the_strength_that_is_asked_for(
    setup: RunnerSetup, runner: JobRunner, job: TrainJob, tmp_path: Path
) -> None:
    """At 0 it is the untuned model, at 1 what was trained; only the first seed is drawn, and nobody else."""
    (base,) = do(runner, AnchorJob(id="base", folder=tmp_path / "base", prompt_set="validation"))
    trained = do(runner, job)[-1]
    drawn = {}
    for strength in (0.0, 0.5, 1.0):
        score = ScoreJob(
            id="score",
            folder=tmp_path / f"{strength}",
            adapter=trained.folder,
            prompt_set="validation",
            anchors=job.anchors,
            strength=strength,
            prompts=1,
        )
        (drawn[strength],) = do(runner, score)
    for strength, whole in ((0.0, base), (1.0, trained)):
        assert len(drawn[strength].rows) == 1
        assert drawn[strength].other_rows == ()
        # Other batches round otherwise; CLIP scores go up to 100.
        (alone,), among = drawn[strength].rows, whole.rows[0].measures
        with_others = {"seed_distance", "mismatched_clip_score", "retrieved"}
        expected = {name: value for name, value in among.items() if name not in with_others}
        assert {**alone.measures} == pytest.approx(expected, abs=5e-4)
    distances = [drawn[strength].rows[0].value("picture_distance") for strength in (0.0, 0.5, 1.0)]
    assert len(set(distances)) == 3


def test_the_homeworks_numbers_come_besides_the_others(setup: RunnerSetup, tmp_path: Path) -> None:
    prompt_set = replace(setup.prompt_sets["validation"], seeds=(SEED,))
    bench = JobRunner(
        replace(
            setup,
            generation=hw10_generation(setup.generation),
            prompt_sets={"validation": prompt_set, "final": setup.prompt_sets["final"]},
            hw10=True,
        )
    )
    (report,) = do(bench, AnchorJob(id="base", folder=tmp_path / "base", prompt_set="validation"))
    assert {"hw10_face_score", "hw10_clip_score", "hw10_faceless", OBJECTIVE} <= report.metrics.keys()
    faceless = sum(not row.face_found for row in report.rows)
    assert report.metrics["hw10_faceless"] == faceless
    (final,) = do(bench, AnchorJob(id="final", folder=tmp_path / "final", prompt_set="final"))
    for each, prompts in ((report, prompt_set), (final, setup.prompt_sets["final"])):
        texts = [with_trigger(prompts.prompts[row.prompt_index], "sks") for row in each.rows]
        score = ClipScorer(setup.clip, "cpu").score(each.images(), texts).mean()
        assert each.metrics["hw10_clip_score"] == pytest.approx(score, abs=1e-3)
    judge = FaceModel(setup.faces)
    photos = [Image.open(photo.path).convert("RGB") for photo in (*setup.split.training, *setup.split.reference)]
    numbers = hw10_scores(judge.represent(report.images()), judge.represent(photos), [0.0] * len(report.rows))
    assert report.metrics["hw10_face_score"] == pytest.approx(numbers.face_score, abs=1e-4), "with all photos"


def test_a_second_judge_like_the_first_sees_the_same_in_the_stored_images(
    setup: RunnerSetup, runner: JobRunner, tmp_path: Path
) -> None:
    (first,) = do(runner, AnchorJob(id="base", folder=tmp_path / "base", prompt_set="validation"))
    files = sorted(path.name for path in first.folder.iterdir())
    bench = JobRunner(replace(setup, second_judge=setup.faces))
    (judged,) = do(bench, JudgeJob(id="judge", folder=first.folder))
    assert judged.metrics["real_face_distance"] == pytest.approx(first.metrics["real_face_distance"])
    assert judged.metrics["leakage"] == first.metrics["leakage"]
    for row, expected in zip(judged.rows, first.rows, strict=True):
        assert (row.prompt_index, row.seed) == (expected.prompt_index, expected.seed)
        # All but the distance to training photos, which it does not look at.
        known = {name: value for name, value in expected.measures.items() if name != "training_distance"}
        assert {**row.measures} == pytest.approx(known, abs=1e-6)
    ours, theirs = judged.anchors(), first.anchors()
    assert (ours.untuned["face_distance"], ours.gap) == pytest.approx((theirs.untuned["face_distance"], theirs.gap))
    assert sorted(path.name for path in first.folder.iterdir()) == files, "nothing is written"

    (first.folder / "grid.png").unlink()
    with pytest.raises(ValueError, match=r"the images of .*base cannot be read"):
        do(bench, JudgeJob(id="again", folder=first.folder))
    with pytest.raises(ValueError, match=r"no second judge; set evaluation.second_judge"):
        do(runner, JudgeJob(id="none", folder=first.folder))


def test_a_second_judge_whose_weights_are_missing_is_a_reason_not_a_crash(
    setup: RunnerSetup, runner: JobRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(url: str) -> None:
        raise ConnectionError("the network is down")

    monkeypatch.setattr(importlib.import_module("deepface.commons.weight_utils"), "ensure_source_is_reachable", refuse)
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    openface = replace(setup, second_judge=FaceConfig(recognizer="OpenFace", detector="opencv"))
    monkeypatch.setattr(runner, "_setup", openface)
    with pytest.raises(LoadingError, match=r"recognizer 'OpenFace' cannot be loaded"):
        do(runner, JudgeJob(id="judge", folder=tmp_path))
