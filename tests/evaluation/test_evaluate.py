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
from evaluation.config import GenerationConfig, LimitsConfig, MeasureConfig, ObjectiveConfig, PromptSet
from evaluation.copies import CopyDetector
from evaluation.evaluate import Evaluator, Measurement
from evaluation.faces import FaceModel, distances, mean_pairwise_distance
from evaluation.generate import ImageBatch
from evaluation.hw10 import hw10_scores
from evaluation.judges import Pictures
from evaluation.measures import Measure
from evaluation.objective import appraise, meter_lower_ends
from evaluation.person import Person, measure_person
from evaluation.scores import Anchors, candidate_metrics

PROMPTS = PromptSet(
    prompts=("a photo of {trigger} man, smiling, blue background", "a {trigger} man, gray background"), seeds=(3, 4)
)


OTHERS = PromptSet(prompts=("a photo of a woman, happy, red background",), seeds=(3, 4))
OBJECTIVE = ObjectiveConfig()


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
    metrics = baseline.metrics(OBJECTIVE)
    zeros = ("likeness", "leakage", "memorisation", "likeness_spread", "others_faceless")
    assert {name: metrics[name] for name in zeros} == pytest.approx(dict.fromkeys(zeros, 0.0), abs=1e-12)
    assert (metrics["fidelity"], metrics["others_fidelity"]) == pytest.approx((1.0, 1.0))
    assert metrics == candidate_metrics(
        baseline.person.rows, baseline.anchors, OBJECTIVE, other_rows=baseline.others.rows
    )
    assert baseline.lower_ends(metrics) == meter_lower_ends(
        metrics, baseline.person.rows, baseline.others.rows, baseline.anchors
    )
    assert baseline.anchors.real["face_distance"] == person.real_distance
    assert baseline.anchors.copy_distance == person.copy_distance
    assert baseline.anchors == Anchors.of(baseline.person.rows, baseline.others.rows, {**metrics, **baseline.ends})
    assert [(row.prompt_index, row.seed) for row in baseline.person.rows] == [(0, 3), (0, 4), (1, 3), (1, 4)]
    assert [(row.prompt_index, row.seed) for row in baseline.others.rows] == [(0, 3), (0, 4)]
    texts = ("a photo of man, smiling, blue background", "a man, gray background")
    check_rows_against_images(evaluator, baseline.person, texts, person)
    check_rows_against_images(evaluator, baseline.others, OTHERS.prompts, person)

    # The same model again is the same candidate: likeness 0, fidelity 1, leakage 0.
    again = evaluator.evaluate(pipeline, person, baseline.anchors)
    assert again.person.rows == baseline.person.rows
    assert again.others.rows == baseline.others.rows
    assert again.metrics(OBJECTIVE) == metrics
    assert again.ends == {}, "the anchors are the baseline's"

    hw10 = evaluator.hw10(again, evaluator.face_model.represent(photos_of_man))
    # CLIP reads the prompt that the image was made from; likeness and fidelity leave the trigger out.
    with_trigger = ["a photo of sks man, smiling, blue background"] * 2 + ["a sks man, gray background"] * 2
    clip_scores = evaluator.clip_scorer.score(again.person.images, with_trigger)
    assert hw10 == hw10_scores(
        evaluator.face_model.represent(again.person.images),
        evaluator.face_model.represent(photos_of_man),
        clip_scores.tolist(),
    )
    assert hw10.clip_score != pytest.approx(np.mean([row.clip_score for row in again.person.rows]), abs=0.1)


def check_rows_against_images(
    evaluator: Evaluator, measured: Measurement, texts: Sequence[str], person: Person
) -> None:
    """Each row says of its image what the face model, CLIP and the photos say of it; each text has two seeds."""
    rows, images = measured.rows, measured.images
    scores = np.stack([evaluator.clip_scorer.score(images, [text] * len(images)) for text in texts], axis=1)
    embeddings = evaluator.clip_scorer.embed_images(images)
    photos = person.copies.nearest(images)
    threshold = evaluator.face_model.verification_threshold
    assert threshold is not None
    for place, (row, face, photo) in enumerate(zip(rows, evaluator.face_model.embed(images), photos, strict=True)):
        own, others = place // 2, [other for other in range(len(texts)) if other != place // 2]
        assert row.clip_score == pytest.approx(scores[place, own])
        assert row.value("mismatched_clip_score") == (pytest.approx(scores[place, others].mean()) if others else None)
        assert row.value("retrieved") == (float(scores[place, own] > scores[place, others].max()) if others else None)
        sibling = place + 1 - 2 * (place % 2)
        between = float(np.linalg.norm(embeddings[place] - embeddings[sibling]))
        assert row.value("seed_distance") == pytest.approx(between, abs=1e-6)
        assert row.measures["training_photo"] == person.training_names[photo.index]
        assert row.value("picture_distance") == pytest.approx(photo.distance)
        assert row.face_found == (face is not None)
        if face is None:
            assert row.value("verified") == 0.0
            continue
        to_reference = distances(face.embedding[None], person.reference)[0]
        assert row.face_distance == pytest.approx(to_reference.mean(), abs=1e-5)
        assert row.value("nearest_distance") == pytest.approx(to_reference.min(), abs=1e-5)
        assert row.value("verified") == pytest.approx((to_reference <= threshold).mean())
        to_training = distances(face.embedding[None], person.training)[0]
        assert row.value("training_distance") == pytest.approx(to_training.mean(), abs=1e-5)
        assert (row.value("face_confidence"), row.value("faces"), row.value("several_faces")) == (face.confidence, 1, 0)


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
    """In place of CLIP: remembers the texts; an image scores 20 with its own of two and 5 with the other."""

    def __init__(self) -> None:
        self.texts: list[list[str]] = []

    def embed_images(self, images: Sequence[Image.Image]) -> NDArray[np.float64]:
        rest = (1 - 0.2**2 - 0.05**2) ** 0.5
        half = len(images) // 2
        return np.array([[0.2, 0.05, rest]] * half + [[0.05, 0.2, rest]] * (len(images) - half))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float64]:
        self.texts.append(list(texts))
        return np.eye(3)[: len(texts)]


@pytest.mark.parametrize(
    ("class_word", "read"),
    [
        ("", ["a photo of person, smiling, blue background", "a man, gray background"]),
        ("gentleman", ["a photo of gentleman, smiling, blue background", "a man, gray background"]),
    ],
)
def test_images_are_made_with_the_trigger_and_read_with_the_class_word(
    class_word: str,
    read: list[str],
    evaluator: Evaluator,
    person: Person,
    photos_of_man: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, clip_scores = FixedImages(photos_of_man), FixedClipScores()
    monkeypatch.setattr(evaluate, "generate_images", images)
    monkeypatch.setattr(evaluator, "clip_scorer", clip_scores)
    monkeypatch.setattr(evaluator, "others", None)
    monkeypatch.setattr(evaluator, "class_word", class_word)
    prompts = ("a photo of {trigger}, smiling, blue background", "a {trigger} man, gray background")
    monkeypatch.setattr(evaluator, "prompt_set", PromptSet(prompts=prompts, seeds=(3, 4)))
    unused: Any = None
    evaluation = evaluator.evaluate(unused, person, ANCHORS)
    with_trigger = ["a photo of sks, smiling, blue background"] * 2 + ["a sks man, gray background"] * 2
    assert images.asked == [(with_trigger, [3, 4, 3, 4])]
    assert clip_scores.texts == [read]
    assert [row.clip_score for row in evaluation.person.rows] == pytest.approx([20.0] * 4)
    assert [row.value("mismatched_clip_score") for row in evaluation.person.rows] == pytest.approx([5.0] * 4)
    assert not {"leakage", "others_fidelity", "others_faceless"} & set(evaluation.metrics(OBJECTIVE)), (
        "without images of others there is nothing to measure"
    )


def test_judging_needs_an_image_for_each_prompt_and_seed(
    evaluator: Evaluator, person: Person, photos_of_man: list[Image.Image]
) -> None:
    with pytest.raises(ValueError, match="3 images for 4 prompts and seeds"):
        evaluator.judge(photos_of_man[:3], PROMPTS, person)


ANCHORS = Anchors.between(untuned_distance=0.8, real_distance=0.3, clip_score=20.0)


def test_faceless_images_cost_likeness_and_an_all_faceless_model_still_has_metrics(
    evaluator: Evaluator, person: Person, photos_of_man: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = Image.new("RGB", (64, 64), "gray")
    unused: Any = None

    def metrics_of(images: Sequence[Image.Image]) -> dict[str, float]:
        monkeypatch.setattr(evaluate, "generate_images", FixedImages(images))
        return evaluator.evaluate(unused, person, ANCHORS).metrics(OBJECTIVE)

    monkeypatch.setattr(evaluator, "clip_scorer", FixedClipScores())
    monkeypatch.setattr(evaluator, "others", None)
    all_faces = metrics_of(photos_of_man)
    half = metrics_of([photos_of_man[0], blank, photos_of_man[2], blank])
    none = metrics_of([blank] * 4)
    assert all_faces["likeness"] > 0.8
    assert all_faces["verification_rate"] == 1.0
    assert half["faceless"] == 2
    assert half["likeness"] == pytest.approx(all_faces["likeness"] / 2, rel=0.2)
    assert half["verification_rate"] == 0.5
    assert "face_distance" not in none
    assert (none["faceless"], none["likeness"], none["verification_rate"]) == (4, 0.0, 0.0)
    assert none["fidelity"] == pytest.approx(1.0)
    assert appraise(none, {}, OBJECTIVE, LimitsConfig()).unfit == ("it draws no face",)


def test_a_base_model_without_faces_cannot_set_anchors(
    evaluator: Evaluator, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "generate_images", FixedImages([Image.new("RGB", (64, 64))] * 4))
    monkeypatch.setattr(evaluator, "others", None)
    unused: Any = None
    with pytest.raises(ValueError, match=r"drew no face in 4 images, .* or another detector than dlib"):
        evaluator.measure_anchors(unused, person)


def test_an_untuned_model_whose_others_have_no_face_measures_no_leakage(
    evaluator: Evaluator, person: Person, photos_of_woman: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = Image.new("RGB", (64, 64), "gray")

    def draw(pipeline: Any, prompts: Sequence[str], *rest: Any) -> Any:
        return [blank, blank] if prompts[0] == OTHERS.prompts[0] else photos_of_woman

    monkeypatch.setattr(evaluate, "generate_images", draw)
    monkeypatch.setattr(evaluator, "clip_scorer", FixedClipScores())
    unused: Any = None
    baseline = evaluator.measure_anchors(unused, person)
    assert "face_distance" not in baseline.anchors.others
    assert baseline.anchors.others["face_found"] == 0.0
    metrics = baseline.metrics(OBJECTIVE)
    assert "leakage" not in metrics
    assert metrics["others_faceless"] == 0.0


class Width:
    """A judge that says how wide a picture is."""

    measures = (Measure(name="width", meaning="pixels"),)

    def judge(self, pictures: Pictures) -> list[dict[str, float]]:
        return [{"width": float(image.width)} for image in pictures.images]


def test_further_judges_measure_images_and_real_photos(
    evaluator: Evaluator, person: Person, photos_of_woman: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller = [photo.resize((96, 96)) for photo in photos_of_woman]
    monkeypatch.setattr(evaluate, "generate_images", FixedImages(smaller))
    monkeypatch.setattr(evaluator, "clip_scorer", FixedClipScores())
    monkeypatch.setattr(evaluator, "others", None)
    monkeypatch.setattr(evaluator, "judges", (Width(),))
    unused: Any = None
    baseline = evaluator.measure_anchors(unused, person)
    assert (baseline.anchors.untuned["width"], baseline.anchors.real["width"]) == (96.0, 128.0)
    assert baseline.ends["real_width"] == 128.0
    objective = ObjectiveConfig(measures={"width": MeasureConfig(weight=0.2)})
    monkeypatch.setattr(evaluate, "generate_images", FixedImages([photo.resize((104, 104)) for photo in smaller]))
    metrics = evaluator.evaluate(unused, person, baseline.anchors).metrics(objective)
    assert metrics["width"] == 104.0
    assert metrics["anchored_width"] == pytest.approx(0.25)


def test_an_excerpt_is_of_the_first_prompts_and_seed_and_judges_alike(evaluator: Evaluator) -> None:
    evaluator.judges, evaluator.class_word = (Width(),), "man"
    excerpt = evaluator.excerpt(1)
    assert excerpt.prompt_set == PromptSet(prompts=PROMPTS.prompts[:1], seeds=(3,))
    assert excerpt.others is None
    assert (excerpt.judges, excerpt.class_word) == (evaluator.judges, "man")


def test_a_person_remembers_the_photos(person: Person, face_model: FaceModel, photos_of_man: list[Image.Image]) -> None:
    assert person.reference_images == tuple(photos_of_man[:2])
    trained = [face.embedding for face in face_model.embed(photos_of_man[2:]) if face is not None]
    np.testing.assert_array_equal(person.training, np.stack(trained))


def test_training_photos_without_a_face_say_nothing_of_faces(
    face_model: FaceModel, photos_of_man: list[Image.Image]
) -> None:
    blank = Image.new("RGB", (64, 64), "gray")
    person = measure_person(face_model, reference=named(photos_of_man[:2], "seen"), training={"blank.png": blank})
    assert person.training.shape == (0, person.reference.shape[1])
    assert person.training_names == ("blank.png",)
