"""Albums of the demo's person: photos trained on, reference photos, and fresh ones, which share no picture.

The kit has 21 pictures of the person, 16 of them with one expression each. Larger albums have further expressions, each
between two of those pictures, and every further photo has its own background, light and framing (`demo.kit.dataset`).
Pictures that are nearly the same go into one part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations

import numpy as np
from numpy.random import Generator
from PIL import Image

from demo.kit.backgrounds import background_mask
from demo.kit.crops import face_crops
from demo.kit.dataset import PIXELS, Source, as_source, vary
from demo.kit.morphs import morph
from demo.kit.people import SHEET_LABELS, SUBJECT

SAME_PICTURE = ("neutral", "front", "portrait")
"""Pictures of the kit that cannot be told apart by eye."""
TRAINED, REFERENCE = 14, 3
"""Of the kit's 21 pictures; the other 4 are fresh."""
MORPH = 0.6
"""How far an expression goes to the other picture's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Album:
    """Photos of 64 px."""

    training: list[Image.Image]
    reference: list[Image.Image]
    fresh: list[Image.Image]
    """Neither trained on nor compared with."""


def album(training: int, random: Generator, fresh: int = 12) -> Album:
    """An album dealt anew.

    Args:
        training: Number of photos trained on, at least 1.
        random: Deals the pictures and varies them.
        fresh: Number of fresh photos, at least 1.
    """
    sources = _sources()
    names = [name for name in random.permutation(sorted(sources)) if name not in SAME_PICTURE]
    place = int(random.integers(0, len(names) + 1))
    names[place:place] = SAME_PICTURE
    # The same picture does not lie on both sides.
    edges = [_edge(names, TRAINED), _edge(names, TRAINED + REFERENCE)]
    trained, compared, kept = names[: edges[0]], names[edges[0] : edges[1]], names[edges[1] :]
    return Album(
        training=_photos(trained, training, random),
        reference=[_plain(sources[name]) for name in compared],
        fresh=_photos(kept, fresh, random),
    )


def _edge(names: Sequence[str], edge: int) -> int:
    while names[edge - 1] in SAME_PICTURE and names[edge] in SAME_PICTURE:
        edge -= 1
    return edge


def _photos(names: Sequence[str], count: int, random: Generator) -> list[Image.Image]:
    """The pictures as they are, then ever new ones between two of them; then variations of what there is."""
    sources = _sources()
    photos = [_plain(sources[name]) for name in names]
    between = [pair for pair in permutations(names, 2) if all(name in SHEET_LABELS for name in pair)]
    random.shuffle(between)
    made = [_between(*pair) for pair in between[: max(count - len(photos), 0)]] or [sources[name] for name in names]
    further = (made[index % len(made)] for index in range(max(count - len(photos), 0)))
    return [*photos[:count], *(Image.fromarray(vary(source, random)[0]) for source in further)]


def _plain(source: Source) -> Image.Image:
    return Image.fromarray(source.pixels).resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)


@cache
def _sources() -> dict[str, Source]:
    return {crop.name: as_source(crop) for crop in face_crops(SUBJECT)}


@cache
def _between(first: str, second: str) -> Source:
    """The first picture with an expression that is on its way to the second's."""
    head, donor = _sources()[first], _sources()[second]
    pixels, landmarks = morph(head.pixels, head.landmarks, donor.pixels, donor.landmarks, MORPH)
    return replace(head, pixels=np.asarray(pixels), landmarks=landmarks, background=background_mask(pixels))
