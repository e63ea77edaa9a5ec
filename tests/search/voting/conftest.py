"""A small run folder to vote on: one colour an image, and measures that the test chooses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from PIL import Image

from evaluation.config import ObjectiveConfig
from evaluation.grid import image_grid
from evaluation.image_row import ImageRow
from evaluation.measures import OBJECTIVE
from evaluation.objective import image_objective, objective_floor
from evaluation.scores import Anchors, candidate_metrics
from search.config.search_config import dump_config, load_config
from search.storage.trial_record import CheckpointResult
from search.voting.candidates import read_run
from search.voting.page import VotingSession
from search.voting.votes import VotesFile
from trainer.files import write_file

Measured = Sequence[tuple[float | None, float]]
"""(face distance or None, CLIP score) of four images: two prompts, each with the seeds 1 and 2."""

MakeRun = Callable[..., Path]

ANCHORS = Anchors.between(untuned_distance=0.9, real_distance=0.4, clip_score=25.0)
"""Likeness is (0.9 - d) / 0.5 and fidelity CLIP score / 25."""

PAIRS = ((0, 1), (0, 2), (1, 1), (1, 2))

SIDE = 8
"""Of an image, pixels."""


@pytest.fixture
def colour() -> Callable[[int, int], tuple[int, int, int]]:
    """The colour of an image, by the number of its checkpoint in the order of writing and its place in `PAIRS`."""
    return _colour


def _colour(checkpoint: int, image: int) -> tuple[int, int, int]:
    return 10 + 20 * checkpoint, 10 + 50 * image, 128


@pytest.fixture
def make_run(document: dict[str, Any], write_config: Callable[[dict[str, Any]], Path], tmp_path: Path) -> MakeRun:
    """Makes `runs/anna` of trials, each with its checkpoints by step and what was measured on them."""

    def make(trials: Mapping[str, Mapping[int, Measured]], **weights: Any) -> Path:
        for number in range(4):
            Image.new("RGB", (64, 80), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
            (tmp_path / "photos" / f"{number}.txt").write_text("a photo of {trigger} man")
        document["evaluation"]["objective"] = weights
        config = load_config(write_config(document))
        folder = tmp_path / "runs" / "anna"
        write_file(folder / "search.yaml", lambda path: path.write_text(dump_config(config), "utf-8"))
        _write(folder / "base-validation", 0, [(0.9, 25.0)] * 4, ObjectiveConfig(**weights), number=0, anchors=True)
        number = 0
        for trial, checkpoints in trials.items():
            for step, measured in checkpoints.items():
                place = folder / "trials" / trial / f"step-{step}"
                _write(place, step, measured, ObjectiveConfig(**weights), number=number, anchors=False)
                number += 1
        return folder

    return make


@pytest.fixture
def run_folder(make_run: MakeRun) -> Path:
    """Three trials: `crimson-0` is the most like the person, `crimson-2` follows the prompt best."""
    return make_run(
        {
            "crimson-0": {77077: [(0.45, 20.0), (0.5, 21.0), (0.4, 20.5), (0.5, 19.0)]},
            "crimson-1": {77077: [(0.6, 23.0), (0.65, 24.0), (0.6, 23.5), (0.7, 24.5)]},
            "crimson-2": {77077: [(0.85, 26.0), (0.8, 25.0), (None, 25.5), (0.85, 26.0)]},
        }
    )


@pytest.fixture
def session(run_folder: Path) -> Iterator[VotingSession]:
    """A session on `run_folder`."""
    with VotesFile(run_folder / "votes.jsonl") as votes:
        yield VotingSession(read_run(run_folder), votes, seed=0)


def _write(
    folder: Path, step: int, measured: Measured, weights: ObjectiveConfig, *, number: int, anchors: bool
) -> None:
    folder.mkdir(parents=True)
    rows = [
        ImageRow.of(prompt, seed, face_distance=distance, clip_score=clip)
        for (prompt, seed), (distance, clip) in zip(PAIRS, measured, strict=True)
    ]
    objective = fmean(image_objective(row, ANCHORS, weights) for row in rows)
    metrics = {
        **candidate_metrics(rows, ANCHORS, weights),
        OBJECTIVE: objective if any(row.face_found for row in rows) else objective_floor(weights),
        **({"real_face_distance": 0.4} if anchors else {}),
    }
    CheckpointResult(step=step, metrics=metrics, rows=tuple(rows), folder=folder).write(folder)
    tiles = [Image.new("RGB", (SIDE, SIDE), _colour(number, image)) for image in range(len(PAIRS))]
    image_grid(tiles, columns=2).save(folder / "grid.png")
