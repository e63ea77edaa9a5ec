"""The second judge at a worker: another face model that looks at images which exist already. Knows no Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluation.faces import FaceModel, distances, mean_pairwise_distance
from evaluation.scores import FACE_DISTANCE, FACELESS, FACELESS_RATE
from search.storage.trial_record import CheckpointResult
from search.workers.setup import RunnerSetup
from trainer.data.photos import open_photo


class SecondJudge:
    """A face model and the reference photos as it sees them, loaded once a worker.

    Raises:
        ValueError: the search has no second judge, its models cannot be loaded (`FaceModelError`), or it finds no face
            in some reference photos.
    """

    def __init__(self, setup: RunnerSetup) -> None:
        if setup.second_judge is None:
            raise ValueError("this search has no second judge; set evaluation.second_judge")
        self._model = FaceModel(setup.second_judge)
        photos = [open_photo(photo.path, setup.generation.resolution, photo.crop) for photo in setup.split.reference]
        faces = self._model.embed(photos)
        without = [photo.path.name for photo, face in zip(setup.split.reference, faces, strict=True) if face is None]
        if without:
            raise ValueError(
                f"{setup.second_judge.name} finds no face in the reference photos {', '.join(without)}; remove or "
                "replace them, or choose another detector"
            )
        self._reference = np.stack([face.embedding for face in faces if face is not None])

    def judge(self, folder: Path) -> CheckpointResult:
        """Measure the images of a report's sheet.

        Args:
            folder: Of a scored checkpoint.

        Returns:
            The same rows with this judge's `face_found`, `face_distance`, `nearest_distance` and `face_confidence`.
            Among the metrics is `real_distance`, of the reference photos to each other.

        Raises:
            ValueError: the sheet cannot be read or does not fit its report.
        """
        try:
            first = CheckpointResult.read(folder)
            images = first.images()
        except OSError as error:
            raise ValueError(f"the images of {folder} cannot be read: {error}") from error
        rows = []
        for row, face in zip(first.rows, self._model.embed(images), strict=True):
            to_reference = None if face is None else distances(face.embedding[None, :], self._reference)
            rows.append(
                replace(
                    row,
                    face_found=face is not None,
                    face_distance=None if to_reference is None else float(to_reference.mean()),
                    nearest_distance=None if to_reference is None else float(to_reference.min()),
                    face_confidence=None if face is None else face.confidence,
                )
            )
        found = [row.face_distance for row in rows if row.face_distance is not None]
        metrics = {
            "real_distance": mean_pairwise_distance(self._reference),
            FACELESS: float(len(rows) - len(found)),
            FACELESS_RATE: 1.0 - len(found) / len(rows),
        }
        if found:
            metrics[FACE_DISTANCE] = float(np.mean(found))
        return CheckpointResult(step=first.step, metrics=metrics, rows=tuple(rows), folder=folder)
