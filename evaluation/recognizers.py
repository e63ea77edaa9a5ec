"""Face recognisers: DeepFace's own, and any in the ONNX format from a file.

Legend: n = number of faces; dim = length of an embedding; size = side of the aligned face, pixels.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluation.config import OnnxRecognizer
from evaluation.memory import in_halves

TEMPLATE_SIDE = 112
TEMPLATE: Mapping[str, tuple[float, float]] = {
    "right_eye": (38.2946, 51.6963),
    "left_eye": (73.5318, 51.5014),
    "nose": (56.0252, 71.7366),
    "mouth_right": (41.5493, 92.3655),
    "mouth_left": (70.7299, 92.2041),
}
"""Where ArcFace wants five points of a face in 112 x 112 pixels: (x, y) as insightface publishes them (Guo et al.,
`face_align.arcface_dst`). Left and right are the person's, as DeepFace has them."""

EYES_APART = (0.25, 0.7)
"""Distance of the eyes in longer sides of the face's box, at least and at most, with which two eyes tell the size of a
face. In a profile they fall together, and of the eyes that OpenCV's cascade finds one may be a nostril."""


class FaceModelError(ValueError):
    """The face model cannot be used (a wrong name, missing weights ...). It never means that an image has no face."""


class Recognizer(Protocol):
    """Embeds faces."""

    verification_threshold: float | None
    """See `evaluation.faces.FaceModel.verification_threshold`."""

    def crop(self, pixels: NDArray[np.uint8], face: Mapping[str, Any]) -> NDArray[Any]:
        """What `embed` takes of a face.

        Args:
            pixels: the whole image, [height, width, 3], BGR.
            face: an entry of the answer of DeepFace's `extract_faces`.
        """

    def embed(self, crops: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """An embedding for each crop, [dim], of length 1, read-only.

        Raises:
            FaceModelError: the recogniser failed.
        """


class DeepFaceRecognizer:
    """One of DeepFace's recognisers, loaded already."""

    def __init__(self, deepface: Any, name: str) -> None:
        self._deepface, self._name = deepface, name
        verification = importlib.import_module("deepface.modules.verification")
        try:
            threshold: float | None = float(verification.find_threshold(name, "euclidean_l2"))
        except ValueError:  # how it says that it has no number
            threshold = None
        self.verification_threshold = threshold

    def crop(self, pixels: NDArray[np.uint8], face: Mapping[str, Any]) -> NDArray[Any]:
        """DeepFace's own: its box, turned until the eyes are level, BGR in [0, 1]."""
        crop: NDArray[Any] = face["face"]
        return crop

    def embed(self, crops: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """See `Recognizer`."""
        return in_halves(crops, self._embed) if crops else []

    def _embed(self, crops: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        try:
            answer = self._deepface.DeepFace.represent(list(crops), model_name=self._name, detector_backend="skip")
            # A list of one image comes back without the outer list.
            entries = answer if len(crops) == 1 else [faces[0] for faces in answer]
            embeddings = [entry["embedding"] for entry in entries]
        except Exception as error:  # as a detector's: whatever the model's package throws
            raise FaceModelError(
                f"the recognizer {self._name!r} failed on {len(crops)} faces: {words(error)}"
            ) from error
        return [_normalised(embedding) for embedding in embeddings]


class OnnxFile:
    """A recogniser from an ONNX file, run by onnxruntime on one CPU thread, so that its numbers depend on no setting.

    It takes faces in ArcFace's way (Deng et al. 2019): aligned, RGB, (value - 127.5) / 127.5, [1, 3, size, size]. An
    ONNX file is a graph of onnxruntime's own operators: loading it runs no code of the file's.

    Raises:
        FaceModelError: the file is missing, no ONNX model, or one with other inputs or outputs.
    """

    verification_threshold: float | None = None
    """None: a file states no threshold."""

    def __init__(self, config: OnnxRecognizer) -> None:
        self._path, self._size = Path(config.onnx), config.size
        if not self._path.is_file():
            raise FaceModelError(f"recognizer.onnx: {self._path} is not a file; give the path of an ONNX model")
        runtime = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors; they are raised as well
        try:
            self._session = runtime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no class but Exception
            raise FaceModelError(
                f"recognizer.onnx: {self._path} cannot be loaded ({words(error)}); give a face recogniser in the ONNX "
                "format, such as w600k_r50.onnx of insightface"
            ) from error
        self._input = self._checked_input()
        self._try_out()

    def crop(self, pixels: NDArray[np.uint8], face: Mapping[str, Any]) -> NDArray[Any]:
        """The face on ArcFace's template, [size, size, 3], RGB."""
        return aligned(pixels, face["facial_area"], self._size)[:, :, ::-1]

    def embed(self, crops: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """See `Recognizer`. One by one: a batch is no faster on one thread, and not every file takes one."""
        return [_normalised(self._run((crop.astype(np.float32) - 127.5) / 127.5)) for crop in crops]

    def _run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            (embedding,) = self._session.run(None, {self._input: values.transpose(2, 0, 1)[None]})
        except Exception as error:
            raise FaceModelError(f"recognizer.onnx: {self._path} failed on a face: {words(error)}") from error
        result: NDArray[np.float32] = embedding[0]
        return result

    def _checked_input(self) -> str:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        wanted = [1, 3, self._size, self._size]
        taken = [f"{each.name} {each.shape} {each.type}" for each in inputs]
        # Text and None stand for any number.
        fits = len(inputs) == 1 and inputs[0].type == "tensor(float)" and len(inputs[0].shape) == 4
        fits = fits and all(not isinstance(a, int) or a == b for a, b in zip(inputs[0].shape, wanted, strict=True))
        if not fits:
            raise FaceModelError(
                f"recognizer.onnx: {self._path} takes {', '.join(taken) or 'nothing'}, not one tensor of floats "
                f"{wanted} (batch, RGB, height, width); set recognizer.size to its side, or export it so"
            )
        if len(outputs) != 1:
            raise FaceModelError(
                f"recognizer.onnx: {self._path} gives {[each.name for each in outputs]}, not one embedding; it is no "
                "face recogniser, or export it with the embedding alone"
            )
        name: str = inputs[0].name
        return name

    def _try_out(self) -> None:
        """A gray picture, so that a wrong output shows here and not at the first image."""
        try:
            (output,) = self._session.run(None, {self._input: np.zeros((1, 3, self._size, self._size), np.float32)})
        except Exception as error:
            raise FaceModelError(
                f"recognizer.onnx: {self._path} cannot be run on {self._size} x {self._size} px ({words(error)}); set "
                "recognizer.size to the side that it was exported for"
            ) from error
        shape = getattr(output, "shape", None)
        if shape is None or len(shape) != 2 or shape[0] != 1 or shape[1] < 2 or output.dtype != np.float32:
            raise FaceModelError(
                f"recognizer.onnx: {self._path} gives {shape} for one face, not floats of shape (1, dim); it is no "
                "face recogniser, or export it with the embedding alone"
            )


def aligned(pixels: NDArray[np.uint8], area: Mapping[str, Any], size: int) -> NDArray[np.uint8]:
    """A face moved, turned and scaled onto ArcFace's template, [size, size, channels]; black outside of the image.

    By five points where DeepFace hands them on (it does of `retinaface` only), otherwise by two eyes, and by the square
    around the box where there are none to rely on (`EYES_APART`).

    Args:
        pixels: [height, width, channels].
        area: `facial_area` of DeepFace's `extract_faces`: x, y, w, h and points, in pixels of the image.
        size: pixels.
    """
    points = {name: area[name] for name in TEMPLATE if area.get(name) is not None}
    if len(points) < len(TEMPLATE):
        points = {name: point for name, point in points.items() if name.endswith("eye")}
        longer = max(area["w"], area["h"], 1)
        if len(points) < 2 or not EYES_APART[0] <= _distance(*points.values()) / longer <= EYES_APART[1]:
            return _warped(pixels, *_square(area, size), size)
    source = np.array([complex(*points[name]) for name in points])
    target = np.array([complex(*TEMPLATE[name]) for name in points]) * (size / TEMPLATE_SIDE)
    # The similarity (turn, scale, shift) of least squares, Umeyama 1991 without mirroring, in complex numbers.
    from_mean, to_mean = source - source.mean(), target - target.mean()
    turn = complex((from_mean.conj() * to_mean).sum() / (abs(from_mean) ** 2).sum())
    return _warped(pixels, turn, complex(target.mean() - turn * source.mean()), size)


def words(error: Exception) -> str:
    """What was thrown, by its name, since `KeyError: 0` says more than `0`."""
    return f"{type(error).__name__}: {error}"


def _distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    return abs(complex(*a) - complex(*b))


def _square(area: Mapping[str, Any], size: int) -> tuple[complex, complex]:
    """Scale and shift that bring the square around the middle of a box, of its longer side, to `size`."""
    scale = size / max(area["w"], area["h"], 1)
    middle = complex(area["x"] + area["w"] / 2, area["y"] + area["h"] / 2)
    return complex(scale), complex(size / 2, size / 2) - scale * middle


def _warped(pixels: NDArray[np.uint8], turn: complex, shift: complex, size: int) -> NDArray[np.uint8]:
    """Pixel z of the image, x + iy, at `turn` z + `shift`; bilinear, as insightface's `norm_crop`."""
    import cv2  # not at the top: configurations are read without it

    matrix = np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])
    return np.asarray(cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR), dtype=np.uint8)


def _normalised(embedding: Any) -> NDArray[np.float32]:
    vector = np.asarray(embedding, dtype=np.float64)
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0.0:
        raise FaceModelError(f"the face model returned an embedding of length {length}; its weights may be damaged")
    unit = (vector / length).astype(np.float32)
    unit.flags.writeable = False
    return unit
