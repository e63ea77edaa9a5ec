"""Rows: what was measured of an image, and means over images. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from evaluation.measures import CLIP_SCORE, FACE_DISTANCE, FACE_FOUND, Value, check_measured


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """What was measured on one generated image."""

    prompt_index: int
    seed: int
    measures: Mapping[str, Value]
    """By name, as judges declare them (`evaluation.judges`); what the image does not have is missing."""

    def __post_init__(self) -> None:
        for name in (FACE_FOUND, CLIP_SCORE):
            if name not in self.measures:
                raise ValueError(f"image {self.prompt_index}/{self.seed} has no {name}; every image has one")
        if self.face_found != (FACE_DISTANCE in self.measures):
            raise ValueError(
                f"image {self.prompt_index}/{self.seed}: face_found is {self.face_found} and face_distance "
                f"{self.measures.get(FACE_DISTANCE)!r}; a distance is given exactly when a face was found"
            )
        for name in self.measures:
            if (value := self.value(name)) is not None:
                check_measured(name, value)

    @classmethod
    def of(
        cls, prompt_index: int, seed: int, *, face_distance: float | None, clip_score: float, **further: Value
    ) -> "ImageRow":
        """A row of these measures; a face was found where there is a distance."""
        distance = {} if face_distance is None else {FACE_DISTANCE: face_distance}
        measures = {FACE_FOUND: face_distance is not None, CLIP_SCORE: clip_score, **distance, **further}
        return cls(prompt_index=prompt_index, seed=seed, measures=measures)

    def value(self, name: str) -> float | None:
        """A measure that is a number; None where the image does not have it."""
        value = self.measures.get(name)
        return None if value is None or isinstance(value, str) else float(value)

    @property
    def face_found(self) -> bool:
        return bool(self.measures[FACE_FOUND])

    @property
    def face_distance(self) -> float | None:
        """Mean distance of the image's face to the reference photos, [0, 2]; None exactly when no face was found."""
        return self.value(FACE_DISTANCE)

    @property
    def clip_score(self) -> float:
        """100 x cosine with the prompt, [-100, 100]."""
        return float(self.measures[CLIP_SCORE])


def measure_means(rows: Iterable[ImageRow]) -> dict[str, float]:
    """Every measure that is a number: its mean over the images that have it."""
    return means_of(row.measures for row in rows)


def means_of(measured: Iterable[Mapping[str, Value]]) -> dict[str, float]:
    """The same of measures by name, those of an image each."""
    values: dict[str, list[float]] = {}
    for measures in measured:
        for name, value in measures.items():
            if not isinstance(value, str):
                values.setdefault(name, []).append(float(value))
    return {name: mean(each) for name, each in values.items()}


def mean(values: Sequence[float]) -> float:
    """The mean, which does not depend on the order of the images (fsum)."""
    return math.fsum(values) / len(values)
