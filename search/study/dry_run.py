"""`--dry-run`: what a search would do and cost, before anything is started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from search.config.presets import flat
from search.config.search_config import SearchConfig
from search.photos.split import read_split
from search.study.accountant import CLOSING_SECONDS
from search.study.budget import Rate, first_limit
from search.study.earlier_pace import Experience, newest_experience
from search.study.forecast import final_seconds, makespan
from search.study.workload import Workload


def describe(config: SearchConfig, added: Mapping[str, Any]) -> list[str]:
    """The plan, a line each.

    Args:
        config: The search.
        added: What its preset has added to the configuration file.

    Raises:
        ValueError: photos or prompts cannot be used.
    """
    split = read_split(config.photos, config.evaluation.faces)
    work = Workload.of(config)
    rungs = work.rungs()
    most = [work.first_steps(number) or max(work.planned_steps) for number in range(config.trials)]
    trials = work.coming(0, rungs)
    finalists, retrain = work.entrant_count(), config.final.retrain
    steps, checkpoints = (sum(trial[place] for trial in trials) for place in (0, 1))
    final_steps = finalists * retrain * work.mean_steps
    images = (1 + checkpoints) * work.images + (1 + finalists * (1 + retrain)) * work.final_images
    lines = [
        f"{config.name}: the plan; nothing is started",
        f"photos: {len(split.training)} to train on, {len(split.reference)} to compare with",
    ]
    if added:
        lines.append(f"preset {config.preset}: " + ", ".join(f"{key}={_short(at)}" for key, at in flat(added).items()))
    lines += [
        f"space: {', '.join(config.space)}",
        f"trials: {config.trials} by {config.sampler.name}, at most {sum(most):,} steps, about {steps:,.0f} "
        f"expected, {checkpoints:,.0f} checkpoints",
        f"final: {finalists} candidates, each trained again {retrain} times, about {final_steps:,.0f} steps",
        f"images: about {images:,.0f}",
    ]
    workers, rate = _reserved(config)
    limit = first_limit(config.budget, rate)
    experience = newest_experience(config)
    if experience is None:
        lines.append(
            "time, cost and disk: unknown, for no earlier run in this folder has used this model at this size; the "
            "search foretells them when two trials have ended"
        )
    else:
        seconds = _seconds(config, work, trials, experience, workers)
        kept = checkpoints + finalists * (1 + retrain)
        lines.append(f"time on {workers} worker(s): about {rate.words(seconds)}, at the pace of {experience.run}")
        lines.append(f"disk: about {kept * experience.checkpoint_bytes / 1e6:,.0f} MB of checkpoints")
    if limit.name:
        lines.append(f"budget: {limit.name}, which ends the search after {rate.words(limit.seconds)} at the latest")
    return lines


def _seconds(
    config: SearchConfig, work: Workload, trials: list[tuple[float, float]], experience: Experience, workers: int
) -> float:
    pace, finalists = experience.pace, work.entrant_count()
    scoring = pace.image * work.final_images
    return (
        experience.start_seconds
        + makespan([steps * pace.step + scored * pace.image * work.images for steps, scored in trials], workers)
        + final_seconds(
            trainings=[work.mean_steps * pace.step] * finalists,
            entrants=finalists,
            retrain=config.final.retrain,
            scoring=scoring,
            anchors=scoring,
            workers=workers,
        )
        + CLOSING_SECONDS
    )


def _reserved(config: SearchConfig) -> tuple[int, Rate]:
    """The workers that this machine would hold, and what they reserve."""
    workers, gpus = config.seats, torch.cuda.device_count()
    share = workers.workers * (workers.gpus_per_worker if gpus else workers.threads)
    count = workers.count or max(1, int((gpus or os.cpu_count() or 1) / share))
    return count, Rate.of(config.seats, count, config.budget, gpus=bool(gpus))


def _short(value: Any) -> str:
    return str(value).replace("'", "")
