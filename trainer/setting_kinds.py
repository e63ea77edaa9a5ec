"""What a key of a settings file may hold, by the annotations of its section: a model, a dataclass or a mapping."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

Kinds: TypeAlias = tuple[Any, ...]
"""What a place may hold, unions taken apart: types, sections and generic types such as `dict[str, int]`. Empty: not
known."""


def kinds_below(kinds: Kinds, key: str) -> Kinds:
    """What the key of a mapping may hold, where the mapping is one of `kinds`."""
    return tuple(kind for owner in kinds for kind in _kinds_of_key(owner, key))


def kinds_within(kinds: Kinds) -> Kinds:
    """What each element of a list may hold, where the list is one of `kinds`."""
    sequences: tuple[Any, ...] = (tuple, list)
    lists = [owner for owner in kinds if get_origin(owner) in sequences]
    return tuple(kind for owner in lists for kind in _members(get_args(owner)[0]))


def kinds_at(settings: type, place: Iterable[Any]) -> Kinds:
    """What a place of a file may hold: keys, and whole numbers for the elements of lists."""
    kinds: Kinds = (settings,)
    for part in place:
        kinds = kinds_within(kinds) if isinstance(part, int) else kinds_below(kinds, str(part))
    return kinds


def keys_of(kinds: Kinds) -> list[str]:
    """The keys that sections among `kinds` have."""
    return [alias_of(kind, name) for kind in kinds if isinstance(kind, type) for name in _annotations(kind)]


def holds_text(kinds: Kinds) -> bool:
    """Whether text may stand there."""
    return any(isinstance(kind, type) and issubclass(kind, str | PurePath) for kind in kinds)


def holds_only_text(kinds: Kinds) -> bool:
    """Whether text may stand there, and nothing else but nothing."""
    return holds_text(kinds) and all(kind is type(None) or holds_text((kind,)) for kind in kinds)


def holds_numbers(kinds: Kinds) -> bool:
    """Whether a number, or true or false, may stand there."""
    return any(kind in (int, float, bool) for kind in kinds)


def alias_of(section: type, field: str) -> str:
    """The key of a field in the file, which may be a word that Python reserves."""
    fields = section.model_fields if issubclass(section, BaseModel) else {}
    return (fields[field].alias if field in fields else None) or field


def _kinds_of_key(owner: Any, key: str) -> Iterator[Any]:
    if get_origin(owner) in (dict, Mapping):
        yield from _members(get_args(owner)[1])
    elif isinstance(owner, type):
        for field, annotation in _annotations(owner).items():
            if key in (field, alias_of(owner, field)):
                yield from _members(annotation)


@functools.cache
def _annotations(owner: type) -> Mapping[str, Any]:
    """The fields of a section and their annotations; nothing of any other type."""
    if issubclass(owner, BaseModel):
        return {name: field.annotation for name, field in owner.model_fields.items()}
    if dataclasses.is_dataclass(owner):
        hints = get_type_hints(owner, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(owner)}
    return {}


def _members(annotation: Any) -> Iterator[Any]:
    """What a field may hold, unions taken apart."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif get_origin(annotation) is Literal:
        yield from {type(value) for value in get_args(annotation)}
    else:
        yield annotation
