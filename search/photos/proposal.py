"""A first configuration for a folder of photos: what it says beside the defaults, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from search.photos.check import PhotoRow

OFF_CENTRE_SHARE = 0.1
"""Share of the photos whose middle square may cut into the face, at most: more, and the squares are placed by faces."""
FACE_CROP = 3.0
"""Sides of such squares, in longer sides of the face's box: head and shoulders."""
UNLIKE_SQUARES = 1.2
"""A photo whose sides have at least this ratio loses a sixth of its pixels and more to the middle square."""
UNLIKE_SHARE = 0.3
"""Share of such photos from which on they are cut to aspect buckets."""
BUCKET_STEP = 64
"""Pixels between the sizes of buckets; a resolution below four of them has hardly any."""


@dataclass
class Proposal:
    """Settings that a first configuration file holds, and a line for each decision."""

    photos: dict[str, Any] = field(default_factory=dict)
    """What goes into the section `photos`."""
    reasons: list[str] = field(default_factory=list)


def propose_cut(rows: Sequence[PhotoRow], resolution: int) -> Proposal:
    """How the photos are cut.

    Args:
        rows: Of the photos that can be used, each with the place of its face where one was found.
        resolution: Side of the training images in pixels.
    """
    faces = [row for row in rows if row.face is not None]
    outside = [row for row in faces if _is_cut(row)]
    unlike = [row for row in rows if row.width and row.height and _ratio(row.width, row.height) >= UNLIKE_SQUARES]
    if rows and len(unlike) >= UNLIKE_SHARE * len(rows) and resolution >= 4 * BUCKET_STEP:
        shapes = f"{len(unlike)} of {len(rows)} are far from square"
        return Proposal({"buckets": True}, [f"photos: {shapes}, so each is cut to the shape nearest to its own"])
    if outside and len(outside) > OFF_CENTRE_SHARE * len(rows):
        cut = f"the middle square cuts the face in {len(outside)} of {len(rows)}"
        return Proposal({"face_crop": FACE_CROP}, [f"photos: {cut}, so squares are cut around faces"])
    return Proposal({}, [f"photos: cut to their middle square, which holds the face in {len(faces) - len(outside)}"])


def propose_name(folder: str) -> str:
    """A run's name from a folder's: what may stand in a file's name on every system."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder).strip("-._")[:100]
    return name or "person"


def _ratio(width: int, height: int) -> float:
    return max(width, height) / min(width, height)


def _is_cut(row: PhotoRow) -> bool:
    """Whether the middle square of the photo leaves out a part of the face's box."""
    assert row.face is not None
    assert row.width is not None
    assert row.height is not None
    side = min(row.width, row.height)
    left, top = (row.width - side) / 2, (row.height - side) / 2
    x, y, width, height = row.face
    return x < left or y < top or x + width > left + side or y + height > top + side
