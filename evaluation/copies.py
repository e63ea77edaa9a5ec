"""Copies: images that show a training photo again, re-framed, recompressed or mirrored. Pure.

Copies are recognised by the picture, not by the face: a well-learnt face may be nearer to every photo than two photos
are to each other, for it is nearer to their middle, while a copy that went through a lossy autoencoder may be further.

Two pictures are compared after registration: their distance is the least over zoom, shift and mirroring. Every photo
is known by views of it on a grid and by how each view changes with zoom and shift; the tangent distance (Simard, LeCun
and Denker 1993) to these finds the photo and about where the image lies in it, and Gauss-Newton steps on the intensity
(Lucas and Kanade 1981) find where exactly. Which distance is a copy follows from what is compared with it, an image's
NEAREST training photo: real photos, too, have one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from evaluation.judges import Pictures
from evaluation.measures import COPY_MEASURES, PICTURE_DISTANCE, TRAINING_PHOTO, Value

Pixels = NDArray[np.float32]
Places = NDArray[np.float64]
"""Where images lie in a photo: zoom, and shift to the right and down in sides of the photo, [places, 3]."""

SURELY_A_COPY = 0.08
"""Pictures that are nearer are the same photo. Measured on the demo's 21 photos: re-saved as JPEG of quality 60, 64 px,
they are at most 0.04 from themselves, 20 of them through the demo's autoencoder at most 0.074 and one 0.085."""
SURELY_NO_COPY = 0.10
"""Pictures that are further apart are two photos, however different the others are. The demo's nearest two of different
expressions are 0.142 apart; three that cannot be told apart by eye (front, neutral, portrait) 0.086 to 0.11."""
CLOSEST_SHARE = 0.05
"""Share of the real photos whose nearest training photo may be nearer than what counts for the threshold."""
MARGIN = 0.8
"""Threshold relative to that distance: of few photos the nearest say little about how near a further one may come."""

SIDE = 64
"""Photos and images are registered at this many pixels a side."""
WINDOW = 0.75
"""Side of the square in the middle that is compared, in sides of the image: in a copy it shows the photo alone."""
WINDOW_PIXELS = 20
"""Pixels a side of that square when it is compared."""
BLUR = gaussian_filter(np.eye(WINDOW_PIXELS), (WINDOW_PIXELS / 6, 0.0), mode="reflect").astype(np.float32)
"""Blurs the square's columns; the blurred square is taken off, which leaves shapes without the light at large."""
LEAST_CONTRAST = 0.5
"""Grey levels (standard deviation) below which a window is rounding, and like nothing."""

LEAST = np.array([0.84, -0.08, -0.08])
MOST = np.array([1.16, 0.08, 0.08])
ZOOMS = (0.87, 0.935, 1.0, 1.065, 1.13)
SHIFTS = (-0.045, 0.0, 0.045)
IN_PLACE = np.array([[1.0, 0.0, 0.0]] * 2)
GRID = np.array([(zoom, right, down) for zoom in ZOOMS for right in SHIFTS for down in SHIFTS])
STEP = 0.01
"""Change of zoom and shift over which a view's derivative is taken."""
MOVES = STEP * np.concatenate([np.zeros((1, 3)), np.eye(3), -np.eye(3)])
LONGEST_STEP = 0.04
"""Largest change in one Gauss-Newton step."""
STEPS = 3
LEAST_SHARE = 0.1
"""A photo that explains less of an image than this share is no nearer to it elsewhere."""
CLOSER_LOOKS = 16
"""Photos, the likest on the grid, that an image is registered with."""


@dataclass(frozen=True, kw_only=True)
class NearestPhoto:
    """The photo that an image is most like."""

    index: int
    distance: float
    """Registered distance, [0, 2]: sqrt(2 - 2 r) with the correlation r of the windows; 1.414 is unrelated."""


class CopyDetector:
    """Knows the training photos, and from them and the reference photos how near a copy is.

    Args:
        training: photos trained on, at least 1.
        reference: photos of the person that nobody trains on.

    Raises:
        ValueError: there are no training photos.
    """

    copy_distance: float
    """Registered distance below which an image copies a training photo, SURELY_A_COPY to SURELY_NO_COPY."""

    def __init__(self, training: Sequence[Image.Image], reference: Sequence[Image.Image]) -> None:
        if not training:
            raise ValueError("no training photos; give at least one")
        self._photos = np.stack([_luma(photo) for photo in training])
        self._bases = np.stack([_bases(photo) for photo in self._photos])
        self.copy_distance = copy_distance(self._null(training, reference))

    def nearest(self, images: Sequence[Image.Image]) -> list[NearestPhoto]:
        """Each image's nearest training photo."""
        return [self._nearest(image, list(range(len(self._photos)))) for image in images]

    def _null(self, training: Sequence[Image.Image], reference: Sequence[Image.Image]) -> list[float]:
        """Distance of each different real photo to the nearest training photo that is not the same photo."""
        different: list[int] = []
        for index, photo in enumerate(training):
            if not different or self._nearest(photo, different).distance >= SURELY_A_COPY:
                different.append(index)
        others = [(training[index], [other for other in different if other != index]) for index in different]
        found = [self._nearest(photo, among).distance for photo, among in others if among]
        found += [self._nearest(photo, different).distance for photo in reference]
        return [distance for distance in found if distance >= SURELY_A_COPY]

    def _nearest(self, image: Image.Image, among: Sequence[int]) -> NearestPhoto:
        """The nearest of some photos, at least 1, the first of equals."""
        upright = _luma(image)
        windows = _windows(np.stack([upright, upright[:, ::-1]]), IN_PLACE)
        # How much of the window each view and its derivatives explain, [photos, views, upright or mirrored].
        explained = np.square(self._bases @ windows.T).sum(axis=2)
        flat = explained.reshape(len(explained), -1)[list(among)]
        likest = np.argsort(-flat.max(axis=1), kind="stable")[:CLOSER_LOOKS]
        view, mirrored = np.divmod(flat[likest].argmax(axis=1), 2)
        photos = np.array(among)[likest]
        correlations = _register(self._photos[photos], windows[mirrored], GRID[view])
        best = int(np.lexsort((photos, -correlations))[0])
        distance = float(np.sqrt(max(2.0 - 2.0 * float(correlations[best]), 0.0)))
        return NearestPhoto(index=int(photos[best]), distance=distance)


class CopyJudge:
    """Looks for the photo trained on that an image is most like as a picture."""

    measures = COPY_MEASURES

    def __init__(self, detector: CopyDetector, names: Sequence[str]) -> None:
        """Args: what knows the photos, and their names in its order."""
        self._detector = detector
        self._names = names

    def judge(self, pictures: Pictures) -> list[Mapping[str, Value]]:
        return [
            {TRAINING_PHOTO: self._names[nearest.index], PICTURE_DISTANCE: nearest.distance}
            for nearest in self._detector.nearest(pictures.images)
        ]


def copy_distance(nearest: Sequence[float]) -> float:
    """The distance below which an image is a copy: a little nearer than the nearest 5 % of real photos come.

    With fewer than 20 photos these are the nearest one. Whatever they say, the same photo re-saved is a copy, and
    pictures as different as SURELY_NO_COPY are none; without any photo only the former holds.

    Args:
        nearest: registered distance of each real photo to the nearest training photo that is not the same photo.
    """
    if not nearest:
        return SURELY_A_COPY
    closest = float(np.quantile(nearest, CLOSEST_SHARE, method="lower"))
    return min(max(MARGIN * closest, SURELY_A_COPY), SURELY_NO_COPY)


def _luma(picture: Image.Image) -> Pixels:
    """The picture's luma at SIDE x SIDE, [0, 255]; colours are what compression keeps worst."""
    return np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)


def _sampling(zoom: Places, shift: Places) -> Pixels:
    """How the window's rows or columns follow from a photo's, for each zoom and shift: [..., WINDOW_PIXELS, SIDE].

    Linear interpolation, widened to the distance between two of the window's pixels so that nothing is skipped.
    """
    pitch = (WINDOW * SIDE / WINDOW_PIXELS / zoom.astype(np.float32))[..., None, None]
    offsets = np.arange(WINDOW_PIXELS, dtype=np.float32)[:, None] - (WINDOW_PIXELS - 1) / 2
    wanted = (SIDE - 1) / 2 + SIDE * shift.astype(np.float32)[..., None, None] + pitch * offsets
    weights = (1 - np.abs(wanted - np.arange(SIDE, dtype=np.float32)) / pitch).clip(0)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def _windows(lumas: Pixels, places: Places) -> Pixels:
    """The squares that the middle of images shows that lie at `places` [..., 3]: [..., pixels], of mean 0, length 1.

    A square without contrast is all 0.
    """
    down, right = (_sampling(places[..., 0], places[..., axis]) for axis in (2, 1))
    squares = down @ lumas @ right.swapaxes(-1, -2)
    shapes = (squares - BLUR @ squares @ BLUR.T).reshape(*places.shape[:-1], -1)
    shapes -= shapes.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(shapes, axis=-1, keepdims=True)
    result: Pixels = np.where(length > LEAST_CONTRAST * WINDOW_PIXELS, shapes / np.maximum(length, 1e-6), 0.0)
    return result


def _with_derivatives(lumas: Pixels, places: Places) -> Pixels:
    """Each window, and how it changes with zoom and both shifts over STEP: [places, 4, pixels]."""
    around = _windows(lumas[:, None], places[:, None] + MOVES)
    return np.concatenate([around[:, :1], (around[:, 1:4] - around[:, 4:]) / 2.0], axis=1)


def _bases(luma: Pixels) -> Pixels:
    """Orthonormal vectors that span each view on the grid and its derivatives, [views, 4, pixels]."""
    views = _with_derivatives(luma[None], GRID)
    orthonormal, _ = np.linalg.qr(views.transpose(0, 2, 1))
    # QR invents directions where there is nothing.
    return np.ascontiguousarray(orthonormal.transpose(0, 2, 1)) * views[:, :1].any(axis=2, keepdims=True)


def _register(lumas: Pixels, windows: Pixels, places: Places) -> Pixels:
    """Greatest correlation of each image's window with its photo near its place: [n] of [n, ...] each, [-1, 1]."""
    best = np.full(len(lumas), -1.0, dtype=np.float32)
    for _ in range(STEPS):
        views = _with_derivatives(lumas, places)
        best = np.maximum(best, np.einsum("np,np->n", views[:, 0], windows))
        # Least squares by the normal equations; the pseudo-inverse passes over what does not change the window.
        inner = (views @ views.transpose(0, 2, 1)).astype(np.float64)
        fitted = (np.linalg.pinv(inner, rcond=1e-6, hermitian=True) @ (views @ windows[:, :, None]))[:, :, 0]
        step = STEP * fitted[:, 1:] / np.maximum(fitted[:, :1], LEAST_SHARE)
        places = (places + step.clip(-LONGEST_STEP, LONGEST_STEP)).clip(LEAST, MOST)
    return np.asarray(np.maximum(best, np.einsum("np,np->n", _windows(lumas, places), windows)))
