"""Collected candidates as numbers: scores on any prompts, seeds and reference photos, without making an image again.

Legend: prompts, seeds = the collection's; photos = photos held out of every training; trained = photos trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.truth.candidate import About, Candidate, Photos, Pictures, candidate_file
from benchmarks.truth.collection import BASE
from evaluation.config import Anchor, ObjectiveConfig
from evaluation.copies import CopyDetector
from evaluation.faces import distances, mean_pairwise_distance
from evaluation.measures import CLIP_SCORE, FACE_DISTANCE
from evaluation.objective import leakage_cost
from evaluation.scores import Anchors
from evaluation.terms import FIDELITY_TERM, LIKENESS_TERM

OBJECTIVE = ObjectiveConfig()
"""The demo's search weighs with the defaults."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """Some of the prompts, seeds and photos, each by index, none twice."""

    prompts: NDArray[np.int64]
    seeds: NDArray[np.int64]
    photos: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measures:
    """What was measured on one model's images of one prompt set."""

    face_found: NDArray[np.bool_]
    """[prompts, seeds]"""
    clip_scores: NDArray[np.float64]
    """Of each image with each prompt, [prompts, seeds, prompts]."""
    distance: NDArray[np.float64]
    """Of each image's face to each photo, [prompts, seeds, photos]; 0 without a face, where it is not read."""
    trained_distance: NDArray[np.float64]
    """Likewise to the photos trained on, [prompts, seeds, trained]."""

    @classmethod
    def of(cls, pictures: Pictures, photos: Photos) -> Measures:
        """Measure stored pictures against stored photos."""
        shape = len(np.unique(pictures.prompt_index)), len(np.unique(pictures.seed))

        def to(reference: NDArray[np.float32]) -> NDArray[np.float64]:
            values = np.zeros((len(pictures.face_found), len(reference)))
            if pictures.face_found.any():
                values[pictures.face_found] = distances(pictures.embedding, reference)
            return values.reshape(*shape, -1)

        return cls(
            face_found=pictures.face_found.reshape(shape),
            clip_scores=pictures.clip_scores.reshape(*shape, -1),
            distance=to(photos.embedding[~photos.trained_on]),
            trained_distance=to(photos.embedding[photos.trained_on]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """A candidate without its images."""

    about: About
    subject: Measures
    others: Measures
    picture_distance: NDArray[np.float64]
    """Of each image of the subject, as a picture, to its nearest photo trained on, [prompts, seeds]; see
    `evaluation.copies`."""

    @property
    def number(self) -> int:
        """Of its configuration."""
        assert self.about.number is not None, "the untuned model has no configuration"
        return self.about.number

    @property
    def run(self) -> int:
        """Which training of its configuration."""
        return self.about.run


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Everything collected so far."""

    base: Record
    candidates: tuple[Record, ...]
    """By configuration and run."""
    photos: Photos
    copy_distance: float
    """Picture distance below which an image copies a photo trained on, as the search has it."""

    @classmethod
    def read(cls, folder: Path, ids: Sequence[str] | None = None) -> Records:
        """Read a collection, which may not be complete yet.

        Args:
            folder: Of the candidates.
            ids: Candidates to read, beside the untuned model; by default all that are there.

        Raises:
            ValueError: the untuned model or every candidate is missing.
        """
        if ids is None:
            ids = sorted(path.stem for path in folder.glob("*.npz") if path.stem not in ("photos", BASE))
        if not candidate_file(folder, BASE).exists() or not ids:
            raise ValueError(
                f"{folder} holds no candidates; run python -m benchmarks.truth.candidates --folder {folder}"
            )
        photos = Photos.read(folder)
        copies = CopyDetector(
            _as_images(photos.pixels[photos.trained_on]), _as_images(photos.pixels[~photos.trained_on])
        )

        def record(id: str) -> Record:
            candidate = Candidate.read(folder, id)
            subject = Measures.of(candidate.subject, photos)
            nearest = copies.nearest(_as_images(candidate.subject.pixels))
            return Record(
                about=candidate.about,
                subject=subject,
                others=Measures.of(candidate.others, photos),
                picture_distance=np.reshape([each.distance for each in nearest], subject.face_found.shape),
            )

        return cls(
            base=record(BASE),
            candidates=tuple(record(id) for id in ids),
            photos=photos,
            copy_distance=copies.copy_distance,
        )

    @cached_property
    def runs(self) -> Mapping[int, tuple[Record, ...]]:
        """The trainings of each configuration, the first of them first."""
        numbers = dict.fromkeys(record.number for record in self.candidates)
        return {number: tuple(each for each in self.candidates if each.number == number) for number in numbers}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of prompts, seeds and held-out photos."""
        prompts, seeds, photos = self.base.subject.distance.shape
        return prompts, seeds, photos

    def first(self, prompts: int, seeds: int) -> Slice:
        """The first prompts and seeds, or as many as there are, with all photos."""
        most = self.shape
        return Slice(
            prompts=np.arange(min(prompts, most[0])), seeds=np.arange(min(seeds, most[1])), photos=np.arange(most[2])
        )

    def anchors(self, part: Slice) -> Anchors:
        """The anchors of a slice, as `Evaluator.measure_anchors` sets them.

        Raises:
            ValueError: they are too close.
        """
        found, distance, clip_score = _cut(self.base.subject, part)
        return Anchors.between(
            untuned_distance=float(distance[found].mean()),
            real_distance=mean_pairwise_distance(self._held_out[part.photos]),
            clip_score=float(clip_score.mean()),
            mismatched_clip_score=_mismatched(self.base.subject, part),
        )

    def objective(self, record: Record, part: Slice, anchors: Anchors | None = None) -> NDArray[np.float64]:
        """Each image's objective, [prompts, seeds] of the slice, by default with its own anchors.

        As `evaluation.bootstrap.image_values` gives it: `image_objective` less what the candidate's leakage costs.
        """
        anchors = anchors or self.anchors(part)
        found, _, clip_score = _cut(record.subject, part)
        zero = anchors.end(CLIP_SCORE, Anchor.MISMATCHED)
        fidelity = ((clip_score - zero) / anchors.clip_gap).clip(FIDELITY_TERM.low, FIDELITY_TERM.high)
        likeness = self.likeness(record, part, anchors)
        own = OBJECTIVE.likeness * likeness + OBJECTIVE.fidelity * fidelity - OBJECTIVE.faceless * ~found
        return own - leakage_cost(self.leakage(record, part, anchors), OBJECTIVE)

    def leakage(self, record: Record, part: Slice, anchors: Anchors | None = None) -> float | None:
        """Likeness that the images of other people gain, as `evaluation.scores.leakage` has it: over all that were
        collected, with the photos and the anchors of the slice; None without a face."""
        anchors = anchors or self.anchors(part)

        def distance(each: Record) -> float | None:
            found = each.others.distance[..., part.photos].mean(axis=2)[each.others.face_found]
            return float(found.mean()) if found.size else None

        before, after = distance(self.base), distance(record)
        if before is None or after is None:
            return None
        return max(-1.0, min(1.0, (before - after) / anchors.gap))

    def likeness(self, record: Record, part: Slice, anchors: Anchors | None = None) -> NDArray[np.float64]:
        """Likeness of each image, [prompts, seeds] of the slice."""
        anchors = anchors or self.anchors(part)
        found, distance, _ = _cut(record.subject, part)
        values = (anchors.untuned[FACE_DISTANCE] - distance) / anchors.gap
        return np.where(found, values.clip(LIKENESS_TERM.low, LIKENESS_TERM.high), 0.0)

    @cached_property
    def _held_out(self) -> NDArray[np.float32]:
        return self.photos.embedding[~self.photos.trained_on]


def _as_images(pixels: NDArray[np.uint8]) -> list[Image.Image]:
    """Of RGB pixels [n, side, side, 3]."""
    return [Image.fromarray(picture) for picture in pixels]


def _cut(measures: Measures, part: Slice) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Face found, mean distance to the slice's photos, and CLIP score: [prompts, seeds] of the slice each."""
    rows = np.ix_(part.prompts, part.seeds)
    distance = measures.distance[np.ix_(part.prompts, part.seeds, part.photos)].mean(axis=2)
    own = np.einsum("psp->ps", measures.clip_scores)
    return measures.face_found[rows], distance, own[rows]


def _mismatched(measures: Measures, part: Slice) -> float:
    """Mean CLIP score of the slice's images with the slice's OTHER prompts."""
    scores = measures.clip_scores[np.ix_(part.prompts, part.seeds, part.prompts)]
    other = ~np.eye(len(part.prompts), dtype=bool)[:, None, :]
    return float(scores[np.broadcast_to(other, scores.shape)].mean())
