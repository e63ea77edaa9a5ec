"""Photos by the face in them: cut around it, and those kept that show the person best. Who finds faces is an argument.

Legend: dim = length of a face embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from trainer.data.photos import CaptionedPhoto
from trainer.data.picture import Box, open_picture

DETECTION_SIDE = 1024
"""Photos are shrunk to this many pixels on their longer side for detection: detectors need no more, and some take
seconds for a camera's full size."""


class FoundFace(Protocol):
    """A face in a picture."""

    @property
    def box(self) -> Box:
        """Where it is, in pixels of the picture."""

    @property
    def embedding(self) -> NDArray[Any]:
        """Float[dim], of length 1: near to the embeddings of other pictures of the same person."""


class FaceFinder(Protocol):
    """Finds the face that a picture is of."""

    def embed(self, images: Sequence[Image.Image]) -> Sequence[FoundFace | None]:
        """One answer an image (mode RGB), in their order; None where there is no face. May raise ValueError."""


@dataclass(frozen=True, kw_only=True)
class FacePhoto:
    """A photo and what a finder says of it."""

    photo: CaptionedPhoto
    face: Box | None
    """In pixels of the upright photo; None without a face."""
    identity_distance: float | None
    """Euclidean distance of the face's embedding to the mean identity, [0, 2]; None without a face."""


def find_faces(photos: Sequence[CaptionedPhoto], finder: FaceFinder) -> tuple[FacePhoto, ...]:
    """Looks for the face in each photo, as a whole, and measures how far it is from the mean of all.

    The mean identity is the mean of the embeddings, scaled to length 1. One photo at a time is in memory.
    """
    boxes: list[Box | None] = []
    embeddings: list[NDArray[np.float64] | None] = []
    for photo in photos:
        picture = open_picture(photo.path, photo.sha256)
        width = picture.width
        picture.thumbnail((DETECTION_SIDE, DETECTION_SIDE), Image.Resampling.LANCZOS)
        (found,) = finder.embed([picture])
        boxes.append(None if found is None else _scaled(found.box, width / picture.width))
        embeddings.append(None if found is None else np.asarray(found.embedding, dtype=np.float64))
    distances = identity_distances(embeddings)
    return tuple(
        FacePhoto(photo=replace(photo, face=box), face=box, identity_distance=distance)
        for photo, box, distance in zip(photos, boxes, distances, strict=True)
    )


def identity_distances(embeddings: Sequence[NDArray[np.float64] | None]) -> list[float | None]:
    """Distance of each embedding of length 1 to their mean scaled to length 1, [0, 2]; None for None.

    Embeddings whose mean is 0 have no mean identity: their distance is 1.414, as for what is unrelated.
    """
    known = [embedding for embedding in embeddings if embedding is not None]
    if not known:
        return [None] * len(embeddings)
    mean = np.mean(known, axis=0)
    length = float(np.linalg.norm(mean))
    if length < 1e-9:
        return [None if embedding is None else 2.0**0.5 for embedding in embeddings]
    return [None if embedding is None else float(np.linalg.norm(embedding - mean / length)) for embedding in embeddings]


def keep_nearest(faces: Sequence[FacePhoto], count: int) -> tuple[FacePhoto, ...]:
    """The `count` photos nearest to the mean identity, in the order given; ties go to the earlier.

    Raises:
        ValueError: fewer photos show a face.
    """
    ranked = sorted(
        (face.identity_distance, position) for position, face in enumerate(faces) if face.identity_distance is not None
    )
    if len(ranked) < count:
        raise ValueError(
            f"photos.nearest is {count}, but a face was found in {len(ranked)} of {len(faces)} photos; "
            "lower it, add photos, or choose another detector"
        )
    return tuple(faces[position] for position in sorted(position for _, position in ranked[:count]))


def cut_to_face(face: FacePhoto, margin: float) -> CaptionedPhoto:
    """The photo with the square around its face as its crop; without a face it stays as it is.

    Args:
        face: the photo.
        margin: side of the square in longer sides of the face's box, at least 1; about 2 is a head, 4 a bust.
    """
    if face.face is None:
        return face.photo
    return replace(face.photo, crop=face_square(face.photo.size, face.face, margin))


def face_square(size: tuple[int, int], face: Box, margin: float) -> Box:
    """The square of `margin` x the face's longer side around the face's middle, shifted and shrunk to lie in a picture.

    Args:
        size: width and height of the picture in pixels.
        face: in its pixels; may reach beyond it.
        margin: at least 1.
    """
    x, y, width, height = face
    side = max(1, min(round(margin * max(width, height)), *size))
    left = round(x + width / 2 - side / 2)
    top = round(y + height / 2 - side / 2)
    return min(max(left, 0), size[0] - side), min(max(top, 0), size[1] - side), side, side


def _scaled(box: Box, scale: float) -> Box:
    x, y, width, height = (round(side * scale) for side in box)
    return x, y, width, height
