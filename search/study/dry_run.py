"""`--dry-run`: what a search would do and cost, before anything is started."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.config.defaults import Added
from search.config.presets import flat
from search.config.run_layout import RESULT_FILE, RunLayout
from search.config.search_config import SearchConfig, shown_config
from search.storage.result import find_result
from search.study.budget import Rate, first_limit
from search.study.forecast import CLOSING_SECONDS, Pace, Workload, makespan
from search.tracking.connection import Connection
from search.workers.cluster import Capacity, CapacityError
from search.workers.preflight import Preflight
from trainer.data.photos import PhotoSplit
from trainer.models.device import usable_gpus
from trainer.settings_file import ConfigurationError, read_settings

FACE_SECONDS = 20.0
"""How long faces are looked for: a plan is wanted in seconds."""


def check(config: SearchConfig, *, address: str | None, resumed: bool) -> Preflight:
    """What the search itself checks before it starts; nothing is made.

    Args:
        config: The search.
        address: As of the search.
        resumed: Whether a run goes on.

    Raises:
        ValueError: something cannot be used; the message names it and the remedy.
    """
    checked = Preflight(config, address=address, resumed=resumed, seconds=FACE_SECONDS)
    Connection(config.tracking.uri, config.tracking.experiment, config.runs.parent, make=False)
    return checked


def describe(config: SearchConfig, added: Sequence[Added], split: PhotoSplit) -> list[str]:
    """The plan, a line each.

    Args:
        config: The search.
        added: What the configuration file leaves open and has got a default for.
        split: Its photos.
    """
    work = Workload.of(config)
    most = [work.lengths_of(number)[-1] for number in range(config.trials)]
    coming = work.coming()
    steps, checkpoints = (sum(trial[place] for trial in coming) for place in (0, 1))
    finalists, retrain = work.entrant_count, config.final.retrain
    images = (1 + checkpoints) * work.images + (1 + finalists * (1 + retrain)) * work.final_images
    lines = [
        f"{config.name}: the plan; nothing is started",
        f"photos: {len(split.training)} to train on, {len(split.reference)} to compare with",
    ]
    lines += [
        f"{each.source}: " + ", ".join(f"{key}={_short(value)}" for key, value in flat(each.settings).items())
        for each in added
    ]
    lines += [
        f"space: {', '.join(config.space)}",
        f"trials: {config.trials} by {config.sampler.name}, at most {sum(most):,} steps, about {steps:,.0f} "
        f"expected, {checkpoints:,.0f} checkpoints",
        f"final: {finalists} candidates, each trained again {retrain} times, about "
        f"{finalists * retrain * work.mean_steps:,.0f} steps",
        f"images: about {images:,.0f}",
    ]
    machine = {"CPU": os.cpu_count() or 1, "GPU": usable_gpus()}
    capacity = Capacity.of([{"Alive": True, "Resources": machine}], config.seats)
    try:
        workers = capacity.workers(config.seats)
    except CapacityError as error:
        workers = config.seats.count or 1
        lines.append(f"workers: a cluster has to hold them; on this machine {error}")
    rate = Rate.of(config.seats, workers, config.budget, gpus=capacity.gpus)
    earlier = newest_run(config)
    if earlier is None:
        lines.append(
            "time, cost and disk: unknown, for no earlier run in this folder has used this model at this size; the "
            "search predicts them when two trials have ended"
        )
    else:
        pace = earlier.pace
        trials = [work.seconds(trial, pace) for trial in coming]
        final = work.final_seconds([work.mean_steps * pace.step] * finalists, image=pace.image, workers=workers)
        seconds = earlier.start_seconds + makespan(trials, workers) + final + CLOSING_SECONDS
        kept = checkpoints + finalists * (1 + retrain)
        lines.append(f"time on {workers} worker(s): about {rate.words(seconds)}, at the pace of {earlier.run}")
        lines.append(f"disk: about {kept * earlier.checkpoint_bytes / 1e6:,.0f} MB of checkpoints")
    limit = first_limit(config.budget, rate)
    if limit.name:
        lines.append(f"budget: {limit.name}, which ends the search after {rate.words(limit.seconds)} at the latest")
    return lines


def _short(value: Any) -> str:
    return str(value).replace("'", "")


ALIKE = ("model", "training.resolution", "training.batch_size", "evaluation.generation")
"""Settings, alone or with all below them, that have to agree for the pace to be comparable."""


@dataclass(frozen=True, kw_only=True)
class EarlierRun:
    """What an earlier search took."""

    run: str
    pace: Pace
    start_seconds: float
    """To load models and measure the untuned one."""
    checkpoint_bytes: float
    """Of one checkpoint's folder, on average."""


def newest_run(config: SearchConfig) -> EarlierRun | None:
    """The newest search beside this one with the same model, resolution, batch and images; None if there is none."""
    ours = _alike(shown_config(config))
    results = sorted(config.runs.glob(f"*/{RESULT_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for layout in (RunLayout(result.parent) for result in results):
        try:
            theirs = _alike(read_settings(layout.configuration, SearchConfig))
        except ConfigurationError:
            continue
        if theirs != ours or (result := find_result(layout.folder)) is None:
            continue
        cost = result.outcome.cost
        sizes = [sum(file.stat().st_size for file in folder.iterdir()) for _, _, folder in layout.scored_checkpoints()]
        if cost.optimizer_steps and cost.images and sizes:
            return EarlierRun(
                run=layout.folder.name,
                pace=Pace(step=cost.training_seconds / cost.optimizer_steps, image=cost.scoring_seconds / cost.images),
                start_seconds=result.outcome.seconds.get("start", 0.0),
                checkpoint_bytes=sum(sizes) / len(sizes),
            )
    return None


def _alike(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value for key, value in flat(document).items() if f"{key}.".startswith(tuple(f"{at}." for at in ALIKE))
    }
