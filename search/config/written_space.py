"""A search space as a file has it, made what it means: each value of the kind that its training setting has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from trainer.config import TrainingConfig
from trainer.settings_file import Section, number_remedy, shortened

_HINTS = get_type_hints(TrainingConfig)
_ADAPTERS: Mapping[str, TypeAdapter[Any]] = {name: TypeAdapter(hint) for name, hint in _HINTS.items()}
_WHOLE = frozenset(name for name, hint in _HINTS.items() if hint in (int, int | None))
_SWITCHES = frozenset(name for name, hint in _HINTS.items() if hint is bool)


def setting_value(name: str, value: Any) -> Any:
    """A value as a training setting takes it: the rank 8 for `8.0` and `"8"`; as it is where it is so already.

    What the setting does not take, true for a number among it, is left to `TrainingConfig`, which says why.

    Raises:
        ValueError: text that is no number, for a setting that is one.
    """
    if name not in _ADAPTERS or (isinstance(value, int) and name not in _SWITCHES):  # among them true and false
        return value
    try:
        return _ADAPTERS[name].validate_python(value)
    except ValidationError as error:
        if isinstance(value, str) and error.errors()[0]["type"] in {"float_parsing", "int_parsing"}:
            raise ValueError(f"{name} is a number, not {shortened(value)}{number_remedy(value)}") from error
        return value


def dimension_values(name: str, dimension: Any) -> Any:
    """A dimension with its values as the training settings take them.

    Args:
        name: of the setting.
        dimension: a mapping, as a file has it; a section that is checked already is left as it is.

    Raises:
        ValueError: it is neither, or a value is no number where one is due, or not whole where a whole one is.
    """
    if isinstance(dimension, Section):
        return dimension
    if not isinstance(dimension, Mapping):
        raise ValueError(
            f"{name} is {shortened(dimension)}; give a range, as {{low: 1, high: 8}}, or values, as "
            "{values: [4, 8]}, or set it under training"
        )
    read = dict(dimension)
    for key in ("low", "high", "step"):
        if key in read and name in _WHOLE:
            read[key] = setting_value(name, read[key])
            if isinstance(read[key], float):
                raise ValueError(f"{name}.{key} is {read[key]!r}; {name} takes whole numbers only")
    if "step" in read and name not in _WHOLE and any(isinstance(read.get(key), float) for key in ("low", "high")):
        raise ValueError(
            f"{name} has a step, but its ends are not both whole; leave the step out, or list the numbers as values"
        )
    if {"low", "high"} <= read.keys() and name in _WHOLE:
        read.setdefault("step", 1)
    if isinstance(read.get("values"), list | tuple):
        read["values"] = [setting_value(name, value) for value in read["values"]]
    if isinstance(read.get("when"), Mapping):
        read["when"] = {other: _condition(other, values) for other, values in read["when"].items()}
    return read


def _condition(other: str, values: Any) -> Any:
    if isinstance(values, list | tuple):
        return [setting_value(other, value) for value in values]
    return setting_value(other, values)
