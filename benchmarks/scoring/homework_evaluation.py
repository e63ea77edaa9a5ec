"""The peer of `benchmarks.scoring`: a plain loop in the way of the homework's notebook (GenAI 2024, HW10).

As there, every evaluation of a checkpoint loads the pipeline and CLIP again, makes a few images at a time, hands each
image to `DeepFace.represent` and then to CLIP, with all threads of the machine. DeepFace keeps its own models between
calls, there as here. What is asked for is ours, so that the scores can be compared: a seed an image, small images
enlarged before detection, the largest face, and a CLIP score without the trigger for images without a face, too.
"""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from benchmarks.scoring.scored import Scored
from evaluation.config import as_read_by_clip, with_trigger
from evaluation.face_weights import install_dlib_weights
from evaluation.generate import noise_generator
from evaluation.image_row import ImageRow
from evaluation.measures import FACE_CONFIDENCE, NEAREST_DISTANCE
from search.workers.setup import RunnerSetup
from trainer.models.loading import set_threads
from trainer.models.quiet import quiet_loading


class HomeworkEvaluation:
    """The notebook's process; it keeps no model but DeepFace's.

    Args:
        setup: What to evaluate with; `threads` is the threads of this process.
        reference: Embeddings of the reference photos, [photos, dim]. The notebook, too, makes them once beforehand.
        batch: Images made at a time.
    """

    def __init__(self, setup: RunnerSetup, reference: NDArray[np.float32], batch: int) -> None:
        set_threads(setup.threads)
        install_dlib_weights()
        self._deepface: Any = importlib.import_module("deepface.DeepFace")
        self._setup = setup
        self._reference = reference.astype(np.float64)
        self._batch = batch

    def evaluate(self, checkpoint: Path) -> Scored:
        """Load everything, then make and score the images of one checkpoint."""
        began = time.perf_counter()
        with quiet_loading():
            pipeline_class: Any = StableDiffusionPipeline
            pipeline = pipeline_class.from_pretrained(
                self._setup.model, dtype=torch.float32, use_safetensors=True, safety_checker=None
            )
            pipeline.load_lora_weights(checkpoint)
            clip = self._load_clip()
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
            pipeline.scheduler.config, algorithm_type="dpmsolver++"
        )
        loaded = time.perf_counter()
        generation, prompts = self._setup.generation, self._setup.prompt_sets["validation"]
        pairs = prompts.pairs()
        images: list[Image.Image] = []
        with torch.inference_mode():
            for start in range(0, len(pairs), self._batch):
                batch = pairs[start : start + self._batch]
                texts = [with_trigger(prompts.prompts[index], self._setup.trigger) for index, _ in batch]
                images += pipeline(
                    texts,
                    generator=[noise_generator(text, seed) for text, (_, seed) in zip(texts, batch, strict=True)],
                    height=generation.resolution,
                    width=generation.resolution,
                    num_inference_steps=generation.steps,
                    guidance_scale=generation.guidance_scale,
                ).images
        made = time.perf_counter()
        rows = self._judge(images, clip)
        seconds = {
            "loading": loaded - began,
            "generation": made - loaded,
            "judging": time.perf_counter() - made,
        }
        return Scored(rows=rows, pixels=np.stack([np.asarray(image) for image in images]), seconds=seconds)

    def judge(self, pixels: NDArray[np.uint8]) -> tuple[ImageRow, ...]:
        """Score images that exist already, [images, side, side, 3]."""
        with quiet_loading():
            clip = self._load_clip()
        return self._judge([Image.fromarray(image) for image in pixels], clip)

    def _load_clip(self) -> tuple[Any, Any, Any]:
        folder = self._setup.clip
        return (
            CLIPModel.from_pretrained(folder, use_safetensors=True, dtype=torch.float32).eval(),  # type: ignore[no-untyped-call]
            CLIPTokenizer.from_pretrained(folder),
            CLIPImageProcessorPil.from_pretrained(folder),
        )

    def _judge(self, images: list[Image.Image], clip: tuple[Any, Any, Any]) -> tuple[ImageRow, ...]:
        prompts = self._setup.prompt_sets["validation"]
        rows = []
        for image, (index, seed) in zip(images, prompts.pairs(), strict=True):
            to_reference, confidence = self._face(image)
            further = {}
            if to_reference is not None and confidence is not None:
                further = {NEAREST_DISTANCE: float(to_reference.min()), FACE_CONFIDENCE: confidence}
            rows.append(
                ImageRow.of(
                    index,
                    seed,
                    face_distance=None if to_reference is None else float(to_reference.mean()),
                    clip_score=_clip_score(
                        image, as_read_by_clip(prompts.prompts[index], self._setup.class_word), clip
                    ),
                    **further,
                )
            )
        return tuple(rows)

    def _face(self, image: Image.Image) -> tuple[NDArray[np.float64] | None, float | None]:
        """Distances of the largest face to the reference photos, [photos], and its confidence; None without a face."""
        faces = self._setup.faces
        side = max(faces.minimum_side, *image.size)
        enlarged = image if image.size == (side, side) else image.resize((side, side), Image.Resampling.LANCZOS)
        found = self._deepface.represent(
            np.asarray(enlarged)[:, :, ::-1],
            model_name=faces.recognizer,
            detector_backend=faces.detector,
            enforce_detection=False,
            l2_normalize=True,
        )
        found = [face for face in found if face["face_confidence"] > faces.minimum_confidence]
        if not found:
            return None, None
        largest = max(found, key=lambda face: face["facial_area"]["w"] * face["facial_area"]["h"])
        embedding = np.asarray(largest["embedding"], dtype=np.float64)
        return np.linalg.norm(embedding - self._reference, axis=1), float(largest["face_confidence"])


def _clip_score(image: Image.Image, text: str, clip: tuple[Any, Any, Any]) -> float:
    """100 x cosine of one image and one text."""
    model, tokenizer, processor = clip
    tokens = tokenizer([text], padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        answer = model(**tokens, pixel_values=processor(image, return_tensors="pt")["pixel_values"])
        # The model's own logits are scaled by its temperature; the notebook's CLIP happens to scale by 100.
        return float(100.0 * torch.nn.functional.cosine_similarity(answer.image_embeds, answer.text_embeds).item())
