"""The face model: detection, embeddings and distances on photos of two people."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from evaluation.config import FaceConfig
from evaluation.faces import Face, FaceModel, FaceModelError, distances
from evaluation.loading_error import LoadingError


def blank(side: int = 128) -> Image.Image:
    return Image.new("RGB", (side, side), "gray")


def noise(side: int = 128) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def faces_of(model: FaceModel, images: list[Image.Image]) -> list[Face]:
    """The faces of images that must all have one."""
    found = [face for face in model.embed(images) if face is not None]
    assert len(found) == len(images)
    return found


def stacked(faces: list[Face]) -> Any:
    return np.stack([face.embedding for face in faces])


@pytest.fixture(scope="module")
def man(face_model: FaceModel, photos_of_man: list[Image.Image]) -> list[Face]:
    return faces_of(face_model, photos_of_man)


@pytest.fixture(scope="module")
def woman(face_model: FaceModel, photos_of_woman: list[Image.Image]) -> list[Face]:
    return faces_of(face_model, photos_of_woman)


def test_a_face_is_a_unit_embedding_with_a_box_inside_the_image(man: list[Face]) -> None:
    for face in man:
        assert face.embedding.shape == (128,)
        assert face.embedding.dtype == np.float32
        assert np.linalg.norm(face.embedding) == pytest.approx(1.0, abs=1e-6)
        assert 0.0 < face.confidence <= 1.0
        x, y, width, height = face.box
        assert 0 <= x < x + width <= 128
        assert 0 <= y < y + height <= 128


def test_photos_of_one_person_are_nearer_than_photos_of_two(man: list[Face], woman: list[Face]) -> None:
    within = distances(stacked(man), stacked(man))
    between = distances(stacked(man), stacked(woman))
    assert within.max() < between.min()


def test_embedding_is_what_deepface_gives_for_the_file(
    man: list[Face], photos_of_man: list[Image.Image], tmp_path: Path
) -> None:
    deepface: Any = importlib.import_module("deepface.DeepFace")

    path = tmp_path / "photo.png"
    photos_of_man[0].save(path)
    (entry,) = deepface.represent(str(path), model_name="Dlib", detector_backend="dlib", l2_normalize=True)
    np.testing.assert_allclose(man[0].embedding, entry["embedding"], atol=1e-6)
    area = entry["facial_area"]
    assert man[0].box == (area["x"], area["y"], area["w"], area["h"])
    assert man[0].confidence == entry["face_confidence"]


def test_images_without_a_face_are_none_and_do_not_disturb_the_others(
    face_model: FaceModel, man: list[Face], photos_of_man: list[Image.Image]
) -> None:
    answer = face_model.embed([blank(), photos_of_man[0], noise(), Image.new("L", (40, 40)), photos_of_man[1]])
    assert [face is None for face in answer] == [True, False, True, True, False]
    for face, alone in zip([answer[1], answer[4]], man[:2], strict=True):
        assert face is not None
        np.testing.assert_allclose(face.embedding, alone.embedding, atol=1e-5)


def test_batches_of_none_one_and_only_faceless(
    face_model: FaceModel, man: list[Face], photos_of_man: list[Image.Image]
) -> None:
    assert face_model.embed([]) == []
    assert face_model.embed([blank(), noise()]) == [None, None]
    (alone,) = face_model.embed(photos_of_man[:1])
    assert alone is not None
    np.testing.assert_allclose(alone.embedding, man[0].embedding, atol=1e-5)


def side_by_side(large: Image.Image, small: Image.Image, *, large_first: bool) -> Image.Image:
    sheet = Image.new("RGB", (384, 256), "gray")
    sheet.paste(large.resize((256, 256)), (0 if large_first else 128, 0))
    sheet.paste(small.resize((128, 128)), (256 if large_first else 0, 64))
    return sheet


@pytest.mark.parametrize("large_first", [True, False])
def test_of_two_faces_the_larger_counts(
    face_model: FaceModel,
    photos_of_man: list[Image.Image],
    photos_of_woman: list[Image.Image],
    man: list[Face],
    woman: list[Face],
    large_first: bool,
) -> None:
    large_man = side_by_side(photos_of_man[0], photos_of_woman[0], large_first=large_first)
    large_woman = side_by_side(photos_of_woman[0], photos_of_man[0], large_first=large_first)
    assert [len(entries) for entries in face_model.represent([large_man, large_woman])] == [2, 2]
    found = stacked(faces_of(face_model, [large_man, large_woman]))
    nearest = distances(found, np.stack([man[0].embedding, woman[0].embedding])).argmin(axis=1)
    assert nearest.tolist() == [0, 1]


def test_the_faces_that_count_are_counted(
    face_model: FaceModel, photos_of_man: list[Image.Image], photos_of_woman: list[Image.Image]
) -> None:
    both = side_by_side(photos_of_man[0], photos_of_woman[0], large_first=True)
    assert [face.faces for face in faces_of(face_model, [both, photos_of_man[0]])] == [2, 1]


def test_a_tiny_face_does_not_count(face_model: FaceModel, photos_of_man: list[Image.Image]) -> None:
    """A face in the background of a picture that is not of it: found by the detector, left out by the rule."""
    picture = Image.new("RGB", (1600, 1600), "gray")
    picture.paste(photos_of_man[0], (760, 40))
    of_any_size = FaceModel(FaceConfig(recognizer="Dlib", detector="dlib", minimum_face=0.0))
    (face,) = faces_of(of_any_size, [picture])
    share = max(face.box[2:]) / 1600
    assert 0.02 < share < face_model.config.minimum_face
    assert face_model.embed([picture]) == [None]
    at_the_limit = FaceConfig(recognizer="Dlib", detector="dlib", minimum_face=share)
    assert FaceModel(at_the_limit).embed([picture])[0] is not None


def test_a_profile_that_the_detector_misses_is_faceless(
    face_model: FaceModel, views_of_head: tuple[Image.Image, Image.Image]
) -> None:
    """The demo's detector finds frontal faces; a head seen from the side is no face to it, real or generated."""
    front, profile = views_of_head
    assert [face is None for face in face_model.embed([front, profile])] == [False, True]


def test_confidence_must_be_above_the_minimum(
    face_model: FaceModel, photos_of_man: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real face as a detector with probabilities would give it; the weights of none come as a package."""
    deepface: Any = importlib.import_module("deepface.DeepFace")
    (face,) = deepface.extract_faces(
        np.asarray(photos_of_man[0])[:, :, ::-1], detector_backend="dlib", color_face="bgr"
    )
    monkeypatch.setattr(deepface, "extract_faces", lambda *arguments, **options: [{**face, "confidence": 0.95}])
    for minimum, counts in ((0.94, True), (0.95, False)):
        config = FaceConfig(recognizer="Dlib", detector="ssd", minimum_confidence=minimum)
        monkeypatch.setattr(face_model, "config", config)
        assert (face_model.embed(photos_of_man[:1])[0] is not None) == counts


def test_small_images_are_enlarged_and_boxes_stay_in_their_own_pixels(
    face_model: FaceModel, man: list[Face], photos_of_man: list[Image.Image]
) -> None:
    small = photos_of_man[0].resize((48, 48), Image.Resampling.LANCZOS)
    assert FaceModel(FaceConfig(recognizer="Dlib", detector="dlib", minimum_side=0)).embed([small]) == [None]
    (face,) = faces_of(face_model, [small])
    np.testing.assert_allclose(np.array(face.box) * 128 / 48, man[0].box, atol=8)
    assert distances(face.embedding[None], man[0].embedding[None])[0, 0] < 0.3


def test_represent_is_deepface_unfiltered(face_model: FaceModel, photos_of_man: list[Image.Image]) -> None:
    deepface: Any = importlib.import_module("deepface.DeepFace")

    images = [photos_of_man[0], blank()]
    pixels = [np.asarray(image)[:, :, ::-1] for image in images]
    expected = deepface.represent(
        pixels, model_name="Dlib", detector_backend="dlib", enforce_detection=False, l2_normalize=True
    )
    answer = face_model.represent(images)
    assert [[entry.confidence for entry in entries] for entries in answer] == [
        [entry["face_confidence"] for entry in entries] for entries in expected
    ]
    assert answer[1][0].confidence == 0.0
    for entries, originals in zip(answer, expected, strict=True):
        for entry, original in zip(entries, originals, strict=True):
            np.testing.assert_allclose(entry.embedding, original["embedding"], atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            FaceConfig(recognizer="GhostFacenet", detector="dlib"),
            "recognizer is 'GhostFacenet'.*did you mean GhostFaceNet",
        ),
        (FaceConfig(recognizer="Dlib", detector="retina"), "detector is 'retina'.*did you mean retinaface"),
        (
            FaceConfig(recognizer="Dlib", detector="zzz"),
            "detector is 'zzz', which DeepFace does not have; it has opencv",
        ),
    ],
)
def test_unknown_names_are_errors_with_the_nearest_right_one(config: FaceConfig, message: str) -> None:
    with pytest.raises(FaceModelError, match=message):
        FaceModel(config)


@pytest.mark.parametrize(("offline", "error"), [("0", LoadingError), ("1", FaceModelError)])
def test_weights_that_cannot_be_fetched_are_an_error_when_the_model_is_made(
    offline: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may come later where the network is down, and will not where it must not be asked."""
    weight_utils = importlib.import_module("deepface.commons.weight_utils")

    def refuse(url: str) -> None:
        raise ConnectionError("the network is down")

    monkeypatch.setattr(weight_utils, "ensure_source_is_reachable", refuse)
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    with pytest.raises(error, match=r"recognizer 'OpenFace' cannot be loaded.*use recognizer Dlib"):
        FaceModel(FaceConfig(recognizer="OpenFace", detector="dlib"))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("extract_faces", r"the detector 'dlib' failed on image 2 of 2 \(128 x 128 px\): {}.*choose another detector"),
        ("represent", r"the recognizer 'Dlib' failed on 2 faces: {}"),
    ],
)
@pytest.mark.parametrize("thrown", ["FaceNotDetected", "cv2.error", "KeyError", "IndexError", "TypeError"])
def test_a_failing_face_model_is_never_taken_for_no_face(
    face_model: FaceModel,
    photos_of_man: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    message: str,
    thrown: str,
) -> None:
    deepface: Any = importlib.import_module("deepface.DeepFace")
    errors: dict[str, type[Exception]] = {
        "FaceNotDetected": importlib.import_module("deepface.modules.exceptions").FaceNotDetected,
        "cv2.error": cv2.error,
        "KeyError": KeyError,
        "IndexError": IndexError,
        "TypeError": TypeError,
    }
    original, calls = getattr(deepface, function), []

    def fail(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if function == "extract_faces" and len(calls) < 2:
            return original(*arguments, **options)
        raise errors[thrown]("it broke")

    monkeypatch.setattr(deepface, function, fail)
    with pytest.raises(FaceModelError, match=message.format(rf"{errors[thrown].__name__}: .*it broke")):
        face_model.embed(photos_of_man[:2])


@pytest.mark.parametrize("answer", [{}, {"face": np.zeros((4, 4, 3)), "confidence": 0.9, "facial_area": {"x": 0}}])
def test_an_answer_that_lacks_something_is_an_error_too(
    face_model: FaceModel, photos_of_man: list[Image.Image], monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    deepface: Any = importlib.import_module("deepface.DeepFace")
    monkeypatch.setattr(deepface, "extract_faces", lambda *arguments, **options: [answer])
    with pytest.raises(FaceModelError, match=r"failed on image 1 of 1.*KeyError"):
        face_model.represent(photos_of_man[:1])


def test_the_threshold_is_the_one_that_deepface_verifies_with(
    face_model: FaceModel, photos_of_man: list[Image.Image], man: list[Face], woman: list[Face]
) -> None:
    deepface: Any = importlib.import_module("deepface.DeepFace")
    options = {"model_name": "Dlib", "detector_backend": "dlib", "distance_metric": "euclidean_l2"}
    first, second = (np.asarray(photo)[:, :, ::-1] for photo in photos_of_man[:2])
    told = deepface.verify(first, second, **options)
    assert face_model.verification_threshold == told["threshold"] == 0.4
    # In the metric of `distances`: the same pair is as far apart here as there.
    pair = distances(man[0].embedding[None], man[1].embedding[None]).item()
    assert pair == pytest.approx(told["distance"], abs=1e-4)
    assert pair < face_model.verification_threshold < distances(stacked(man), stacked(woman)).min()


def test_importing_deepface_leaves_warnings_alone() -> None:
    program = (
        "import warnings\n"
        "from evaluation.faces import FaceModel; from evaluation.config import FaceConfig\n"
        "FaceModel(FaceConfig(recognizer='Dlib', detector='dlib'))\n"
        "warnings.warn('still heard', UserWarning)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "still heard" in done.stderr


def test_distances_by_hand() -> None:
    first = np.array([[1.0, 0.0], [0.6, 0.8]])
    second = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # |(0.6, 0.8) - (1, 0)| = sqrt(0.16 + 0.64); - (0, 1): sqrt(0.36 + 0.04); - (-1, 0): sqrt(2.56 + 0.64)
    expected = [[0.0, 2**0.5, 2.0], [0.8**0.5, 0.4**0.5, 3.2**0.5]]
    np.testing.assert_allclose(distances(first, second), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("length", "confidence", "message"),
    [(2.0, 0.5, "length 2"), (1.0, 0.0, "confidence 0"), (1.0, 1.5, "confidence 1.5")],
)
def test_impossible_faces_cannot_be_built(length: float, confidence: float, message: str) -> None:
    embedding = np.array([length, 0.0], dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        Face(embedding=embedding, confidence=confidence, box=(0, 0, 1, 1))
