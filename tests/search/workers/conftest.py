"""A job runner on the demo's real models, loaded once a process, and what its jobs begin with."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evaluation.config import FaceConfig, GenerationConfig, LimitsConfig, ObjectiveConfig, PromptSet
from evaluation.scores import Anchors
from search.workers.jobs import AnchorJob, TrainJob
from search.workers.setup import RunnerSetup
from tests.support.runner_jobs import do, short_job
from trainer.data.photos import load_photos, split_photos

if TYPE_CHECKING:
    from search.workers.runner import JobRunner

DEMO = Path(__file__).resolve().parents[3] / "demo"


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory) -> RunnerSetup:
    return RunnerSetup(
        model=str(DEMO / "base"),
        clip=str(DEMO / "clip"),
        split=split_photos(load_photos(DEMO / "photos", "sks"), 0.3, 0),
        trigger="sks",
        resolution=64,
        cache=tmp_path_factory.mktemp("cache"),
        faces=FaceConfig(recognizer="Dlib", detector="dlib"),
        generation=GenerationConfig(steps=6, guidance_scale=3.0, resolution=64, batch_size=4),
        objective=ObjectiveConfig(),
        limits=LimitsConfig(),
        prompt_sets={
            "validation": PromptSet(prompts=("a photo of {trigger} man, blue background",), seeds=(1, 2)),
            "final": PromptSet(prompts=("a photo of {trigger} man, sad",), seeds=(101,)),
        },
        other_sets={"validation": PromptSet(prompts=("a photo of a woman, happy",), seeds=(1,))},
        threads=1,
        hw10=False,
    )


@pytest.fixture(scope="session")
def runner(setup: RunnerSetup) -> "JobRunner":
    from search.workers.runner import JobRunner  # the pure tests beside it do without torch

    return JobRunner(setup)


@pytest.fixture(scope="session")
def anchors(runner: "JobRunner", tmp_path_factory: pytest.TempPathFactory) -> Anchors:
    folder = tmp_path_factory.mktemp("anchors")
    (report,) = do(runner, AnchorJob(id="base", folder=folder / "base", prompt_set="validation"))
    assert report.metrics["likeness"] == pytest.approx(0, abs=1e-9)
    assert report.metrics["fidelity"] == pytest.approx(1)
    assert report.metrics["leakage"] == pytest.approx(0, abs=1e-9)
    assert {path.name for path in (folder / "base").iterdir()} == {
        "grid.png",
        "others.png",
        "report.json",
        "anchors.json",
    }
    return report.anchors()


@pytest.fixture
def job(anchors: Anchors, tmp_path: Path) -> TrainJob:
    return short_job(anchors, tmp_path / "000")
