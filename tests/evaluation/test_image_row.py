"""An image's row: what it holds, and what it cannot hold."""

import math
from typing import Any

import pytest

from evaluation.image_row import ImageRow


def row(index: int, distance: float | None, clip_score: float = 25.0, seed: int = 1, **further: Any) -> ImageRow:
    return ImageRow.of(index, seed, face_distance=distance, clip_score=clip_score, **further)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_score": math.nan}, "clip_score is nan"),
        ({"clip_score": 100.1}, "clip_score is 100.1"),
        ({"face_distance": math.nan}, "face_distance is nan"),
        ({"face_distance": -0.1}, "face_distance is -0.1"),
        ({"face_distance": 2.1}, "face_distance is 2.1"),
        ({"face_distance": None}, "exactly when a face was found"),
        ({"face_found": False}, "exactly when a face was found"),
        ({"face_found": None}, "image 0/1 has no face_found; every image has one"),
        ({"clip_score": None}, "image 0/1 has no clip_score; every image has one"),
        ({"faces": 0}, "faces is 0.0"),
        ({"verified": 1.5}, "verified is 1.5"),
        ({"picture_distance": 2.5}, "picture_distance is 2.5"),
        ({"glasses": math.nan}, "glasses is nan"),
        ({"glasses": -math.inf}, "glasses is -inf"),
    ],
)
def test_impossible_rows_cannot_be_built(changes: dict[str, Any], message: str) -> None:
    measures = {**row(0, 0.5).measures, **changes}
    with pytest.raises(ValueError, match=message):
        ImageRow(
            prompt_index=0, seed=1, measures={name: value for name, value in measures.items() if value is not None}
        )


def test_a_row_tells_its_measures() -> None:
    told = row(3, 0.5, 20.0, seed=7, faces=2, training_photo="a.jpg", glasses=-3.5)
    assert (told.prompt_index, told.seed, told.face_found, told.face_distance, told.clip_score) == (
        3,
        7,
        True,
        0.5,
        20.0,
    )
    assert [told.value(name) for name in ("faces", "training_photo", "glasses", "face_found", "nearest_distance")] == [
        2.0,
        None,
        -3.5,
        1.0,
        None,
    ]
    faceless = row(0, None)
    assert (faceless.face_found, faceless.face_distance) == (False, None)
