"""Going on with a run: whether its configuration allows it, and what became of its trials so far."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.config.presets import flat
from search.config.run_layout import CONFIGURATION_FILE, RunLayout
from search.config.search_config import ConfigurationError, SearchConfig, load_config, shown_config
from search.storage.result import SearchResult, find_result
from search.storage.run_folder import RunFolderError, read_config, read_inputs, sum_of

PLACES: Mapping[str, str] = {
    "model": "model",
    "photos.folder": "photo",
    "photos.prior.folder": "class image",
    "evaluation.prompts": "file evaluation.prompts",
    "evaluation.others.prompts": "file evaluation.others.prompts",
    "evaluation.clip": "folder evaluation.clip",
    "evaluation.faces.recognizer.onnx": "file evaluation.faces.recognizer",
    "evaluation.second_judge.recognizer.onnx": "file evaluation.second_judge.recognizer",
    "final.prompts": "file final.prompts",
    "warm_start": "",
}
"""Settings that name files and folders, and under which names `inputs_of` keeps the checksums of what is in them: they
may lie elsewhere, for what is in them is compared."""

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
    try:
        before = read_config(folder)
    except RunFolderError as error:
        raise ConfigurationError(str(error)) from error
    place = {"runs": folder.parent}  # it may have been moved
    # A configuration file is of many runs: its name and place are not this run's.
    named = () if any(override.startswith("name=") for override in overrides) else (f"name={before.name}",)
    found = [] if config is not None else _found_again(before, folder, overrides)
    now = load_config(config or own, [*found, *overrides, *named]).model_copy(update=place)
    changes = _changes(before.model_copy(update=place), now, read_inputs(folder))
    if refused := [change for change in changes if not _within(change, FREE)]:
        raise ConfigurationError(
            f"{folder} cannot go on with another search than it was begun with:\n"
            + "\n".join(f"  {change}" for change in refused)
            + f"\nonly {', '.join(FREE[:-1])} may change; begin a new run with another --name for these"
        )
    return Continuation(folder=folder, config=now, changes=changes)


def _found_again(before: SearchConfig, folder: Path, overrides: Sequence[str]) -> list[str]:
    """Overrides for what a run was begun with and that is not where it was, but where it was beside the run folder.

    Raises:
        ConfigurationError: it is not there either, and no override says where.
    """
    written = _settings(before)
    named = {override.partition("=")[0] for override in overrides}
    places = {key: Path(str(written[key])) for key in PLACES if written.get(key) is not None and key not in named}
    moved = {
        key: Path(os.path.normpath(folder.parent / os.path.relpath(path, before.runs)))
        for key, path in places.items()
        if path.is_absolute() and not path.exists()
    }
    if lost := {key: places[key] for key, path in moved.items() if not path.exists()}:
        shown, key = shlex.quote(str(folder)), next(iter(lost))
        raise ConfigurationError(
            f"{folder} was begun with {', '.join(f'{key} {path}' for key, path in lost.items())}, of which nothing is "
            f"there now; give the configuration of the moved project, python -m search.run CONFIG --resume {shown}, or "
            f"say where it is, --set {key}=PATH"
        )
    return [f"{key}={json.dumps(str(path))}" for key, path in moved.items()]


def _changes(before: SearchConfig, now: SearchConfig, inputs: Mapping[str, str]) -> tuple[str, ...]:
    """The settings that differ, in the order of the configuration, but for places of the same files."""
    old, new = _settings(before), _settings(now)
    pairs = {key: (old.get(key), new.get(key)) for key in (*old, *new)}
    return tuple(
        f"{key}: {was!r} before, {is_now!r} now"
        for key, (was, is_now) in pairs.items()
        if was != is_now and not _only_moved(key, was, is_now, inputs)
    )


def _settings(config: SearchConfig) -> dict[str, Any]:
    return flat(shown_config(config), whole_dimensions=False)


def _only_moved(key: str, was: object, is_now: object, inputs: Mapping[str, str]) -> bool:
    """Whether two paths name the same thing, as far as it is not compared later (`search.storage.run_folder`)."""
    paths = [Path(value) for value in (was, is_now) if isinstance(value, str)]
    if key not in PLACES or len(paths) < 2 or not all(path.is_absolute() for path in paths):
        return False
    if key == "warm_start":  # its results are in the journal
        return not paths[0].exists() and paths[0].name == paths[1].name
    if key == "final.prompts":  # others are allowed, and mean another final
        return inputs.get(PLACES[key]) == sum_of(paths[1].read_bytes())
    return any(PLACES[key] in name for name in inputs)


def _within(change: str, keys: Sequence[str]) -> bool:
    return change.startswith(tuple(f"{key}{end}" for key in keys for end in ".:"))


def how_to_resume(folder: Path, address: str | None) -> str:
    """The line that an interrupted search ends with.

    Args:
        folder: The run folder.
        address: Of the Ray cluster that was used; None for this machine.
    """
    cluster = f" --address {shlex.quote(address)}" if address else ""
    return f"interrupted; go on with: python -m search.run --resume {in_shell(folder)}{cluster}"


def in_shell(folder: Path) -> str:
    """A folder as it may be pasted into a shell that stands where this process does."""
    return shlex.quote(str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder))


def ended_result(folder: Path) -> SearchResult | None:
    """The result of a run whose search has done all it could; None of any other."""
    result = find_result(folder)
    return result if result is not None and (result.has_champion or result.has_no_candidate) else None


def forget_final(folder: Path) -> None:
    """Remove what the final has measured; its finalists' adapters lie with their trials."""
    layout = RunLayout(folder)
    for measured in (layout.final, layout.second_judge_of(layout.final)):
        shutil.rmtree(measured, ignore_errors=True)
