"""What a side of `benchmarks.scoring` hands back for a checkpoint, and how far two sides differ. Pure arithmetic.

Legend: images = prompts x seeds, prompt by prompt; side = pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.image_row import ImageRow
from evaluation.measures import CLIP_SCORE, FACE_DISTANCE, FACELESS, LIKENESS
from evaluation.scores import Anchors
from evaluation.terms import LIKENESS_TERM


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A checkpoint's images and what was measured on them."""

    rows: tuple[ImageRow, ...]
    pixels: NDArray[np.uint8]
    """[images, side, side, 3], RGB."""
    seconds: Mapping[str, float]
    """Seconds by phase."""


def largest_difference(ours: Scored, theirs: Scored, anchors: Anchors) -> dict[str, float]:
    """By measure, the largest difference on any image that both sides scored.

    `faceless` is the number of images in which only one of them found a face; face distance and likeness are compared
    on the others. `pixels` is in steps of 1/255.

    Raises:
        ValueError: the sides did not score the same prompts and seeds.
    """
    pairs = list(zip(ours.rows, theirs.rows, strict=True))
    if any((our.prompt_index, our.seed) != (their.prompt_index, their.seed) for our, their in pairs):
        raise ValueError("the two sides scored different prompts or seeds; give both the same prompt set")
    agreed = [(our, their) for our, their in pairs if our.face_found == their.face_found]
    distances = [
        abs(our.face_distance - their.face_distance)
        for our, their in agreed
        if our.face_distance is not None and their.face_distance is not None
    ]
    likeness = LIKENESS_TERM.share
    return {
        FACE_DISTANCE: max(distances, default=0.0),
        LIKENESS: max(
            (abs(likeness(ours, anchors) - likeness(theirs, anchors)) for ours, theirs in agreed), default=0.0
        ),
        CLIP_SCORE: max(abs(our.clip_score - their.clip_score) for our, their in pairs),
        FACELESS: float(len(pairs) - len(agreed)),
        "pixels": float(np.abs(ours.pixels.astype(np.int64) - theirs.pixels.astype(np.int64)).max()),
    }


def largest(differences: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """By measure, the largest of several differences, at least one."""
    each = list(differences)
    return {name: max(difference[name] for difference in each) for name in each[0]}


def shares(scored: Iterable[Scored]) -> dict[str, float]:
    """Every phase's share of the seconds of all checkpoints, 0 to 1, together 1."""
    seconds: dict[str, float] = {}
    for each in scored:
        for phase, value in each.seconds.items():
            seconds[phase] = seconds.get(phase, 0.0) + value
    whole = sum(seconds.values())
    return {phase: value / whole for phase, value in seconds.items()}
