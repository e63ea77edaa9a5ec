"""Replacing the gray studio background by a named colour, so that a prompt's background is something one can check.

Legend: images are RGB uint8 [height, width, 3]; masks are float32 [height, width] in [0, 1], 1 = background.
"""

from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from demo.kit.crops import Pixels

Mask = NDArray[np.float32]

COLOURS: Mapping[str, tuple[int, int, int]] = MappingProxyType(
    {
        "white": (238, 238, 238),
        "black": (22, 22, 22),
        "red": (190, 30, 35),
        "orange": (240, 140, 30),
        "yellow": (240, 215, 60),
        "green": (40, 140, 60),
        "blue": (40, 80, 190),
        "purple": (120, 55, 160),
        "pink": (245, 150, 185),
    }
)
"""RGB in the middle of each named colour; `gray` is the studio's own background and is left as it is."""


def background_mask(pixels: Pixels) -> Mask:
    """Where the gray studio background is: near-gray pixels of the background's brightness, connected to the border."""
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB).astype(np.float32)
    height, width = pixels.shape[:2]
    rim = np.concatenate([lab[:3].reshape(-1, 3), lab[:, :3].reshape(-1, 3), lab[:, -3:].reshape(-1, 3)])
    # Hair is darker and a shirt brighter than the studio's wall; what is left of the rim shows the wall.
    wall = rim[(rim[:, 0] > 75) & (rim[:, 0] < 200) & (np.hypot(rim[:, 1] - 128, rim[:, 2] - 128) < 10)]
    if len(wall) == 0:
        return np.zeros((height, width), dtype=np.float32)
    reference = np.median(wall, axis=0)
    chroma = np.hypot(lab[..., 1] - reference[1], lab[..., 2] - reference[2])
    brighter = lab[..., 0] - reference[0]
    alike = ((chroma < 7) & (brighter > -26) & (brighter < 34)).astype(np.uint8)
    alike = np.asarray(cv2.morphologyEx(alike, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    count, labels = cv2.connectedComponents(alike, connectivity=4)
    border = np.concatenate([labels[0], labels[:, 0], labels[:, -1]])
    touching = np.isin(np.arange(count), np.unique(border[border > 0]))
    mask = touching[labels].astype(np.uint8)
    # Two pixels outwards: the rim between hair and background is still gray.
    mask = np.asarray(cv2.dilate(mask, np.ones((3, 3), np.uint8), iterations=2), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5), dtype=np.float32)


def replace_background(pixels: Pixels, mask: Mask, colour: str, random: Generator) -> Pixels:
    """The picture before a background of the named colour, slightly varied and shaded as a studio wall is."""
    height, width = pixels.shape[:2]
    flat = np.array(COLOURS[colour], dtype=np.float32) + random.normal(0, 7, size=3).astype(np.float32)
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * random.uniform(-0.06, 0.06)
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None, None] * random.uniform(-0.06, 0.06)
    wall = flat * (1 + across + down)
    blended = pixels * (1 - mask[..., None]) + wall * mask[..., None]
    return np.asarray(np.clip(blended + 0.5, 0, 255), dtype=np.uint8)
