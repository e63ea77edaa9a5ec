"""Presets: settings of a search under one name, for whatever a configuration file leaves open.

Each is a file in `preset_files/`; `search.config.defaults` puts them in. What the user has set stays. A setting of the
training that the file fixes does not vary in the preset's space; a space in the file replaces the preset's as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from trainer.settings_file import ConfigurationError, nearest, read_settings

PresetName = Literal["quick", "standard", "thorough"]

FOLDER = Path(__file__).parent / "preset_files"

WHOLE = "space"
"""The section that is taken as a whole or not at all."""


def preset_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the preset that a configuration file's content names; its space without what the file fixes.

    Raises:
        ConfigurationError: there is no such preset.
    """
    name = document.get("preset")
    if name not in get_args(PresetName):
        raise ConfigurationError(f"preset {name!r} does not exist{nearest(str(name), get_args(PresetName))}")
    preset = read_settings(FOLDER / f"{name}.yaml")
    training = document.get("training")
    fixed = training if isinstance(training, Mapping) else {}
    preset[WHOLE] = {setting: value for setting, value in preset[WHOLE].items() if setting not in fixed}
    if WHOLE in document or "steps" in fixed:
        # Made for the steps of the preset's own space.
        preset.pop("training", None)
    return preset


def flat(settings: Mapping[str, Any], place: str = "", *, whole_dimensions: bool = True) -> dict[str, Any]:
    """Single values by their dotted keys, as `--set` names them.

    Args:
        settings: sections within sections.
        place: what every key begins with, up to a dot.
        whole_dimensions: whether a dimension of the space is one value.
    """
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and not (whole_dimensions and place == f"{WHOLE}."):
            values |= flat(value, f"{place}{key}.", whole_dimensions=whole_dimensions)
        else:
            values[f"{place}{key}"] = value
    return values


def left_open(settings: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the settings that a configuration file's content says nothing of; a space is one setting."""
    added = {}
    for key, value in settings.items():
        if key not in document:
            added[key] = value
        elif key != WHOLE and isinstance(value, Mapping) and isinstance(document[key], Mapping):
            added[key] = left_open(value, document[key])
    return {key: value for key, value in added.items() if value != {}}


def merged(document: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """Both; `added` says nothing that the document says."""
    both = dict(document)
    for key, value in added.items():
        both[key] = merged(document[key], value) if key in document else value
    return both
