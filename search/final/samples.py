"""The picture that says it fastest: the untuned model above, the champion below, same prompts and seeds."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from evaluation.grid import image_grid
from search.final.final import Final
from search.storage.trial_record import CheckpointResult
from trainer.files import write_file

COLUMNS = 12
"""Images a row, at most."""


def write_samples(final: Final, path: Path) -> Path:
    """Write a PNG of two rows: base and champion on the first seed of each final prompt."""
    rows = [_first_of_each_prompt(report)[:COLUMNS] for report in (final.base, final.champion.final)]
    sheet = image_grid([image for row in rows for image in row], columns=len(rows[0]))
    write_file(path, lambda temporary: sheet.save(temporary, "PNG"))
    return path


def _first_of_each_prompt(result: CheckpointResult) -> list[Image.Image]:
    return result.images()[:: result.columns]
