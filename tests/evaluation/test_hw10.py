"""The homework's scores, by hand and as the homework computes them."""

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from evaluation.clip_score import ClipScorer
from evaluation.config import FaceConfig, GenerationConfig
from evaluation.faces import FaceModel, Representation
from evaluation.generate import generate_images
from evaluation.hw10 import CLIP, GENERATION, SEED, Hw10Scores, deviations, hw10_generation, hw10_scores

FACE_SCORE, CLIP_SCORE = 0.4340, 20.556
"""Of the fixed pictures below, with the demo's face model and CLIP."""


def face(x: float, y: float, confidence: float = 0.9) -> Representation:
    return Representation(embedding=np.array([x, y], dtype=np.float32), confidence=confidence)


def test_worked_by_hand() -> None:
    generated = [
        [face(1.0, 0.0), face(0.0, 1.0)],  # two faces: the first in the list counts, not the nearer
        [face(0.6, 0.8)],
        [face(0.0, 1.0, confidence=0.0)],  # DeepFace's whole image: faceless
        [],  # no entry at all: faceless too
    ]
    training = [
        [face(0.0, 1.0), face(1.0, 0.0)],
        [face(-1.0, 0.0, confidence=0.0)],  # a training photo without a face takes part all the same
    ]
    # (1, 0): sqrt(2) and 2; (0.6, 0.8): sqrt(0.36 + 0.04) and sqrt(2.56 + 0.64)
    expected = (2**0.5 + 2.0 + 0.4**0.5 + 3.2**0.5) / 4
    scores = hw10_scores(generated, training, [30.0, 20.0, 99.0, 98.0])
    assert scores.face_score == pytest.approx(expected, abs=1e-6)
    assert scores.clip_score == pytest.approx(25.0)  # of the two images with a face
    assert scores.faceless == 2


def test_orthogonal_faces_are_1_414_apart() -> None:
    scores = hw10_scores([[face(1.0, 0.0)]], [[face(0.0, 1.0)]], [30.0])
    assert scores.face_score == pytest.approx(1.414, abs=1e-3)


def test_all_faceless_is_not_the_best_score() -> None:
    """The homework reports a distance of 0 here."""
    scores = hw10_scores([[], [face(1.0, 0.0, confidence=0.0)]], [[face(1.0, 0.0)]], [30.0, 31.0])
    assert scores == Hw10Scores(face_score=None, clip_score=None, faceless=2)


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="1 images and 2 CLIP scores"):
        hw10_scores([[face(1.0, 0.0)]], [[face(1.0, 0.0)]], [30.0, 31.0])
    with pytest.raises(ValueError, match="no photo has an embedding"):
        hw10_scores([[face(1.0, 0.0)]], [[]], [30.0])


def test_images_are_those_of_the_notebooks_loop(pipeline: Any) -> None:
    """Its loop over batches of 4 with the pipeline as it was loaded, at the demo's resolution."""
    prompts = [f"a photo of sks man, {mood}" for mood in ("happy", "sad", "angry", "calm", "old")]
    otherwise = GenerationConfig(steps=5, guidance_scale=2, resolution=64, batch_size=9, negative_prompt="blurry")
    images = generate_images(pipeline, prompts, [SEED] * 5, hw10_generation(otherwise))
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator(device=pipeline.device).manual_seed(SEED)
    expected: list[Image.Image] = []
    for start in range(0, 5, 4):
        asked = prompts[start : start + 4]
        made = pipeline(asked, height=64, width=64, num_inference_steps=30, guidance_scale=7.5, generator=generator)
        expected.extend(made.images)
    for image, other in zip(images, expected, strict=True):
        np.testing.assert_allclose(np.asarray(image, dtype=int), np.asarray(other, dtype=int), atol=1)


def test_what_is_not_the_homeworks_is_said() -> None:
    homework = GenerationConfig(**GENERATION)
    assert deviations(homework, FaceConfig(), CLIP) == ()
    demo = replace(homework, resolution=64, steps=18)
    assert deviations(demo, FaceConfig(recognizer="Dlib"), "demo/clip") == (
        "evaluation.generation.steps is 18, the homework's 30 is used",
        "evaluation.generation.resolution is 64 and used, the homework's is 512",
        "evaluation.faces.recognizer is 'Dlib' and used, the homework's is 'GhostFaceNet'",
        "evaluation.clip is 'demo/clip' and used, the homework's is 'openai/clip-vit-base-patch32'",
    )


def test_fixed_pictures_against_deepface_and_clip_called_as_the_homework_calls_them(
    face_model: FaceModel, clip_scorer: ClipScorer, clip_folder: Path
) -> None:
    """Two photos and a blank as generated, a photo and a blank as training: worked out in the homework's own way."""
    photos = Path(__file__).parents[2] / "demo" / "photos"
    blank = Image.new("RGB", (128, 128), "gray")
    generated = [Image.open(photos / "happy.png").convert("RGB"), Image.open(photos / "sad.png").convert("RGB"), blank]
    training = [Image.open(photos / "front.png").convert("RGB"), blank]
    prompts = ["a photo of a man, happy, gray background", "a photo of a man, happy", "a photo of a man"]

    deepface: Any = importlib.import_module("deepface.DeepFace")

    def embed(image: Image.Image) -> tuple[Any, float]:
        (first, *_) = deepface.represent(
            np.asarray(image)[:, :, ::-1], model_name="Dlib", detector_backend="dlib", enforce_detection=False
        )
        vector = np.array(first["embedding"])
        return vector / np.linalg.norm(vector), first["face_confidence"]

    clip: Any = CLIPModel.from_pretrained(clip_folder)
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    processor: Any = CLIPImageProcessorPil.from_pretrained(clip_folder)
    kept_distances, kept_clip, faceless = [], [], 0
    for image, prompt in zip(generated, prompts, strict=True):
        embedding, confidence = embed(image)
        if confidence == 0:
            faceless += 1
            continue
        kept_distances.append(np.mean([np.linalg.norm(embedding - embed(photo)[0]) for photo in training]))
        with torch.no_grad():
            picture = clip.get_image_features(**processor([image], return_tensors="pt")).pooler_output[0]
            text = clip.get_text_features(**tokenizer([prompt], return_tensors="pt")).pooler_output[0]
        kept_clip.append(100 * float(torch.nn.functional.cosine_similarity(picture, text, dim=0)))

    scores = hw10_scores(
        face_model.represent(generated),
        face_model.represent(training),
        clip_scorer.score(generated, prompts).tolist(),
    )
    assert scores.face_score == pytest.approx(np.mean(kept_distances), abs=1e-5)
    assert scores.clip_score == pytest.approx(np.mean(kept_clip), abs=1e-3)
    assert scores.faceless == faceless == 1
    # As it was when this was written: a change of DeepFace's or CLIP's numbers would change every published score.
    assert scores.face_score == pytest.approx(FACE_SCORE, abs=2e-3)
    assert scores.clip_score == pytest.approx(CLIP_SCORE, abs=0.05)
