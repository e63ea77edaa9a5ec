"""Tinting black hair brown: the training people all have black hair, the subject has not."""

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.kit.crops import Pixels, Points
from demo.kit.morphs import inner_face_mask


def tint_hair(pixels: Pixels, landmarks: Points, background: NDArray[np.float32], strength: float) -> Pixels:
    """The picture with its black hair made brown.

    Args:
        pixels: RGB [size, size, 3].
        landmarks: 68 points, [68, 2].
        background: 1 where the background is, [size, size].
        strength: 0 leaves the hair black, 1 makes it light brown.
    """
    size = pixels.shape[0]
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    dark = 1 / (1 + np.exp((lab[..., 0] - 85) / 8))
    face = inner_face_mask(landmarks, size)
    # Neck and collar lie in shadow below the chin, between the ears; hair beside them is kept.
    columns, rows = np.meshgrid(np.arange(size), np.arange(size))
    neck = (rows > landmarks[5:12, 1].min()) & (columns > landmarks[3, 0]) & (columns < landmarks[13, 0])
    hair = dark * (1 - face) * (1 - background) * (1 - cv2.GaussianBlur(neck.astype(np.float32), (0, 0), size / 40))
    lab[..., 0] += hair * strength * (18 + 0.75 * lab[..., 0])
    lab[..., 1] += hair * strength * 9
    lab[..., 2] += hair * strength * 20
    return np.asarray(cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB), dtype=np.uint8)
