"""The homework's scores, by hand and as the homework computes them."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from evaluation.clip_score import ClipScorer
from evaluation.faces import FaceModel, Representation
from evaluation.hw10 import Hw10Scores, hw10_scores

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
    with pytest.raises(ValueError, match="no training photo"):
        hw10_scores([[face(1.0, 0.0)]], [[]], [30.0])


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
        face_model.represent(generated), face_model.represent(training), list(clip_scorer.score(generated, prompts))
    )
    assert scores.face_score == pytest.approx(np.mean(kept_distances), abs=1e-5)
    assert scores.clip_score == pytest.approx(np.mean(kept_clip), abs=1e-3)
    assert scores.faceless == faceless == 1
    # As it was when this was written: a change of DeepFace's or CLIP's numbers would change every published score.
    assert scores.face_score == pytest.approx(FACE_SCORE, abs=2e-3)
    assert scores.clip_score == pytest.approx(CLIP_SCORE, abs=0.05)
