"""Measurement 9: one checkpoint of a search, trained and scored by the job runner, taken apart."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

from PIL import Image

from benchmarks.clocks import REST, Clocks
from benchmarks.gpu.bench import ANCHORS, Bench
from benchmarks.gpu.rows import Row, at_least, at_most, holds
from evaluation.clip_score import ClipScorer
from search.storage.trial_record import CheckpointResult
from search.workers.jobs import ScoreJob, TrainJob
from search.workers.runner import JobRunner
from trainer.job.job import TrainingJob

DRAW, VALIDATE, STEP = "images", "validation loss", "training steps"
ON_DEVICE = frozenset({DRAW, VALIDATE, STEP})
"""Phases in which the device has work most of the time."""


def checkpoint(bench: Bench) -> Iterator[Row]:
    """Seconds of a checkpoint by phase; how much of it leaves the device without work; and a second scoring of it."""
    runner, folder, clocks = bench.runner(), bench.scratch(), Clocks()
    steps = bench.sizes.window
    reports: list[CheckpointResult] = []
    scored = bench.config(steps=3 * steps, rank=64)
    # The first checkpoint warms up: images of a new size, CLIP's texts.
    job = TrainJob(id="two", folder=folder / "two", config=scored, score_at=(steps, 2 * steps), anchors=ANCHORS)

    def keep(report: CheckpointResult | None) -> bool:
        if report is not None:
            reports.append(report)
        clocks.reset()
        return True

    phases: list[dict[str, float]] = []
    with ExitStack() as stack:
        for owner, function, phase in _watched(bench):
            stack.enter_context(patch.object(owner, function, getattr(owner, function)))  # undone at the end
            clocks.watch(owner, function, phase)

        def read(report: CheckpointResult | None) -> bool:
            phases.append(clocks.read())
            return keep(report)

        runner.do(job, report=read, go_on=lambda step: True)
    yield holds("two checkpoints are reported", len(reports) == len(phases) == 2)
    last, result = phases[-1], reports[-1]
    images = len(result.rows) + len(result.other_rows)
    scoring = sum(last.values()) - last.get(STEP, 0.0)
    yield Row(name=f"a checkpoint of {images} images, without training", value=scoring, unit="s")
    for phase, seconds in last.items():
        note = "faces of a stand-in" if phase == "faces" and bench.stands_in else ""
        yield Row(name=f"  {phase}", value=seconds, unit="s", note=note)
    explained = 1 - last[REST] / sum(last.values())
    idle = (scoring - sum(seconds for phase, seconds in last.items() if phase in ON_DEVICE - {STEP})) / scoring
    if bench.device.is_cuda:
        yield at_least("share of its time that these phases explain", explained, 0.95, "")
        note = "at least: gaps within the phases are not seen, and a stand-in's faces cost nothing"
        yield at_most("share of scoring in which nothing is drawn", idle, 0.10, "", note=note)
    else:
        yield Row(name="share of its time that these phases explain", value=explained)
        yield Row(name="share of scoring in which nothing is drawn", value=idle)
    for remark in result.remarks:
        yield Row(name="remark", value=remark)
    yield from _scored_again(bench, runner, result)
    shutil.rmtree(folder)


def _scored_again(bench: Bench, runner: JobRunner, result: CheckpointResult) -> Iterator[Row]:
    """What the final's scoring of the saved adapter says of the same prompts and seeds, twice."""
    again: list[CheckpointResult] = []
    for number in range(2):
        folder = bench.scratch()
        job = ScoreJob(
            id=f"again-{number}",
            folder=folder / "score",
            adapter=result.folder,
            prompt_set="validation",
            anchors=ANCHORS,
        )
        runner.do(job, report=partial(_keep, again), go_on=lambda step: True)
    first, second = again
    yield holds("two scorings of a saved adapter agree to the last bit", first.metrics == second.metrics)
    differences = {name: abs(first.metrics[name] - result.metrics[name]) for name in first.metrics}
    name = max(differences, key=lambda name: differences[name])
    yield Row(
        name="scored in training and from its file, largest difference",
        value=differences[name],
        note=f"of {name}; rounding of the adapter and of other batches",
    )
    yield Row(name="scoring from the file", value=second.scoring_seconds, unit="s")


def _keep(reports: list[CheckpointResult], report: CheckpointResult | None) -> bool:
    if report is not None:
        reports.append(report)
    return True


def _watched(bench: Bench) -> Iterator[tuple[Any, str, str]]:
    """Functions that a checkpoint calls, none within another, and the phase that each is."""
    yield TrainingJob, "step", STEP
    yield TrainingJob, "save", "state"
    yield TrainingJob, "validation_loss", VALIDATE
    yield importlib.import_module("evaluation.evaluate"), "generate_images", DRAW
    yield ClipScorer, "embed_images", "CLIP"
    if bench.stands_in:
        yield importlib.import_module("benchmarks.gpu.stand_in_faces").StandInFaces, "embed", "faces"
    else:
        yield importlib.import_module("evaluation.faces").FaceModel, "embed", "faces"
    yield importlib.import_module("search.workers.runner"), "save_adapter", "adapter"
    yield Image.Image, "save", "sheets"
