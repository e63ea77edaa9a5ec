"""Class images on their way through a search: refused before Ray starts, handed to a worker, drawn and learnt there."""

import pickle
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from rich.console import Console
from safetensors.numpy import load_file

from evaluation.config import GenerationConfig, PromptSet
from search.config.search_config import SearchConfig
from search.photos.split import read_split
from search.search import InputError, run_search
from search.workers.jobs import AnchorJob, TrainJob
from search.workers.runner import JobRunner
from search.workers.setup import RunnerSetup
from tests.support.runner_jobs import do
from trainer.adapters.adapter_files import WEIGHTS_FILE
from trainer.data.class_photos import load_class_photos

DEMO = Path(__file__).resolve().parents[3] / "demo"


@pytest.fixture
def content(tmp_path: Path) -> dict[str, Any]:
    """The demo's search with two drawn class images, weighed by some trials."""
    document: dict[str, Any] = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    document["model"], document["runs"] = str(DEMO / "base"), str(tmp_path / "runs")
    document["evaluation"]["clip"] = str(DEMO / "clip")
    document["photos"]["folder"] = str(DEMO / "photos")
    document["photos"]["prior"] = {"prompt": "a photo of a man", "images": 2, "steps": 2, "guidance_scale": 3}
    document["training"]["lr_warmup_steps"] = 0
    document["space"]["prior_loss_weight"] = {"values": [0, 1]}
    return document


def test_a_bad_class_image_is_refused_by_name_before_ray_starts(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray was started"))
    (tmp_path / "men").mkdir()
    (tmp_path / "men" / "man.jpg").write_text("this is text")
    content["photos"]["prior"] = {"prompt": "a photo of a man", "folder": str(tmp_path / "men")}
    config = SearchConfig.model_validate(content)
    with pytest.raises(InputError, match=rf"photo folder {tmp_path / 'men'}:\n  - man.jpg: is not a JPEG"):
        run_search(config, console=Console(file=StringIO()))
    assert not (tmp_path / "runs").exists(), "no run was begun"


def test_a_worker_draws_class_images_and_trials_weigh_them(content: dict[str, Any], tmp_path: Path) -> None:
    """One cut off in between ends as if it had not been; one that weighs none learns something else."""
    config = SearchConfig.model_validate(content)
    photos = config.photos
    split = read_split(photos, config.evaluation.faces)
    assert load_class_photos(photos.prior, split.training, trigger=photos.trigger) == ()
    prompts = {"validation": PromptSet(prompts=("a photo of {trigger} man",), seeds=(1,))}
    setup = replace(
        RunnerSetup.of(config, split, prompts, {}),  # type: ignore[arg-type]
        generation=GenerationConfig(steps=2, guidance_scale=3.0, resolution=64, batch_size=4),
    )
    handed_over = pickle.loads(pickle.dumps(setup))  # noqa: S301 - our own
    assert handed_over == setup
    bench = JobRunner(handed_over)
    (images,) = (tmp_path / "runs" / ".cache").glob("class-images-*")
    assert sorted(path.name for path in images.glob("*.png")) == ["00000.png", "00001.png"]

    (base,) = do(bench, AnchorJob(id="base", folder=tmp_path / "base", prompt_set="validation"))
    anchors = base.anchors()

    def job(name: str, weight: float) -> TrainJob:
        training = config.training_config({"prior_loss_weight": weight, "rank": 4, "steps": 4}, seed=1)
        return TrainJob(id=name, folder=tmp_path / name, config=training, score_at=(4,), anchors=anchors)

    do(bench, job("whole", 1))
    do(bench, job("again", 1), go_on=lambda step: step != 2)
    do(bench, job("again", 1))
    do(bench, job("without", 0))
    whole, again, without = (
        load_file(tmp_path / name / "step-4" / WEIGHTS_FILE) for name in ("whole", "again", "without")
    )
    assert same(again, whole)
    assert not same(without, whole)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
