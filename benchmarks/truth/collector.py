"""One worker's part of a collection: the demo's models, loaded once, and candidates made with them. Knows no Ray."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from benchmarks.truth.candidate import About, Candidate, Failure, Photos, Pictures, candidate_id
from benchmarks.truth.collection import BASE, Collection, demo_collection
from evaluation.clip_score import ClipScorer
from evaluation.config import PromptSet, as_read_by_clip, with_trigger
from evaluation.faces import Face, FaceModel
from evaluation.generate import generate_images
from trainer.data.bucketed_cache import build_bucketed_cache
from trainer.data.photos import open_photo
from trainer.job.job import TrainingDiverged, TrainingJob
from trainer.models.loading import choose_device, load_base_model, set_threads

T = TypeVar("T")


class Collector:
    """Trains, generates and judges; used by one thread."""

    def __init__(self, collection: Collection, folder: Path) -> None:
        """Load the models and encode the photos, with one thread.

        Args:
            collection: What is collected.
            folder: Gets the candidates and the data cache.
        """
        set_threads(1)
        device = choose_device()
        self._collection = collection
        self._folder = folder
        self._split = collection.split
        self._base = load_base_model(collection.search.model, device=device)
        self._training, self._held_out = (
            build_bucketed_cache(
                photos,
                self._base,
                resolution=collection.search.training.resolution,
                folder=folder / "cache",
                buckets=collection.search.photos.buckets,
            )
            for photos in (self._split.training, self._split.reference)
        )
        self._face_model = FaceModel(collection.search.evaluation.faces)
        self._clip_scorer = ClipScorer(collection.search.evaluation.clip, device)
        self._seconds = {"training": 0.0, "generating": 0.0, "judging": 0.0}

    def collect_base(self) -> None:
        """Write what the untuned model draws, and the person's photos."""
        self._photos().write(self._folder)
        self._write(id=BASE)

    def collect(self, number: int, run: int) -> None:
        """Train one run of a configuration and write the candidate that it ends in, or why it came to nothing."""
        id = candidate_id(number, run)
        config = self._collection.training_config(number, run)
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        with TrainingJob(self._base, self._training, config) as job:
            try:
                self._timed("training", lambda: _finish(job))
            except TrainingDiverged as error:
                Failure(id=id, reason=str(error)).write(self._folder)
                return
            with job.evaluation_mode():
                self._write(
                    id=id,
                    number=number,
                    run=run,
                    params=self._collection.configurations[number],
                    training=asdict(config),
                    parameters=job.adapter.parameter_count,
                    validation_loss=job.validation_loss(self._held_out),
                )

    def _write(self, **about: object) -> None:
        subject, others = (self._pictures(each) for each in (self._collection.subject, self._collection.others))
        seconds = {f"{name}_seconds": value for name, value in self._seconds.items()}
        described = About(**{"params": {}, "training": {}, **about, **seconds})  # type: ignore[arg-type]
        Candidate(about=described, subject=subject, others=others).write(self._folder)

    def _pictures(self, prompt_set: PromptSet) -> Pictures:
        pairs = prompt_set.pairs()
        prompts = [prompt_set.prompts[index] for index, _ in pairs]
        seeds = [seed for _, seed in pairs]
        images = self._timed(
            "generating",
            lambda: generate_images(
                self._base.pipeline(),
                [with_trigger(prompt, self._collection.search.photos.trigger) for prompt in prompts],
                seeds,
                self._collection.generation,
            ),
        )
        texts = [as_read_by_clip(prompt) for prompt in prompt_set.prompts]
        clip_scores = self._timed(
            "judging", lambda: 100.0 * self._clip_scorer.embed_images(images) @ self._clip_scorer.embed_texts(texts).T
        )
        faces = self._timed("judging", lambda: self._face_model.embed(images))
        found = [face for face in faces if face is not None]
        return Pictures(
            prompt_index=np.array([index for index, _ in pairs]),
            seed=np.array(seeds),
            pixels=_pixels(images),
            clip_scores=clip_scores,
            face_found=np.array([face is not None for face in faces]),
            embedding=_embeddings(found),
            confidence=np.array([face.confidence for face in found], dtype=np.float64),
            faces=np.array([face.faces for face in found], dtype=np.int64),
        )

    def _photos(self) -> Photos:
        photos = [*self._split.training, *self._split.reference]
        images = [open_photo(photo, self._collection.generation.resolution) for photo in photos]
        faces = self._face_model.embed(images)
        if without := [photo.path.name for photo, face in zip(photos, faces, strict=True) if face is None]:
            raise ValueError(f"no face was found in {', '.join(without)}; take these photos out of the demo")
        return Photos(
            name=np.array([photo.path.name for photo in photos]),
            trained_on=np.array([photo in self._split.training for photo in photos]),
            pixels=_pixels(images),
            embedding=_embeddings([face for face in faces if face is not None]),
        )

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        # The process's own: one thread on a free core would take as long, whatever else the machine does.
        began = time.process_time()
        try:
            return work()
        finally:
            self._seconds[name] += time.process_time() - began


def collect(folder: Path, quick: bool, number: int | None, run: int) -> None:
    """Collect one candidate in this process, the untuned model if `number` is None; models are loaded at the first."""
    collector = _collector(folder, quick)
    if number is None:
        collector.collect_base()
    else:
        collector.collect(number, run)


@cache
def _collector(folder: Path, quick: bool) -> Collector:
    return Collector(demo_collection(quick=quick), folder)


def _finish(job: TrainingJob) -> None:
    while not job.finished:
        job.step()


def _pixels(images: Sequence[Image.Image]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.stack([np.asarray(image.convert("RGB"), dtype=np.uint8) for image in images])


def _embeddings(faces: Sequence[Face]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """[faces, dim]; [0, 0] without any."""
    return np.stack([face.embedding for face in faces]) if faces else np.empty((0, 0), dtype=np.float32)
