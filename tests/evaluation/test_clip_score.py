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

from evaluation.clip_score import ClipJudge, ClipScorer
from evaluation.judges import Pictures, judged
from evaluation.measures import CLIP_MEASURES

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


def test_no_texts_and_no_images_have_no_embeddings(clip_scorer: ClipScorer) -> None:
    dimension = clip_scorer.embed_texts(["a man"]).shape[1]
    assert clip_scorer.embed_images([]).shape == clip_scorer.embed_texts([]).shape == (0, dimension)


def test_embeddings_have_length_1(clip_scorer: ClipScorer) -> None:
    for embeddings in (clip_scorer.embed_images(pictures()), clip_scorer.embed_texts(TEXTS)):
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-9)


def test_an_image_is_compared_with_all_prompts_and_with_its_siblings(clip_scorer: ClipScorer) -> None:
    images, prompts = pictures(), (2, 0, 0, 0)
    said = ClipJudge(clip_scorer).judge(Pictures(images=images, texts=TEXTS[:3], prompts=prompts))
    scores = np.stack([clip_scorer.score(images, [text] * 4) for text in TEXTS[:3]], axis=1)
    embeddings = clip_scorer.embed_images(images)
    for place, (prompt, found) in enumerate(zip(prompts, said, strict=True)):
        others = [scores[place, other] for other in range(3) if other != prompt]
        assert found["clip_score"] == pytest.approx(scores[place, prompt])
        assert found["mismatched_clip_score"] == pytest.approx(np.mean(others))
        assert found["retrieved"] == float(scores[place, prompt] > max(others))
    assert "seed_distance" not in said[0], "its prompt has one seed"
    for place in (1, 2, 3):
        siblings = [other for other in (1, 2, 3) if other != place]
        expected = np.mean([np.linalg.norm(embeddings[place] - embeddings[other]) for other in siblings])
        assert said[place]["seed_distance"] == pytest.approx(expected, abs=1e-6)


def test_an_image_is_found_by_its_own_prompt_and_not_by_another(clip_scorer: ClipScorer) -> None:
    image = pictures()[0]
    scores = clip_scorer.score([image] * 4, TEXTS)
    best, worst = int(scores.argmax()), int(scores.argmin())
    found = ClipJudge(clip_scorer).judge(Pictures(images=[image, image], texts=TEXTS, prompts=(best, worst)))
    assert [said["retrieved"] for said in found] == [1.0, 0.0]


def test_a_prompt_that_reads_the_same_to_clip_is_no_other_prompt(clip_scorer: ClipScorer) -> None:
    """`{trigger} man` and `{trigger}` with the class word man; as a mismatch one would cost the other its fidelity."""
    images, texts = pictures()[:3], ("a man", "a smiling woman", "a man")
    said = ClipJudge(clip_scorer).judge(Pictures(images=images, texts=texts, prompts=(0, 1, 2)))
    man, woman = (clip_scorer.score(images, [text] * 3) for text in texts[:2])
    mismatched = [found["mismatched_clip_score"] for found in said]
    assert mismatched == pytest.approx([woman[0], man[1], woman[2]])
    assert [found["retrieved"] for found in said] == [man[0] > woman[0], woman[1] > man[1], man[2] > woman[2]]


@pytest.mark.parametrize("texts", [("a man",), ("a man", "a man")])
def test_where_all_prompts_read_the_same_there_is_no_other(clip_scorer: ClipScorer, texts: tuple[str, ...]) -> None:
    prompts = [index % len(texts) for index in range(4)]
    said = ClipJudge(clip_scorer).judge(Pictures(images=pictures(), texts=texts, prompts=prompts))
    assert [set(found) for found in said] == [{"clip_score", "seed_distance"}] * 4


def test_the_same_picture_with_another_seed_has_no_distance(clip_scorer: ClipScorer) -> None:
    image = pictures()[1]
    found = ClipJudge(clip_scorer).judge(Pictures(images=[image, image], texts=TEXTS, prompts=(1, 1)))
    assert [said["seed_distance"] for said in found] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_photos_have_no_prompts_and_nothing_is_said_of_them(clip_scorer: ClipScorer) -> None:
    assert ClipJudge(clip_scorer).judge(Pictures(images=pictures())) == [{}] * 4
    assert ClipJudge(clip_scorer).judge(Pictures(images=[], texts=TEXTS)) == []


def test_what_clip_says_is_declared(clip_scorer: ClipScorer) -> None:
    found = judged([ClipJudge(clip_scorer)], Pictures(images=pictures(), texts=TEXTS, prompts=(0, 0, 1, 1)))
    assert {name for said in found for name in said} == {measure.name for measure in CLIP_MEASURES}
