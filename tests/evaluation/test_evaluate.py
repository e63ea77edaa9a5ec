"""The evaluator: who the person is, the baseline and a candidate, from prompts to metrics."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evaluation import evaluate
from evaluation.clip_score import ClipScorer
from evaluation.config import GenerationConfig, PromptSet
from evaluation.copies import CopyDetector
from evaluation.evaluate import Evaluator, Measurement
from evaluation.faces import FaceModel, distances, mean_pairwise_distance
from evaluation.generate import ImageBatch
from evaluation.hw10 import hw10_scores
from evaluation.person import Person, measure_person
from evaluation.scores import Anchors

PROMPTS = PromptSet(
    prompts=("a photo of {trigger} man, smiling, blue background", "a {trigger} man, gray background"), seeds=(3, 4)
)


OTHERS = PromptSet(prompts=("a photo of a woman, happy, red background",), seeds=(3, 4))


@pytest.fixture
def evaluator(pipeline: Any, face_model: FaceModel, clip_scorer: ClipScorer) -> Evaluator:
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    generation = GenerationConfig(steps=12, guidance_scale=3.0, resolution=side, batch_size=4)
    return Evaluator(PROMPTS, "sks", generation, face_model, clip_scorer, others=OTHERS)


def named(photos: Sequence[Image.Image], prefix: str) -> dict[str, Image.Image]:
    return {f"{prefix}{index}.png": photo for index, photo in enumerate(photos)}


@pytest.fixture(scope="module")
def person(face_model: FaceModel, photos_of_man: list[Image.Image]) -> Person:
    """Two photos to compare with, two to train on."""
    return measure_person(
        face_model, reference=named(photos_of_man[:2], "seen"), training=named(photos_of_man[2:], "trained")
    )


def test_a_person_is_known_by_faces_and_pictures(
    face_model: FaceModel, person: Person, photos_of_man: list[Image.Image]
) -> None:
    expected = [face.embedding for face in face_model.embed(photos_of_man[:2]) if face is not None]
    np.testing.assert_array_equal(person.reference, np.stack(expected))
    assert person.real_distance == pytest.approx(float(distances(expected[0][None], expected[1][None])[0, 0]))
    assert [photo.index for photo in person.copies.nearest(photos_of_man[2:])] == [0, 1]
    assert person.copy_distance == CopyDetector(photos_of_man[2:], photos_of_man[:2]).copy_distance


def test_the_pairings_are_written_down(person: Person) -> None:
    pairings = person.pairings()
    assert pairings["generated"]["reference_photos"] == ["seen0.png", "seen1.png"]
    assert pairings["real"]["pairs"] == [["seen0.png", "seen1.png", pytest.approx(person.real_distance, abs=1e-6)]]
    assert pairings["copies"]["training_photos"] == ["trained0.png", "trained1.png"]
    assert json.loads(json.dumps(pairings)) == pairings


def test_every_reference_photo_without_a_face_is_named(face_model: FaceModel, photos_of_man: list[Image.Image]) -> None:
    blank = Image.new("RGB", (64, 64), "gray")
    photos = {"a.jpg": photos_of_man[0], "b.jpg": blank, "c.jpg": photos_of_man[1], "d.jpg": blank}
    with pytest.raises(ValueError, match=r"no face was found in the reference photos b\.jpg, d\.jpg;"):
        measure_person(face_model, reference=photos, training=photos)
    with pytest.raises(ValueError, match="1 reference photos; likeness needs at least 2"):
        measure_person(face_model, reference={"a.jpg": photos_of_man[0]}, training=photos)
    with pytest.raises(ValueError, match="no training photos"):
        measure_person(face_model, reference=photos, training={})


def test_mean_pairwise_distance_counts_each_pair_once() -> None:
    photos = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=np.float32)
    assert mean_pairwise_distance(photos) == pytest.approx((2**0.5 + 2**0.5 + 2.0) / 3)


def test_baseline_then_candidate(
    evaluator: Evaluator, pipeline: Any, person: Person, photos_of_man: list[Image.Image]
) -> None:
    baseline = evaluator.measure_anchors(pipeline, person)
    assert baseline.scores.likeness == pytest.approx(0.0, abs=1e-12)
    assert baseline.scores.fidelity == pytest.approx(1.0)
    assert baseline.metrics()["leakage"] == pytest.approx(0.0, abs=1e-12)
    assert baseline.metrics()["memorisation"] == 0.0
    assert baseline.metrics()["likeness_spread"] == pytest.approx(0.0, abs=1e-12)
    assert baseline.anchors.real_distance == person.real_distance
    assert baseline.anchors.copy_distance == person.copy_distance
    assert [(row.prompt_index, row.seed) for row in baseline.person.rows] == [(0, 3), (0, 4), (1, 3), (1, 4)]
    assert [(row.prompt_index, row.seed) for row in baseline.others.rows] == [(0, 3), (0, 4)]
    texts = ["a photo of man, smiling, blue background"] * 2 + ["a man, gray background"] * 2
    check_rows_against_images(evaluator, baseline.person, texts, person)
    check_rows_against_images(evaluator, baseline.others, [OTHERS.prompts[0]] * 2, person)

    # The same model again is the same candidate: likeness 0, fidelity 1, leakage 0.
    again = evaluator.evaluate(pipeline, person, baseline.anchors)
    assert again.person.rows == baseline.person.rows
    assert again.others.rows == baseline.others.rows
    assert again.metrics() == baseline.metrics()

    hw10 = evaluator.hw10(again, evaluator.face_model.represent(photos_of_man))
    # CLIP reads the prompt that the image was made from; likeness and fidelity leave the trigger out.
    with_trigger = ["a photo of sks man, smiling, blue background"] * 2 + ["a sks man, gray background"] * 2
    clip_scores = evaluator.clip_scorer.score(again.person.images, with_trigger)
    assert hw10 == hw10_scores(
        evaluator.face_model.represent(again.person.images),
        evaluator.face_model.represent(photos_of_man),
        list(clip_scores),
    )
    assert hw10.clip_score != pytest.approx(np.mean([row.clip_score for row in again.person.rows]), abs=0.1)


def check_rows_against_images(
    evaluator: Evaluator, measured: Measurement, texts: Sequence[str], person: Person
) -> None:
    """Each row says of its image what the face model, CLIP and the training photos say of it."""
    rows, images = measured.rows, measured.images
    np.testing.assert_allclose([row.clip_score for row in rows], evaluator.clip_scorer.score(images, texts), atol=1e-9)
    photos = person.copies.nearest(images)
    for row, face, photo in zip(rows, evaluator.face_model.embed(images), photos, strict=True):
        assert row.training_photo == person.training_names[photo.index]
        assert row.picture_distance == pytest.approx(photo.distance)
        assert row.face_found == (face is not None)
        if face is None:
            continue
        to_reference = distances(face.embedding[None], person.reference)[0]
        assert row.face_distance == pytest.approx(to_reference.mean(), abs=1e-5)
        assert row.nearest_distance == pytest.approx(to_reference.min(), abs=1e-5)
        assert (row.face_confidence, row.faces) == (face.confidence, 1)


class FixedImages:
    """In place of generation: remembers what was asked and returns given images in turn."""

    def __init__(self, images: Sequence[Image.Image]) -> None:
        self.images = list(images)
        self.asked: list[tuple[list[str], list[int]]] = []

    def __call__(
        self, pipeline: Any, prompts: Sequence[str], seeds: Sequence[int], config: GenerationConfig, batch: ImageBatch
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
    evaluator: Evaluator, person: Person, photos_of_man: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, clip_scores = FixedImages(photos_of_man), FixedClipScores()
    monkeypatch.setattr(evaluate, "generate_images", images)
    monkeypatch.setattr(evaluator, "clip_scorer", clip_scores)
    monkeypatch.setattr(evaluator, "others", None)
    unused: Any = None
    evaluation = evaluator.evaluate(unused, person, ANCHORS)
    with_trigger = ["a photo of sks man, smiling, blue background"] * 2 + ["a sks man, gray background"] * 2
    assert images.asked == [(with_trigger, [3, 4, 3, 4])]
    assert clip_scores.texts == [["a photo of man, smiling, blue background"] * 2 + ["a man, gray background"] * 2]
    assert [row.clip_score for row in evaluation.person.rows] == [20.0] * 4
    assert "leakage" not in evaluation.metrics(), "without images of others there is nothing to measure"


def test_judging_needs_an_image_for_each_prompt_and_seed(
    evaluator: Evaluator, person: Person, photos_of_man: list[Image.Image]
) -> None:
    with pytest.raises(ValueError, match="3 images for 4 prompts and seeds"):
        evaluator.judge(photos_of_man[:3], PROMPTS, person)


ANCHORS = Anchors(base_distance=0.8, real_distance=0.3, base_clip_score=20.0)


def test_faceless_images_cost_likeness_and_an_all_faceless_model_still_has_scores(
    evaluator: Evaluator, person: Person, photos_of_man: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = Image.new("RGB", (64, 64), "gray")
    unused: Any = None

    def scores_of(images: Sequence[Image.Image]) -> Any:
        monkeypatch.setattr(evaluate, "generate_images", FixedImages(images))
        return evaluator.evaluate(unused, person, ANCHORS).scores

    monkeypatch.setattr(evaluator, "clip_scorer", FixedClipScores())
    monkeypatch.setattr(evaluator, "others", None)
    all_faces = scores_of(photos_of_man)
    half = scores_of([photos_of_man[0], blank, photos_of_man[2], blank])
    none = scores_of([blank] * 4)
    assert all_faces.likeness > 0.8
    assert half.faceless == 2
    assert half.likeness == pytest.approx(all_faces.likeness / 2, rel=0.2)
    assert (none.faceless, none.face_distance, none.likeness, none.fidelity) == (4, None, 0.0, 1.0)


def test_a_base_model_without_faces_cannot_set_anchors(
    evaluator: Evaluator, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "generate_images", FixedImages([Image.new("RGB", (64, 64))] * 4))
    monkeypatch.setattr(evaluator, "others", None)
    unused: Any = None
    with pytest.raises(ValueError, match="drew no face in 4 images"):
        evaluator.measure_anchors(unused, person)


def test_an_untuned_model_whose_others_have_no_face_measures_no_leakage(
    evaluator: Evaluator, person: Person, photos_of_woman: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = Image.new("RGB", (64, 64), "gray")

    def draw(pipeline: Any, prompts: Sequence[str], *rest: Any) -> Any:
        return [blank, blank] if prompts[0] == OTHERS.prompts[0] else photos_of_woman

    monkeypatch.setattr(evaluate, "generate_images", draw)
    unused: Any = None
    baseline = evaluator.measure_anchors(unused, person)
    assert baseline.anchors.other_distance is None
    assert "leakage" not in baseline.metrics()
