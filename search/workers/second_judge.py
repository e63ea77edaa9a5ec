"""The second judge at a worker: another face model that looks at images which exist already. Knows no Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from evaluation.face_judge import FaceJudge
from evaluation.faces import FaceModel
from evaluation.judges import Pictures
from evaluation.measures import COPY_DISTANCE, FACE_MEASURES, LEAKAGE, REAL
from search.storage.trial_record import CheckpointResult
from search.workers.setup import RunnerSetup
from trainer.data.photos import open_photo

OWN = {measure.name for measure in FACE_MEASURES}


class SecondJudge:
    """A face model and the reference photos as it sees them, loaded once a worker.

    Raises:
        ValueError: the search has no second judge, its models cannot be loaded (`FaceModelError`), or it finds no face
            in some reference photos.
    """

    def __init__(self, setup: RunnerSetup) -> None:
        if setup.second_judge is None:
            raise ValueError("this search has no second judge; set evaluation.second_judge")
        model = FaceModel(setup.second_judge)
        photos = [open_photo(photo, setup.generation.resolution) for photo in setup.split.reference]
        faces = model.embed(photos)
        without = [photo.path.name for photo, face in zip(setup.split.reference, faces, strict=True) if face is None]
        if without:
            raise ValueError(
                f"{setup.second_judge.name} finds no face in the reference photos {', '.join(without)}; remove or "
                "replace them, or choose another detector"
            )
        self._faces = FaceJudge(model, np.stack([face.embedding for face in faces if face is not None]))

    def judge(self, folder: Path) -> CheckpointResult:
        """Measure the images of a report's sheet.

        Args:
            folder: Of a scored checkpoint.

        Returns:
            The same rows with this judge's measures of faces. The metrics are what anchors and objective need besides:
            means over the real photos, of faces as this judge sees them, and leakage, which the first judge measured.

        Raises:
            ValueError: the sheet cannot be read or does not fit its report.
        """
        try:
            first = CheckpointResult.read(folder)
            images = first.images()
        except OSError as error:
            raise ValueError(f"the images of {folder} cannot be read: {error}") from error
        rows = []
        for row, faces in zip(first.rows, self._faces.judge(Pictures(images=images)), strict=True):
            kept = {name: value for name, value in row.measures.items() if name not in OWN}
            rows.append(replace(row, measures={**kept, **faces}))
        kept_metrics = {
            name: value
            for name, value in first.metrics.items()
            if name in (COPY_DISTANCE, LEAKAGE) or (name.startswith(REAL) and name.removeprefix(REAL) not in OWN)
        }
        real = {REAL + name: value for name, value in self._faces.of_references().items()}
        return CheckpointResult(step=first.step, metrics={**kept_metrics, **real}, rows=tuple(rows), folder=folder)
