"""`images.parquet`: a row for every image that a search scored; every figure of its result follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from evaluation.config import PromptSet
from evaluation.scores import Anchors, ImageRow, image_fidelity, image_likeness
from search.final import Final
from search.job import PromptSetName, Report
from search.record import TrialRecord
from search.strengths import Sweep
from trainer.files import write_file

IMAGES_FILE = "images.parquet"

BASE = "base"
"""The untuned model, in the column `candidate`; every other value is a trial."""

STRENGTHS = "strengths"
"""The champion at other strengths than 1, in the column `prompt_set`: some of the final's prompts."""

SCHEMA = pa.schema(
    [
        ("prompt_set", pa.string()),  # validation: steered the search; final: only confirmed it; strengths: neither
        ("candidate", pa.string()),
        ("step", pa.int64()),  # optimizer steps; 0: the untuned model
        ("training_seed", pa.int64()),  # of a retraining; null: the trial's own
        ("strength", pa.float64()),  # of the adapter; 1: what was trained; null: the untuned model
        ("shows", pa.string()),  # person, or others (no trigger in the prompt)
        ("prompt_index", pa.int64()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
        ("face_found", pa.bool_()),
        ("faces", pa.int64()),
        ("face_confidence", pa.float64()),
        ("face_distance", pa.float64()),
        ("nearest_distance", pa.float64()),
        ("likeness", pa.float64()),  # 0 without a face; of others: null
        ("clip_score", pa.float64()),
        ("fidelity", pa.float64()),  # of others: null
        ("training_photo", pa.string()),
        ("picture_distance", pa.float64()),
    ]
)
"""Columns; measures as in `evaluation.scores.ImageRow`."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A report and what its rows do not say themselves."""

    prompt_set: PromptSetName
    candidate: str
    step: int
    training_seed: int | None
    report: Report
    strength: float | None = 1.0


def write_images(
    path: Path,
    *,
    base: Report,
    records: Sequence[TrialRecord],
    final: Final | None,
    sweep: Sweep | None = None,
    prompt_sets: Mapping[PromptSetName, PromptSet],
    other_sets: Mapping[PromptSetName, PromptSet],
) -> Path:
    """Write a row for every image of the person and of others, of every scored checkpoint and of the final.

    Args:
        path: The file.
        base: The untuned model on the validation prompts.
        records: All trials.
        final: None if there was none.
        sweep: The champion at several strengths; None if there is none.
        prompt_sets: Prompts of the person.
        other_sets: Prompts of others.
    """
    anchors = {"validation": Anchors.from_metrics(base.metrics)}
    sources = [_Source(prompt_set="validation", candidate=BASE, step=0, training_seed=None, report=base, strength=None)]
    sources += [
        _Source(prompt_set="validation", candidate=record.id, step=report.step, training_seed=None, report=report)
        for record in records
        for report in record.reports
    ]
    if final is not None:
        anchors["final"] = Anchors.from_metrics(final.base.metrics)
        sources += _of_final(final)
        sources += _of_sweep(final, sweep)
    rows = [row for source in sources for row in _rows(source, anchors[source.prompt_set], prompt_sets, other_sets)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    write_file(path, lambda temporary: pyarrow.parquet.write_table(table, temporary))
    return path


def _of_final(final: Final) -> Iterator[_Source]:
    yield _Source(prompt_set="final", candidate=BASE, step=0, training_seed=None, report=final.base, strength=None)
    for finalist in final.finalists:
        name, step = finalist.record.id, finalist.candidate.step
        yield _Source(prompt_set="final", candidate=name, step=step, training_seed=None, report=finalist.final)
        for again in finalist.retrained:
            if again.report is not None:
                yield _Source(
                    prompt_set="final", candidate=name, step=step, training_seed=again.seed, report=again.report
                )


def _of_sweep(final: Final, sweep: Sweep | None) -> Iterator[_Source]:
    """What was drawn for it alone; the untuned model and full strength are the final's."""
    name, step = final.champion.record.id, final.champion.candidate.step
    for strength, report in sweep.drawn if sweep is not None else ():
        yield _Source(
            prompt_set="final", candidate=name, step=step, training_seed=None, report=report, strength=strength
        )


def _rows(
    source: _Source,
    anchors: Anchors,
    prompt_sets: Mapping[PromptSetName, PromptSet],
    other_sets: Mapping[PromptSetName, PromptSet],
) -> Iterator[dict[str, Any]]:
    shown = {"person": (source.report.rows, prompt_sets), "others": (source.report.other_rows, other_sets)}
    for shows, (rows, sets) in shown.items():
        for values in rows:
            row = ImageRow(**values)
            measures = {name: value for name, value in values.items() if name in SCHEMA.names}
            yield {
                "prompt_set": source.prompt_set if source.strength in (None, 1.0) else STRENGTHS,
                "candidate": source.candidate,
                "step": source.step,
                "training_seed": source.training_seed,
                "strength": source.strength,
                "shows": shows,
                "prompt": sets[source.prompt_set].prompts[row.prompt_index],
                "likeness": image_likeness(row, anchors) if shows == "person" else None,
                "fidelity": image_fidelity(row, anchors) if shows == "person" else None,
                **measures,
            }
