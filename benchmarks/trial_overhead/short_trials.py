"""The work of `benchmarks.trial_overhead`: a fixed list of short trials on the demo's model and photos."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from evaluation.config import FaceConfig, GenerationConfig, PromptSet
from search.config.search_config import SearchConfig
from search.config.sections import EvaluationConfig, FinalConfig, PhotosConfig, SeatsConfig
from search.config.space import Choice, Value
from search.workers.setup import RunnerSetup
from trainer.config import TrainingConfig
from trainer.data.photos import load_photos, split_photos

DEMO = Path(__file__).resolve().parents[2] / "demo"

STEPS = 30
"""Optimizer steps of every trial; only the last checkpoint is scored, on two images."""

LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
RANKS = (4, 8, 16)


def short_trials(count: int) -> dict[int, dict[str, Value]]:
    """What each trial tries, by number; from the thirteenth on it begins again, with other noise."""
    configurations = list(product(LEARNING_RATES, RANKS))
    chosen = (configurations[number % len(configurations)] for number in range(count))
    return {number: {"learning_rate": rate, "rank": rank} for number, (rate, rank) in enumerate(chosen)}


def short_search(folder: Path, workers: int) -> tuple[SearchConfig, RunnerSetup]:
    """The search that such trials belong to, with one thread a worker, and what its workers load.

    Args:
        folder: Gets the data cache.
        seats: Number of seats.
    """
    prompts = folder / "prompts.txt"  # the prompts are given below; nobody reads this file
    config = SearchConfig(
        name="trial-overhead",
        model=str(DEMO / "base"),
        photos=PhotosConfig(folder=DEMO / "photos"),
        training=TrainingConfig(steps=STEPS, resolution=64),
        space={"learning_rate": Choice(values=LEARNING_RATES), "rank": Choice(values=RANKS)},
        seats=SeatsConfig(count=workers, threads=1),
        evaluation=EvaluationConfig(
            prompts=prompts,
            every=STEPS,
            clip=str(DEMO / "clip"),
            generation=GenerationConfig(steps=12, resolution=64, batch_size=2),
            faces=FaceConfig(recognizer="Dlib", detector="dlib"),
        ),
        final=FinalConfig(prompts=prompts),
        runs=folder,
    )
    photos = load_photos(config.photos.folder, config.photos.trigger)
    split = split_photos(photos, config.photos.reference_share, config.photos.seed)
    prompt_set = PromptSet(prompts=("a photo of {trigger} man, neutral, gray background",), seeds=(1, 2))
    return config, RunnerSetup.of(config, split, {"validation": prompt_set}, {})
