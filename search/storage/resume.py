"""Going on with a run: whether its configuration allows it, and what became of its trials so far."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from search.config.presets import flat
from search.config.run_layout import CONFIGURATION_FILE, RunLayout
from search.config.search_config import ConfigurationError, SearchConfig, load_config, shown_config
from search.storage.result import SearchResult, find_result

FREE = ("trials", "seats", "tracking", "final", "budget", "runs")
"""Settings that a run that goes on may change: they change neither what a trial is nor what its score means."""

REMEASURED = ("final.prompts", "final.seeds")
"""Those among them by which the final's images would be others: what it has measured counts no more."""


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """A run that is to go on."""

    folder: Path
    config: SearchConfig
    changes: tuple[str, ...]
    """Settings that are not as they were, `KEY: OLD before, NEW now`; all of them free."""

    @property
    def changes_final(self) -> bool:
        return any(_within(change, ("final",)) for change in self.changes)

    @property
    def remeasures_final(self) -> bool:
        return any(_within(change, REMEASURED) for change in self.changes)


def read_continuation(folder: Path, config: Path | None = None, overrides: Sequence[str] = ()) -> Continuation:
    """Read the configuration of a run, and another one if there is one, and compare.

    Args:
        folder: The run folder.
        config: A configuration file that is to count from now on. Default: the run's own.
        overrides: As of `load_config`, on top of it.

    Raises:
        ConfigurationError: there is no such run, or a setting differs that may not; the message names all of them.
    """
    folder = folder.resolve()
    own = RunLayout(folder).configuration
    if not own.is_file():
        remedy = "nothing was begun there: remove it and begin anew" if folder.is_dir() else "give one, as runs/demo"
        raise ConfigurationError(f"{folder} is not a run: it holds no {CONFIGURATION_FILE}; {remedy}")
    before = load_config(own)
    place = {"runs": folder.parent}  # it may have been moved
    # A configuration file is of many runs: its name and place are not this run's.
    named = () if any(override.startswith("name=") for override in overrides) else (f"name={before.name}",)
    now = load_config(config or own, [*overrides, *named]).model_copy(update=place)
    changes = _changes(before.model_copy(update=place), now)
    if refused := [change for change in changes if not _within(change, FREE)]:
        raise ConfigurationError(
            f"{folder} cannot go on with another search than it was begun with:\n"
            + "\n".join(f"  {change}" for change in refused)
            + f"\nonly {', '.join(FREE[:-1])} may change; begin a new run with another --name for these"
        )
    return Continuation(folder=folder, config=now, changes=changes)


def _changes(before: SearchConfig, now: SearchConfig) -> tuple[str, ...]:
    """The settings that differ, in the order of the configuration."""
    old, new = (flat(shown_config(config), whole_dimensions=False) for config in (before, now))
    pairs = {key: (old.get(key), new.get(key)) for key in (*old, *new)}
    return tuple(f"{key}: {was!r} before, {is_now!r} now" for key, (was, is_now) in pairs.items() if was != is_now)


def _within(change: str, keys: Sequence[str]) -> bool:
    return change.startswith(tuple(f"{key}{end}" for key in keys for end in ".:"))


def how_to_resume(folder: Path, address: str | None) -> str:
    """The line that an interrupted search ends with.

    Args:
        folder: The run folder.
        address: Of the Ray cluster that was used; None for this machine.
    """
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    cluster = f" --address {shlex.quote(address)}" if address else ""
    return f"interrupted; go on with: python -m search.run --resume {shlex.quote(str(shown))}{cluster}"


def ended_result(folder: Path) -> SearchResult | None:
    """The result of a run whose search has done all it could; None of any other."""
    result = find_result(folder)
    return result if result is not None and (result.has_champion or result.has_no_candidate) else None


def forget_final(folder: Path) -> None:
    """Remove what the final has measured; its finalists' adapters lie with their trials."""
    layout = RunLayout(folder)
    for measured in (layout.final, layout.second_judge_of(layout.final)):
        shutil.rmtree(measured, ignore_errors=True)
