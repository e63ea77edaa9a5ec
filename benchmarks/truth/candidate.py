"""A candidate on disk: everything measured on one adapter's images, so that any later score is computed from it.

Legend: images = prompts x seeds, prompt by prompt; faces = images with a face; dim = length of a face embedding;
side = pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from search.config.space import Value
from trainer.files import write_file


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """Images of one model on one prompt set, and what was measured on them."""

    prompt_index: NDArray[np.int64]
    """[images]"""
    seed: NDArray[np.int64]
    """[images]"""
    pixels: NDArray[np.uint8]
    """[images, side, side, 3], RGB."""
    clip_scores: NDArray[np.float64]
    """100 x cosine with each of the prompts as CLIP reads them, [images, prompts]."""
    face_found: NDArray[np.bool_]
    """[images]"""
    embedding: NDArray[np.float32]
    """Of the faces found, in the images' order, [faces, dim], each of length 1."""
    confidence: NDArray[np.float64]
    """Of their detection, [faces], in (0, 1]."""
    faces: NDArray[np.int64]
    """How many faces count in each image that has one, [faces]."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What a candidate is and what it took."""

    id: str
    number: int | None = None
    """Of its configuration; None for the untuned model."""
    run: int = 0
    """0 for a configuration's first training."""
    params: Mapping[str, Value]
    training: Mapping[str, Any]
    """All of the trainer's settings, the training seed among them."""
    parameters: int = 0
    """Trained ones; 0 for the untuned model."""
    validation_loss: float | None = None
    """Denoising loss on the held-out photos; None for the untuned model."""
    training_seconds: float = 0.0
    """Like all times here: processor time of one thread."""
    generating_seconds: float
    """Of all images, those of other people included."""
    judging_seconds: float
    """Finding and embedding faces, and CLIP."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """The last checkpoint of one training, or the untuned model."""

    about: About
    subject: Pictures
    others: Pictures

    def write(self, folder: Path) -> None:
        """Write `ID.npz`, whole or not at all."""
        arrays = {"about": np.array(json.dumps(asdict(self.about), allow_nan=False))}
        for name in ("subject", "others"):
            pictures = getattr(self, name)
            arrays |= {f"{name}.{field.name}": getattr(pictures, field.name) for field in fields(Pictures)}
        _write_arrays(candidate_file(folder, self.about.id), arrays)

    @classmethod
    def read(cls, folder: Path, id: str) -> Candidate:
        """Read what `write` has written."""
        with np.load(candidate_file(folder, id)) as arrays:
            parts = {
                name: Pictures(**{field.name: arrays[f"{name}.{field.name}"] for field in fields(Pictures)})
                for name in ("subject", "others")
            }
            return cls(about=About(**json.loads(str(arrays["about"]))), **parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Photos:
    """The person's own photos, as they are measured: at the side of generated images."""

    name: NDArray[np.str_]
    """[photos]"""
    trained_on: NDArray[np.bool_]
    """[photos]"""
    pixels: NDArray[np.uint8]
    """[photos, side, side, 3], RGB."""
    embedding: NDArray[np.float32]
    """[photos, dim], each of length 1."""

    def write(self, folder: Path) -> None:
        """Write `photos.npz`, whole or not at all."""
        _write_arrays(folder / "photos.npz", {field.name: getattr(self, field.name) for field in fields(Photos)})

    @classmethod
    def read(cls, folder: Path) -> Photos:
        """Read what `write` has written."""
        with np.load(folder / "photos.npz") as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(Photos)})


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A training that came to nothing."""

    id: str
    reason: str

    def write(self, folder: Path) -> None:
        """Write `ID.failed`."""
        write_file(folder / f"{self.id}.failed", lambda path: path.write_text(self.reason, "utf-8"))


def candidate_id(number: int, run: int) -> str:
    """Name of a configuration's run."""
    return f"{number:03d}-{run}"


def candidate_file(folder: Path, id: str) -> Path:
    """File of a candidate."""
    return folder / f"{id}.npz"


def is_done(folder: Path, id: str) -> bool:
    """Whether a candidate has been collected, or has failed."""
    return candidate_file(folder, id).exists() or (folder / f"{id}.failed").exists()


def _write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    def write(temporary: Path) -> None:
        file: BinaryIO
        with temporary.open("wb") as file:  # to a path, numpy would add a suffix of its own
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_file(path, write)
