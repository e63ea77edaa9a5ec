"""Which photos are looked at for a face before anything starts, and what is said of those without."""

import dataclasses
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from evaluation import faces
from search.config.search_config import ConfigurationError
from search.workers import preflight
from search.workers.preflight import check_faces, cut_by_clip
from search.workers.setup import RunnerSetup
from tests.search.workers.conftest import DEMO

Look = Callable[..., list[tuple[str, int]]]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Replaces the face model: by which photo, and from which side in pixels on, it finds no face."""

    def begin(*faceless: str, from_side: int = 0) -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []

        class Finder:
            def __init__(self, config: Any) -> None:
                pass

            def shows_face(self, picture: tuple[str, int]) -> bool:
                seen.append(picture)
                return picture[0] not in faceless and picture[1] >= from_side

        monkeypatch.setattr(faces, "FaceModel", Finder)
        monkeypatch.setattr(preflight, "open_photo", lambda photo, side: (photo.path.name, side))
        return seen

    return begin


def names(setup: RunnerSetup) -> tuple[list[str], list[str]]:
    return [photo.path.name for photo in setup.split.reference], [photo.path.name for photo in setup.split.training]


def test_every_photo_is_looked_at_those_to_compare_with_first(setup: RunnerSetup, look: Look) -> None:
    seen = look()
    reference, training = names(setup)
    assert check_faces(setup, None) == []
    assert seen == [(name, 64) for name in (*reference, *training)]


def test_large_photos_are_looked_at_small_and_once_more_where_no_face_is_found(setup: RunnerSetup, look: Look) -> None:
    large = dataclasses.replace(setup, generation=dataclasses.replace(setup.generation, resolution=512))
    seen = look()
    assert check_faces(large, None) == []
    assert {side for _, side in seen} == {128}
    seen = look(from_side=512)
    assert check_faces(large, None) == []
    assert [side for _, side in seen] == [128, 512] * 21


def test_photos_without_a_face_that_are_only_trained_on_are_told(setup: RunnerSetup, look: Look) -> None:
    training = names(setup)[1]
    look(training[0], training[3])
    assert check_faces(setup, None) == [
        f"photos: no face was found in {training[0]}, {training[3]}; they are trained on all the same"
    ]


def test_where_one_to_compare_with_has_none_all_without_are_named(setup: RunnerSetup, look: Look) -> None:
    reference, training = names(setup)
    look(reference[1], training[3])
    with pytest.raises(ConfigurationError) as error:
        check_faces(setup, None)
    assert str(error.value) == (
        f"photos: no face was found in the photos to compare with, {reference[1]}; nor in the photos to train on "
        f"{training[3]}; remove or replace them, or choose another evaluation.faces.detector than dlib"
    )


def test_a_plan_looks_as_long_as_it_may(setup: RunnerSetup, look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = look()
    seconds = count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(seconds)))
    # One second a look at the clock: at the start, then before each photo but the first.
    assert check_faces(setup, 4.0) == ["photos: faces were looked for in 5 of 21 photos so far"]
    assert len(seen) == 5


def test_prompts_that_only_clip_does_not_read_to_their_ends_are_told(setup: RunnerSetup) -> None:
    assert cut_by_clip(setup, DEMO / "clip") == []
    long = "a photo of {trigger} man, " + "smiling, " * 20
    final = dataclasses.replace(setup.prompt_sets["final"], prompts=(long,))
    (warning,) = cut_by_clip(
        dataclasses.replace(setup, prompt_sets={**setup.prompt_sets, "final": final}), DEMO / "clip"
    )
    assert warning.startswith(
        "prompts: CLIP reads 24 tokens; the ends of 1 prompt(s) do not count: 'a photo of man, smiling"
    )
