"""Experience: how fast an earlier search was on this kind of work, as its run folder tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from search.config.run_layout import RESULT_FILE, RunLayout
from search.config.search_config import SearchConfig, dump_config
from search.storage.result import find_result
from search.study.forecast import Pace
from trainer.settings_file import ConfigurationError, read_settings

LIKE = (("model",), ("training", "resolution"), ("training", "batch_size"), ("evaluation", "generation"))
"""Places in a configuration that have to agree for the pace to be comparable."""


@dataclass(frozen=True, kw_only=True)
class Experience:
    """What an earlier search took."""

    run: str
    pace: Pace
    start_seconds: float
    """To load models and measure the untuned one."""
    checkpoint_bytes: float
    """Of one checkpoint's folder, on average."""


def newest_experience(config: SearchConfig) -> Experience | None:
    """The newest search beside this one with the same model, resolution, batch and images; None if there is none."""
    ours = yaml.safe_load(dump_config(config))
    results = sorted(config.runs.glob(f"*/{RESULT_FILE}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for result in results:
        try:
            theirs = read_settings(RunLayout(result.parent).configuration)
        except ConfigurationError:
            continue
        if all(_at(theirs, place) == _at(ours, place) for place in LIKE) and (found := _read(result)) is not None:
            return found
    return None


def _at(document: object, place: tuple[str, ...]) -> object:
    for key in place:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _read(result: Path) -> Experience | None:
    found = find_result(result.parent)
    if found is None:
        return None
    cost, seconds = found.outcome.cost, found.outcome.seconds
    sizes = [sum(file.stat().st_size for file in folder.iterdir()) for folder in result.parent.glob("trials/*/step-*")]
    if not (cost.optimizer_steps and cost.images and sizes):
        return None
    return Experience(
        run=result.parent.name,
        pace=Pace(step=cost.training_seconds / cost.optimizer_steps, image=cost.scoring_seconds / cost.images),
        start_seconds=seconds.get("start", 0.0),
        checkpoint_bytes=sum(sizes) / len(sizes),
    )
