"""The face of each image as DeepFace finds it and a recogniser embeds it.

Legend: n, m = numbers of faces; dim = length of an embedding (128 for Dlib, 512 for GhostFaceNet).
"""

import difflib
import importlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.config import FaceConfig, OnnxRecognizer
from evaluation.face_weights import install_dlib_weights, weights_folder
from evaluation.loading_error import LoadingError, is_of_the_machine, is_offline
from evaluation.recognizers import DeepFaceRecognizer, OnnxFile, Recognizer, words
from evaluation.recognizers import FaceModelError as FaceModelError

DOWNLOADING = "while downloading"
"""How DeepFace says that it failed to fetch weights."""
Box = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of an image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """The face of an image, which stands for the image."""

    embedding: NDArray[np.float32]
    """[dim], of length 1 (L2-normalised), read-only."""
    confidence: float
    """Of the detection, in (0, 1]."""
    box: Box
    """(x, y, width, height) in pixels of the image that was given."""
    faces: int = 1
    """How many faces of the image count, this one included."""

    def __post_init__(self) -> None:
        length = float(np.linalg.norm(self.embedding))
        if self.embedding.ndim != 1 or not abs(length - 1.0) < 1e-4:
            raise ValueError(f"an embedding of shape {self.embedding.shape} and length {length}; give one of length 1")
        if not 0.0 < self.confidence <= 1.0:
            raise ValueError(f"a face with confidence {self.confidence}; it must be above 0 and at most 1")
        if self.faces < 1:
            raise ValueError(f"a face out of {self.faces}; give at least 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Representation:
    """One entry of DeepFace's answer, unfiltered: with confidence 0 it is of a whole image without a face."""

    embedding: NDArray[np.float32]
    """[dim], of length 1 (L2-normalised)."""
    confidence: float
    """0 when no face was found."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Detection:
    """A face, or with confidence 0 the whole of an image without one, before it is embedded."""

    crop: NDArray[Any]
    """The recogniser's own form of a face (`Recognizer.crop`)."""
    confidence: float
    box: Box


class FaceModel:
    """A DeepFace detector and a recogniser, DeepFace's or from a file, loaded once."""

    def __init__(self, config: FaceConfig) -> None:
        """Load both models, so that whatever is wrong with them shows here and not at the first image.

        Raises:
            FaceModelError: a name is unknown, or weights cannot be used.
            LoadingError: weights are missing and could not be fetched, or not be read, here and now.
        """
        self.config = config
        try:
            if config.recognizer == "Dlib" or config.detector == "dlib":
                install_dlib_weights()
            self._deepface = _import_deepface()
        except OSError as error:
            raise FaceModelError(
                f"DEEPFACE_HOME: the weights of face models are kept in {weights_folder()}, which cannot be used "
                f"({error.strerror}: {error.filename}); set DEEPFACE_HOME to a folder that can be written"
            ) from error
        self._recognizer: Recognizer
        if isinstance(config.recognizer, OnnxRecognizer):
            self._recognizer = OnnxFile(config.recognizer)
        else:
            self._build("facial_recognition", "recognizer", config.recognizer)
            self._recognizer = DeepFaceRecognizer(self._deepface, config.recognizer)
        self._build("face_detector", "detector", config.detector)

    @property
    def verification_threshold(self) -> float | None:
        """The distance (`distances`) below which the recogniser says "the same person", in (0, 2].

        DeepFace's threshold for `euclidean_l2`, chosen by its author on pairs of real photos (1.10 for GhostFaceNet,
        0.4 for Dlib); None where it has none, as for a file. Thresholds of two recognisers do not compare.
        """
        return self._recognizer.verification_threshold

    def embed(self, images: Sequence[Image.Image]) -> list[Face | None]:
        """The face of each image: the largest box among the faces that count (see `FaceConfig`); None without one.

        Detection goes image by image, as in DeepFace itself; the faces are then embedded in one batch.

        Raises:
            FaceModelError: detector or recogniser failed, at which image; a missing face is no failure.
        """
        side = self.config.minimum_side
        found = self._detect_all(images, minimum_side=side)
        counted = [self._counted(faces, min(image.size)) for image, faces in zip(images, found, strict=True)]
        largest = [max(faces, key=lambda face: face.box[2] * face.box[3], default=None) for faces in counted]
        embeddings = iter(self._recognizer.embed([face.crop for face in largest if face is not None]))
        return [
            None
            if face is None
            else Face(embedding=next(embeddings), confidence=face.confidence, box=face.box, faces=len(faces))
            for face, faces in zip(largest, counted, strict=True)
        ]

    def shows_face(self, image: Image.Image) -> bool:
        """Whether `embed` would find a face that counts; nothing is embedded.

        Raises:
            FaceModelError: as for `embed`.
        """
        found = self._detect(image, "a photo", minimum_side=self.config.minimum_side)
        return bool(self._counted(found, min(image.size)))

    def represent(self, images: Sequence[Image.Image]) -> list[list[Representation]]:
        """What `DeepFace.represent(image, enforce_detection=False)` answers for each image, in its order.

        No rule about confidence or size is applied, and no image is enlarged: an image without a face gives its
        whole-image embedding with confidence 0. The homework's protocol is defined on this; everything else uses
        `embed`.

        Raises:
            FaceModelError: as for `embed`.
        """
        found = self._detect_all(images, minimum_side=0)
        embeddings = iter(self._recognizer.embed([face.crop for faces in found for face in faces]))
        return [
            [Representation(embedding=next(embeddings), confidence=face.confidence) for face in faces]
            for faces in found
        ]

    def _detect_all(self, images: Sequence[Image.Image], *, minimum_side: int) -> list[list[_Detection]]:
        return [
            self._detect(image, f"image {number} of {len(images)}", minimum_side=minimum_side)
            for number, image in enumerate(images, start=1)
        ]

    def _detect(self, image: Image.Image, place: str, *, minimum_side: int) -> list[_Detection]:
        """The faces of one image; `place` is what an error calls it."""
        pixels, enlargement = _pixels(image, minimum_side)
        try:
            faces = self._deepface.DeepFace.extract_faces(
                pixels, detector_backend=self.config.detector, enforce_detection=False, color_face="bgr"
            )
            return [
                _Detection(
                    crop=self._recognizer.crop(pixels, face),
                    # Some detectors' scores are not capped at 1.
                    confidence=min(float(face["confidence"]), 1.0),
                    box=_box(face["facial_area"], enlargement),
                )
                for face in faces
            ]
        except Exception as error:
            # Detectors are other people's packages and throw what they like (cv2.error, KeyError, IndexError ...), and
            # DeepFace's FaceNotDetected is a ValueError. None of it says that there is no face.
            raise FaceModelError(
                f"the detector {self.config.detector!r} failed on {place} ({image.width} x {image.height} px): "
                f"{words(error)}; choose another detector"
            ) from error

    def _counted(self, faces: list[_Detection], shorter_side: int) -> list[_Detection]:
        """The faces that count; `shorter_side` is the image's, in pixels."""
        least = self.config.minimum_face * shorter_side
        return [
            face
            for face in faces
            if face.confidence > self.config.minimum_confidence and max(face.box[2], face.box[3]) >= least
        ]

    def _build(self, task: str, role: str, name: str) -> None:
        known = list(self._deepface.modules.modeling.AVAILABLE_MODELS[task])
        if name not in known:
            near = difflib.get_close_matches(name.lower(), [other.lower() for other in known], n=1, cutoff=0.5)
            hint = "".join(f" (did you mean {other}?)" for other in known if other.lower() in near)
            raise FaceModelError(f"{role} is {name!r}, which DeepFace does not have{hint}; it has {', '.join(known)}")
        offline = is_offline()
        try:
            with _no_downloads() if offline else nullcontext():
                self._deepface.DeepFace.build_model(task=task, model_name=name)
        except Exception as error:  # whatever the model's package throws
            # Also where a server answers that it has no such file. What may not be asked for will not come later.
            fetching = DOWNLOADING in str(error) and not offline
            raise (LoadingError if fetching or is_of_the_machine(error) else FaceModelError)(
                f"the {role} {name!r} cannot be loaded: {words(error)}. DeepFace downloads missing weights from "
                f"the internet into {weights_folder()} (below DEEPFACE_HOME){', but HF_HUB_OFFLINE is set' * offline}; "
                "without it, put the file where the message says, or use recognizer Dlib with detector dlib, whose "
                "weights come with the package face_recognition_models"
            ) from error


@contextmanager
def _no_downloads() -> Iterator[None]:
    """Within it DeepFace loads only what is on this machine, and announces no download."""
    weights: Any = importlib.import_module("deepface.commons.weight_utils")

    def refuse(url: str) -> None:
        raise FileNotFoundError("HF_HUB_OFFLINE is set, and the file is not there")

    allowed, announces = weights.ensure_source_is_reachable, weights.logger
    weights.ensure_source_is_reachable, weights.logger = refuse, logging.Logger("", logging.CRITICAL)
    try:
        yield
    finally:
        weights.ensure_source_is_reachable, weights.logger = allowed, announces


def distances(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Euclidean distances between embeddings of length 1: [n, dim] and [m, dim] give [n, m], each in [0, 2].

    0 is the same embedding, 1.414 orthogonal ones.
    """
    differences = np.asarray(a, dtype=np.float64)[:, None, :] - np.asarray(b, dtype=np.float64)[None, :, :]
    result: NDArray[np.float64] = np.linalg.norm(differences, axis=2)
    # Rounding may put opposite embeddings a hair beyond 2.
    return result.clip(max=2.0)


def mean_pairwise_distance(embeddings: NDArray[np.floating[Any]]) -> float:
    """Mean distance between embeddings [n, dim], n at least 2, each pair once and none with itself; [0, 2]."""
    first, second = np.triu_indices(len(embeddings), k=1)
    return float(distances(embeddings, embeddings)[first, second].mean())


def _pixels(image: Image.Image, minimum_side: int) -> tuple[NDArray[np.uint8], float]:
    """BGR pixels [height, width, 3] as DeepFace expects them, enlarged to the minimum side; and the enlargement."""
    enlargement = max(1.0, minimum_side / min(image.size))
    image = image.convert("RGB")
    if enlargement > 1.0:
        width, height = (round(side * enlargement) for side in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(image, dtype=np.uint8)[:, :, ::-1]), enlargement


def _box(area: Mapping[str, Any], enlargement: float) -> Box:
    x, y, width, height = (round(area[side] / enlargement) for side in ("x", "y", "w", "h"))
    return x, y, width, height


def _import_deepface() -> ModuleType:
    """Import DeepFace on PyTorch (unless the user chose otherwise) and undo what its import does to the process."""
    os.environ.setdefault("DEEPFACE_BACKEND_ENGINE", "pytorch")
    try:
        # The import silences every warning of the process; its filters are put back.
        with warnings.catch_warnings():
            importlib.import_module("deepface.DeepFace")
            importlib.import_module("deepface.modules.modeling")
            return importlib.import_module("deepface")
    except (ImportError, ValueError) as error:
        raise FaceModelError(f"DeepFace cannot be imported: {error}; `pip install deepface`") from error
