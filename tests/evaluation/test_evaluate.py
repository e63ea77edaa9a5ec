from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evaluation import evaluate
from evaluation.clip_score import ClipScorer
from evaluation.config import GenerationConfig, PromptSet
from evaluation.evaluate import Baseline, Evaluator, Reference, mean_pairwise_distance
from evaluation.faces import FaceModel, distances
from evaluation.hw10 import hw10_scores
from evaluation.scores import Anchors

PROMPTS = PromptSet(
    prompts=("a photo of {trigger} man, smiling, blue background", "a {trigger} man, gray background"), seeds=(3, 4)
)


@pytest.fixture
def evaluator(pipeline: Any, face_model: FaceModel, clip_scorer: ClipScorer) -> Evaluator:
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    generation = GenerationConfig(steps=12, guidance_scale=3.0, resolution=side, batch_size=4)
    return Evaluator(PROMPTS, "sks", generation, face_model, clip_scorer)


@pytest.fixture(scope="module")
def reference(face_model: FaceModel, photos_of_man: list[Image.Image]) -> Reference:
    return np.stack([face.embedding for face in face_model.embed(photos_of_man) if face is not None])


def test_reference_is_one_unit_embedding_for_each_photo(
    evaluator: Evaluator, photos_of_man: list[Image.Image], reference: Reference
) -> None:
    found = evaluator.reference(photos_of_man)
    assert found.shape == (4, 128)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, reference)


def test_every_reference_photo_without_a_face_is_named(evaluator: Evaluator, photos_of_man: list[Image.Image]) -> None:
    blank = Image.new("RGB", (64, 64), "gray")
    photos = [photos_of_man[0], blank, photos_of_man[1], blank]
    with pytest.raises(ValueError, match=r"no face was found in the reference photos b\.jpg, d\.jpg;"):
        evaluator.reference(photos, names=["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    with pytest.raises(ValueError, match="photos number 2, number 4;"):
        evaluator.reference(photos)
    with pytest.raises(ValueError, match="1 reference photos; likeness needs at least 2"):
        evaluator.reference(photos[:1])
    with pytest.raises(ValueError, match="2 reference photos and 1 names"):
        evaluator.reference(photos[:2], names=["a.jpg"])


def test_mean_pairwise_distance_counts_each_pair_once() -> None:
    photos = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=np.float32)
    assert mean_pairwise_distance(photos) == pytest.approx((2**0.5 + 2**0.5 + 2.0) / 3)


def test_baseline_then_candidate(
    evaluator: Evaluator, pipeline: Any, reference: Reference, photos_of_man: list[Image.Image]
) -> None:
    baseline = evaluator.measure_anchors(pipeline, reference)
    scores = baseline.evaluation.scores
    assert scores.likeness == pytest.approx(0.0, abs=1e-12)
    assert scores.fidelity == pytest.approx(1.0)
    assert baseline.anchors.real_distance == pytest.approx(mean_pairwise_distance(reference))
    assert [(row.prompt_index, row.seed) for row in baseline.evaluation.rows] == [(0, 3), (0, 4), (1, 3), (1, 4)]
    check_rows_against_images(evaluator, baseline, reference)

    # The same model again is the same candidate: likeness 0, fidelity 1.
    again = evaluator.evaluate(pipeline, reference, baseline.anchors)
    assert again.rows == baseline.evaluation.rows
    assert again.scores == scores

    hw10 = evaluator.hw10(again, evaluator.face_model.represent(photos_of_man))
    assert hw10 == hw10_scores(
        evaluator.face_model.represent(again.images),
        evaluator.face_model.represent(photos_of_man),
        [row.clip_score for row in again.rows],
    )


def check_rows_against_images(evaluator: Evaluator, baseline: Baseline, reference: Reference) -> None:
    """Each row says of its image what the face model and CLIP say of it."""
    rows, images = baseline.evaluation.rows, baseline.evaluation.images
    texts = ["a photo of man, smiling, blue background"] * 2 + ["a man, gray background"] * 2
    np.testing.assert_allclose([row.clip_score for row in rows], evaluator.clip_scorer.score(images, texts), atol=1e-9)
    for row, face in zip(rows, evaluator.face_model.embed(images), strict=True):
        assert row.face_found == (face is not None)
        if face is None:
            continue
        to_photos = distances(face.embedding[None], reference)[0]
        assert row.face_distance == pytest.approx(to_photos.mean(), abs=1e-5)
        assert row.nearest_distance == pytest.approx(to_photos.min(), abs=1e-5)
        assert row.face_confidence == face.confidence


class FixedImages:
    """In place of generation: remembers what was asked and returns given images in turn."""

    def __init__(self, images: Sequence[Image.Image]) -> None:
        self.images = list(images)
        self.asked: list[tuple[list[str], list[int]]] = []

    def __call__(
        self, pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], config: GenerationConfig
    ) -> list[Image.Image]:
        self.asked.append((list(prompts), list(seeds)))
        return self.images


class FixedClipScores:
    """In place of CLIP: remembers the texts and scores 20."""

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    def score(self, images: Sequence[Image.Image], texts: Sequence[str]) -> NDArray[np.float64]:
        self.texts.append(list(texts))
        return np.full(len(texts), 20.0)


def test_images_are_made_with_the_trigger_and_scored_without(
    evaluator: Evaluator, reference: Reference, photos_of_man: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, clip_scores = FixedImages(photos_of_man), FixedClipScores()
    monkeypatch.setattr(evaluate, "generate_images", images)
    monkeypatch.setattr(evaluator, "clip_scorer", clip_scores)
    unused: Any = None
    rows, _ = evaluator.measure(unused, reference)
    with_trigger = ["a photo of sks man, smiling, blue background"] * 2 + ["a sks man, gray background"] * 2
    assert images.asked == [(with_trigger, [3, 4, 3, 4])]
    assert clip_scores.texts == [["a photo of man, smiling, blue background"] * 2 + ["a man, gray background"] * 2]
    assert [row.clip_score for row in rows] == [20.0] * 4


def test_faceless_images_cost_likeness_and_an_all_faceless_model_still_has_scores(
    evaluator: Evaluator, reference: Reference, photos_of_man: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = Image.new("RGB", (64, 64), "gray")
    anchors = Anchors(base_distance=0.8, real_distance=0.3, base_clip_score=20.0)
    unused: Any = None

    def scores_of(images: Sequence[Image.Image]) -> Any:
        monkeypatch.setattr(evaluate, "generate_images", FixedImages(images))
        return evaluator.evaluate(unused, reference, anchors).scores

    monkeypatch.setattr(evaluator, "clip_scorer", FixedClipScores())
    all_faces = scores_of(photos_of_man)
    half = scores_of([photos_of_man[0], blank, photos_of_man[2], blank])
    none = scores_of([blank] * 4)
    assert all_faces.likeness > 1.0  # each photo is also one of the four references, at distance 0 from itself
    assert half.faceless == 2
    assert half.likeness == pytest.approx(all_faces.likeness / 2, rel=0.2)
    assert (none.faceless, none.face_distance, none.likeness, none.fidelity) == (4, None, 0.0, 1.0)


def test_a_base_model_without_faces_cannot_set_anchors(
    evaluator: Evaluator, reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "generate_images", FixedImages([Image.new("RGB", (64, 64))] * 4))
    unused: Any = None
    with pytest.raises(ValueError, match="drew no face in 4 images"):
        evaluator.measure_anchors(unused, reference)
