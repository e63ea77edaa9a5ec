"""The CLIP score: the cosine of the full model, whatever the batch, the text or the image's mode."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from evaluation.clip_score import ClipScorer

TEXTS = ("a smiling man, blue background", "an angry woman", "a man with brown hair, gray background", "a man")
SIDE: int = json.loads((Path(__file__).parents[2] / "demo" / "clip" / "config.json").read_text())["vision_config"][
    "image_size"
]
"""Pixels that the demo kit's CLIP looks at."""
DEMO_MEAN = (0.5, 0.5, 0.5)
"""Mean and deviation of a channel in the demo kit's `preprocessor_config.json`."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STANDARD_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


def pictures() -> list[Image.Image]:
    """Smooth colours with noise, one of them wide, so that resizing and cropping matter."""
    random = np.random.default_rng(4)
    return [
        Image.fromarray(random.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        for size in ((64, 64), (128, 128), (200, 100), (64, 64))
    ]


def preprocess(
    image: Image.Image, mean: tuple[float, ...] = DEMO_MEAN, deviation: tuple[float, ...] = DEMO_MEAN
) -> NDArray[np.float32]:
    """CLIP's preprocessing written out: shorter side to the model's, centre crop, [0, 1], standardise."""
    scale = SIDE / min(image.size)
    resized = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
    left = (resized.width - SIDE) // 2
    values = np.asarray(resized.crop((left, 0, left + SIDE, SIDE)), dtype=np.float32) / 255
    standard: NDArray[np.float64] = (values - np.array(mean)) / np.array(deviation)
    return standard.astype(np.float32).transpose(2, 0, 1)


def oracle(folder: Path, pixel_values: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    """100 x cosine by the model's own full forward pass: its logits without their scale."""
    model: Any = CLIPModel.from_pretrained(str(folder))
    tokens = CLIPTokenizer.from_pretrained(str(folder))(list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        output = model(pixel_values=torch.from_numpy(np.stack(pixel_values)), **tokens)
        cosines = output.logits_per_image / model.logit_scale.exp()
    scores: NDArray[np.float64] = 100 * cosines.diagonal().double().numpy()
    return scores


def test_score_is_the_cosine_of_the_full_model(clip_scorer: ClipScorer, clip_folder: Path) -> None:
    images = pictures()
    expected = oracle(clip_folder, [preprocess(image) for image in images])
    scores = clip_scorer.score(images, TEXTS)
    assert scores.shape == (4,)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, atol=1e-3)
    assert np.ptp(scores) > 1.0


def test_the_preprocessing_of_openai_s_clip_is_used_when_the_folder_states_none(
    clip_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder, ignore=shutil.ignore_patterns("preprocessor_config.json"))
    images = pictures()
    expected = oracle(clip_folder, [preprocess(image, CLIP_MEAN, CLIP_STANDARD_DEVIATION) for image in images])
    np.testing.assert_allclose(ClipScorer(str(folder), "cpu").score(images, TEXTS), expected, atol=1e-3)


def test_batch_size_and_order_do_not_change_scores(clip_scorer: ClipScorer, clip_folder: Path) -> None:
    images = pictures()
    together = clip_scorer.score(images, TEXTS)
    np.testing.assert_allclose(
        ClipScorer(str(clip_folder), "cpu", batch_size=1).score(images, TEXTS), together, atol=1e-3
    )
    np.testing.assert_allclose(clip_scorer.score(images[::-1], TEXTS[::-1])[::-1], together, atol=1e-3)


def test_the_same_text_scores_the_same_again(clip_scorer: ClipScorer) -> None:
    image = pictures()[0]
    first = clip_scorer.score([image], ["a text never scored before"])
    np.testing.assert_array_equal(clip_scorer.score([image], ["a text never scored before"]), first)


def test_long_texts_are_cut_and_other_modes_converted(clip_scorer: ClipScorer) -> None:
    gray = pictures()[0].convert("L")
    long = "a man with brown hair, " * 40
    scores = clip_scorer.score([gray, gray.convert("RGB"), gray.convert("RGBA")], [long] * 3)
    assert np.ptp(scores) < 1e-3


def test_no_images_have_no_scores(clip_scorer: ClipScorer) -> None:
    assert clip_scorer.score([], []).shape == (0,)


def test_texts_must_match_images(clip_scorer: ClipScorer) -> None:
    with pytest.raises(ValueError, match="4 images and 1 texts"):
        clip_scorer.score(pictures(), ["a"])


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"CLIP model .*nothing-here.* cannot be loaded"):
        ClipScorer(str(tmp_path / "nothing-here"), "cpu")


def test_pickled_weights_are_refused(clip_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(clip_folder, folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        ClipScorer(str(folder), "cpu")
