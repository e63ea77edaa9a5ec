"""Recognisers from a file: what reaches the model, what comes back, and which files are refused."""

import importlib
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evaluation.config import FaceConfig, OnnxRecognizer
from evaluation.faces import FaceModel, FaceModelError, distances
from evaluation.recognizers import TEMPLATE, DeepFaceRecognizer, aligned
from tests.support.onnx_file import INT64, write_identity, write_projection

DIM = 6
SIZE = 112
WEIGHTS = np.random.default_rng(3).standard_normal((3 * SIZE * SIZE, DIM)).astype(np.float32)
SHAPE = ("batch", 3, SIZE, SIZE)


def face_config(path: Path, size: int = SIZE, detector: str = "dlib") -> FaceConfig:
    return FaceConfig(recognizer=OnnxRecognizer(onnx=path, size=size), detector=detector)


@pytest.fixture(scope="module")
def projection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_projection(tmp_path_factory.mktemp("onnx") / "random.onnx", WEIGHTS, SHAPE)


@pytest.fixture(scope="module")
def model(projection: Path) -> FaceModel:
    return FaceModel(face_config(projection))


def expected(image: Image.Image) -> NDArray[np.float64]:
    """What the random model says of a face, from DeepFace's eyes on, by OpenCV's own means."""
    deepface: Any = importlib.import_module("deepface.DeepFace")
    pixels = np.asarray(image)
    (face,) = deepface.extract_faces(np.ascontiguousarray(pixels[:, :, ::-1]), detector_backend="dlib")
    eyes = np.array([face["facial_area"][name] for name in ("right_eye", "left_eye")], np.float32)
    assert eyes[0, 0] < eyes[1, 0], "the person's left eye is on the right"
    matrix, _ = cv2.estimateAffinePartial2D(eyes, np.array([TEMPLATE["right_eye"], TEMPLATE["left_eye"]]))
    crop = cv2.warpAffine(pixels, matrix, (SIZE, SIZE))
    values = (crop.astype(np.float32) - 127.5) / 127.5
    vector = values.transpose(2, 0, 1).reshape(-1).astype(np.float64) @ WEIGHTS
    unit: NDArray[np.float64] = vector / np.linalg.norm(vector)
    return unit


def test_faces_reach_the_model_as_arcface_takes_them(model: FaceModel, photos_of_man: list[Image.Image]) -> None:
    blank = Image.new("RGB", (128, 128), "gray")
    first, none, second = model.embed([photos_of_man[0], blank, photos_of_man[1]])
    assert none is None
    for face, photo in ((first, photos_of_man[0]), (second, photos_of_man[1])):
        assert face is not None
        assert face.embedding.dtype == np.float32
        assert np.linalg.norm(face.embedding) == pytest.approx(1.0, abs=1e-6)
        np.testing.assert_allclose(face.embedding, expected(photo), atol=1e-2)
    assert model.embed([blank]) == [None]
    assert model.verification_threshold is None
    assert model.config.name == "random.onnx with dlib"


def test_a_turned_face_is_turned_back(model: FaceModel, photos_of_man: list[Image.Image]) -> None:
    """The model looks at pixels alone: without alignment a turn of 20 degrees would change them all."""
    large = photos_of_man[0].resize((384, 384), Image.Resampling.BICUBIC)
    turned = large.rotate(20, resample=Image.Resampling.BICUBIC)
    straight, aslant = model.embed([large, turned])
    assert straight is not None
    assert aslant is not None
    assert distances(straight.embedding[None], aslant.embedding[None]).item() < 0.25
    unaligned = model.represent([turned.resize((40, 40))])  # too small: the whole picture
    assert unaligned[0][0].confidence == 0.0
    assert distances(straight.embedding[None], unaligned[0][0].embedding[None]).item() > 0.25


def spots(points: Mapping[str, tuple[float, float]], side: int) -> NDArray[np.uint8]:
    picture = np.zeros((side, side, 3), np.uint8)
    for x, y in points.values():
        cv2.circle(picture, (round(x), round(y)), 3, (255, 255, 255), -1)
    return picture


@pytest.mark.parametrize("names", [tuple(TEMPLATE), ("right_eye", "left_eye")])
@pytest.mark.parametrize("size", [112, 224])
def test_points_come_to_lie_on_the_template(names: tuple[str, ...], size: int) -> None:
    turn, shift = 2.5 * np.exp(0.6j), complex(150, 120)
    moved = {name: turn * complex(*point) + shift for name, point in TEMPLATE.items()}
    points = {name: (point.real, point.imag) for name, point in moved.items()}
    given = {name: points[name] if name in names else None for name in TEMPLATE}
    crop = aligned(spots(points, 600), {"x": 150, "y": 150, "w": 230, "h": 230, **given}, size)
    assert crop.shape == (size, size, 3)
    for x, y in TEMPLATE.values():
        scale = size / 112
        column, row = round(x * scale), round(y * scale)
        assert crop[row, column].min() > 200


@pytest.mark.parametrize(
    "eyes",
    [
        {"left_eye": None, "right_eye": None},
        {"left_eye": (120, 90), "right_eye": None},
        {"left_eye": (102, 90), "right_eye": (100, 90)},  # a profile
        {"left_eye": (300, 90), "right_eye": (20, 90)},  # no eyes of this face
    ],
)
def test_without_eyes_to_rely_on_the_box_is_taken(eyes: dict[str, Any]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    crop = aligned(picture, {"x": 50, "y": 60, "w": 80, "h": 112, **eyes}, 112)
    np.testing.assert_array_equal(crop, picture[60:172, 34:146])


def test_a_fixed_batch_of_one_and_another_size_are_fine(tmp_path: Path, photos_of_man: list[Image.Image]) -> None:
    weights = np.random.default_rng(5).standard_normal((3 * 32 * 32, DIM)).astype(np.float32)
    path = write_projection(tmp_path / "small.onnx", weights, (1, 3, 32, 32))
    faces = FaceModel(face_config(path, 32)).embed(photos_of_man)
    assert [face is not None and face.embedding.shape == (DIM,) for face in faces] == [True] * 4


def no_file(path: Path) -> Path:
    return path


def no_onnx(path: Path) -> Path:
    path.write_bytes(pickle.dumps({"a": 1}))
    return path


def other_side(path: Path) -> Path:
    return write_identity(path, ("n", 3, 160, 160))


def channels_last(path: Path) -> Path:
    return write_projection(path, WEIGHTS, (1, SIZE, SIZE, 3))


def batch_of_two(path: Path) -> Path:
    return write_projection(path, WEIGHTS, (2, 3, SIZE, SIZE))


def whole_numbers(path: Path) -> Path:
    return write_identity(path, SHAPE, kind=INT64)


def two_outputs(path: Path) -> Path:
    return write_projection(path, WEIGHTS, SHAPE, outputs=(("batch", "dim"),) * 2)


def a_picture(path: Path) -> Path:
    return write_identity(path, SHAPE)


def hidden_side(path: Path) -> Path:
    return write_projection(path, WEIGHTS[: 3 * 64 * 64], ("n", 3, "height", "width"))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (no_file, "is not a file; give the path of an ONNX model"),
        (no_onnx, r"cannot be loaded \(InvalidProtobuf.*; give a face recogniser in the ONNX format"),
        (other_side, r"takes face \['n', 3, 160, 160\] .*not one .*\[1, 3, 112, 112\].*set recognizer.size"),
        (channels_last, r"takes face \[1, 112, 112, 3\]"),
        (batch_of_two, r"takes face \[2, 3, 112, 112\]"),
        (whole_numbers, r"takes face .* tensor\(int64\), not one tensor of floats"),
        (two_outputs, r"gives \['out0', 'out1'\], not one embedding"),
        (a_picture, r"gives \(1, 3, 112, 112\) for one face, not floats of shape \(1, dim\)"),
        (hidden_side, r"cannot be run on 112 x 112 px .*set recognizer.size"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(write: Callable[[Path], Path], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.onnx")
    with pytest.raises(FaceModelError, match=rf"recognizer.onnx: .*model\.onnx {message}"):
        FaceModel(face_config(path))


def test_a_model_that_knows_no_number_is_an_error(tmp_path: Path, photos_of_man: list[Image.Image]) -> None:
    path = write_projection(tmp_path / "broken.onnx", np.full_like(WEIGHTS, np.nan), SHAPE)
    with pytest.raises(FaceModelError, match="embedding of length nan"):
        FaceModel(face_config(path)).embed(photos_of_man[:1])


def test_a_recogniser_without_a_number_has_no_threshold() -> None:
    deepface: Any = importlib.import_module("deepface")
    assert DeepFaceRecognizer(deepface, "Newest").verification_threshold is None
    assert DeepFaceRecognizer(deepface, "GhostFaceNet").verification_threshold == 1.10


def test_a_side_that_no_face_fits_into_is_refused() -> None:
    with pytest.raises(ValueError, match=r"recognizer\.size is 8; give a whole number of at least 16"):
        OnnxRecognizer(onnx=Path("model.onnx"), size=8)
