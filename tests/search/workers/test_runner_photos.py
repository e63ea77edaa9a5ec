"""Photos of several shapes, cut, repeated and shown in every form, on their way through the job runner."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import yaml
from PIL import Image
from safetensors.numpy import load_file

from evaluation.measures import VALIDATION_LOSS
from evaluation.scores import Anchors
from search.config.search_config import SearchConfig
from search.photos.split import read_split
from search.workers.jobs import TrainJob
from search.workers.runner import JobRunner
from search.workers.setup import RunnerSetup
from tests.support.runner_jobs import do
from trainer.config import TrainingConfig
from trainer.data.bucketed_cache import build_bucketed_cache
from trainer.data.buckets import AspectBuckets
from trainer.data.photos import load_photos, split_photos
from trainer.job.job import TrainingJob

DEMO = Path(__file__).resolve().parents[3] / "demo"


def test_a_worker_trains_and_validates_on_photos_of_several_shapes(
    setup: RunnerSetup, anchors: Anchors, tmp_path: Path
) -> None:
    """The demo's photos, every other one cut to 3:4: encoded once a bucket, compared as squares."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, path in enumerate(sorted((DEMO / "photos").glob("*.png"))):
        with Image.open(path) as picture:
            picture.crop((16, 0, 112, 128) if number % 2 else (0, 0, 128, 128)).save(photos / path.name)
        shutil.copy(path.with_suffix(".txt"), photos)
    split = split_photos(load_photos(photos, "sks"), 0.3, 0)
    own = replace(setup, split=split, cache=tmp_path / "cache", buckets=AspectBuckets(step=8))
    bench = JobRunner(own)
    cached = [load_file(path)["latent_mean"].shape for path in own.cache.glob("pictures-*")]
    expected = Counter(
        ((18, 14) if photo.size == (96, 128) else (16, 16), side)
        for side, of_side in (("training", split.training), ("reference", split.reference))
        for photo in of_side
    )
    assert sorted((shape[2:], shape[0]) for shape in cached) == sorted(
        (shape, count) for (shape, _), count in expected.items()
    )
    config = TrainingConfig(rank=4, alpha=4, steps=4, batch_size=2, resolution=64)
    (report,) = do(bench, TrainJob(id="000", folder=tmp_path / "000", config=config, score_at=(4,), anchors=anchors))
    training, reference = (
        build_bucketed_cache(photos_of_side, bench._base, resolution=64, folder=own.cache, buckets=own.buckets)
        for photos_of_side in (split.training, split.reference)
    )
    with TrainingJob(bench._base, training, config) as job:
        for _ in range(4):
            job.step()
        assert report.metrics[VALIDATION_LOSS] == job.validation_loss(reference)


def test_a_worker_trains_on_photos_cut_repeated_and_shown_in_every_form(
    setup: RunnerSetup, anchors: Anchors, tmp_path: Path
) -> None:
    """What a configuration says of photos and captions, from its text to two checkpoints, cut off in between."""
    document = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    document["photos"].update(repeats={"happy*": 3}, face_crop=1.3, nearest=9)
    document["training"].update(caption_dropout=0.3, horizontal_flip=0.5, face_loss_weight=3, lr_warmup_steps=0)
    document["space"]["caption_shuffle"] = {"low": 0, "high": 1}
    config = SearchConfig.model_validate({**document, "runs": tmp_path})
    photos = config.photos.model_copy(update={"folder": DEMO / "photos"})
    split = read_split(photos, config.evaluation.faces, find_faces=True)
    own = RunnerSetup.of(config, split, setup.prompt_sets, {})
    bench = JobRunner(replace(own, model=setup.model, clip=setup.clip, generation=setup.generation))
    cached = [load_file(path) for path in (tmp_path / ".cache").glob("pictures-*")]
    sizes = sorted(len(cache["latent_mean"]) for cache in cached)
    assert sizes == sorted([len(split.reference), len(split.training) * 2]), "each picture once"
    assert len(bench._training) == sum(photo.repeats for photo in split.training) * 2 * 5
    training = config.training_config({"caption_shuffle": 0.5, "rank": 4, "steps": 4}, seed=1)
    job = TrainJob(id="000", folder=tmp_path / "000", config=training, score_at=(2, 4), anchors=anchors)
    whole = do(bench, job)
    again = replace(job, folder=tmp_path / "again")
    do(bench, again, go_on=lambda step: step < 3)
    assert [report.metrics for report in do(bench, again)] == [report.metrics for report in whole]
