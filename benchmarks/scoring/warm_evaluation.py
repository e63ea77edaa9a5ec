"""Our side of `benchmarks.scoring`: a process that loads the models once, as a worker does, and scores checkpoints.

Where the time goes is measured from outside: the calls that the evaluation package makes are wrapped in clocks.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.scoring.scored import Scored
from evaluation.clip_score import ClipScorer
from evaluation.evaluate import Evaluator
from evaluation.faces import FaceModel
from evaluation.person import measure_person
from evaluation.scores import Anchors
from search.workers.setup import RunnerSetup
from trainer.adapters.adapter import attach_adapter
from trainer.adapters.adapter_files import load_adapter, save_adapter
from trainer.config import TrainingConfig
from trainer.data.photos import open_photo
from trainer.models.loading import load_base_model, set_threads

REST = "rest"
"""The phase of everything that no clock measures: putting the adapter in and out, distances, rows."""

RANDOM_UPDATE = 0.02
"""Standard deviation of the random weights of a checkpoint: enough that images differ, too little to lose faces."""


class WarmEvaluation:
    """Models, photos and judges, loaded once."""

    def __init__(self, setup: RunnerSetup) -> None:
        set_threads(setup.threads)
        self._base = load_base_model(setup.model, device="cpu")
        self._pipeline = self._base.pipeline()
        face_model = FaceModel(setup.faces)
        self._evaluator = Evaluator(
            setup.prompt_sets["validation"],
            setup.trigger,
            setup.generation,
            face_model,
            ClipScorer(setup.clip, "cpu"),
        )
        reference, training = (
            {photo.path.name: open_photo(photo, setup.generation.resolution) for photo in photos}
            for photos in (setup.split.reference, setup.split.training)
        )
        self._person = measure_person(face_model, reference=reference, training=training)
        self._seconds: dict[str, float] = {}
        for owner, function, phase in (
            (importlib.import_module("evaluation.evaluate"), "generate_images", "generation"),
            (importlib.import_module("deepface.DeepFace"), "extract_faces", "detection"),
            (importlib.import_module("deepface.DeepFace"), "represent", "embedding"),
            (self._evaluator.clip_scorer, "embed_images", "clip"),
        ):
            self._seconds[phase] = 0.0
            setattr(owner, function, self._clocked(getattr(owner, function), phase))

    def anchors(self) -> Anchors:
        """The ends of likeness and fidelity; the first thing a worker does, so that it is warm afterwards."""
        return self._evaluator.measure_anchors(self._pipeline, self._person).anchors

    def reference(self) -> NDArray[np.float32]:
        """Embeddings of the reference photos, [photos, dim]."""
        return self._person.reference

    def save_checkpoint(self, folder: Path, seed: int) -> None:
        """Write an adapter with small random weights, as a short training leaves them."""
        adapter = attach_adapter(self._base, TrainingConfig(rank=8, alpha=8, seed=seed))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in adapter.named_parameters("unet").items():
                if ".lora_B." in name:
                    weight.copy_(RANDOM_UPDATE * torch.randn(weight.shape, generator=generator))
        save_adapter(adapter, folder)
        adapter.detach()

    def evaluate(self, checkpoint: Path, anchors: Anchors) -> Scored:
        """Score one checkpoint, as a worker does for the final."""
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        began = time.perf_counter()
        adapter = load_adapter(self._base, checkpoint)
        try:
            evaluation = self._evaluator.evaluate(self._pipeline, self._person, anchors)
        finally:
            adapter.detach()
        rest = time.perf_counter() - began - sum(self._seconds.values())
        pixels: NDArray[np.uint8] = np.stack([np.asarray(image) for image in evaluation.person.images])
        return Scored(rows=evaluation.person.rows, pixels=pixels, seconds={**self._seconds, REST: rest})

    def _clocked(self, function: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def clocked(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self._seconds[phase] += time.perf_counter() - began

        return clocked
