"""Presets: settings of a search under one name, for whatever a configuration file leaves open.

Each is a file in `preset_files/`. What the user has set stays; so does a training setting that the user has fixed,
which the preset's space then does not vary. A space of the user's own replaces the preset's as a whole.
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


def with_preset(document: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration file's content with what its `preset` adds.

    Raises:
        ConfigurationError: there is no such preset.
    """
    return _merged(document, added_by_preset(document))


def added_by_preset(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the `preset` of a configuration file's content adds to it; nothing where it names none.

    Raises:
        ConfigurationError: there is no such preset.
    """
    name = document.get("preset")
    if name is None:
        return {}
    if name not in get_args(PresetName):
        raise ConfigurationError(f"preset {name!r} does not exist{nearest(str(name), get_args(PresetName))}")
    preset = read_settings(FOLDER / f"{name}.yaml")
    training = document.get("training")
    fixed = training if isinstance(training, Mapping) else {}
    preset[WHOLE] = {setting: value for setting, value in preset[WHOLE].items() if setting not in fixed}
    return _left_open(preset, document)


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


def _left_open(preset: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    added = {}
    for key, value in preset.items():
        if key not in document:
            added[key] = value
        elif key != WHOLE and isinstance(value, Mapping) and isinstance(document[key], Mapping):
            added[key] = _left_open(value, document[key])
    return added


def _merged(document: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(document)
    for key, value in added.items():
        merged[key] = _merged(document[key], value) if key in document else value
    return merged
