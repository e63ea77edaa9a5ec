"""`python -m search.config`: every key of a configuration file, as Markdown from the fields and their docstrings.

`docs/configuration.md` is what it prints; a test keeps it current.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from search.config.search_config import FIXED, SearchConfig
from search.config.space import AnyDimension, Value
from trainer.run_config import RunConfig

REQUIRED = "must be given"

Section: TypeAlias = type[Any]
"""A pydantic model or a dataclass: what a mapping of the file is checked by."""

WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", Path: "path"}

BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "length at least"}

INTRODUCTION = """\
# Configuration

Every key of the two configuration files, both YAML: one for `python -m search.run`, one for `python -m trainer.run`.
Paths are relative to the file's own folder. A key that does not exist is refused with the nearest one that does, and
everything that is wrong with a file is reported together. `--set key=value` replaces one setting of a search, the key
with dots: `--set evaluation.every=50`.

This page is what `python -m search.config` prints from the code; do not edit it.
"""

SPACE = """\
Which training settings vary, each by one of these forms. A `when` holds the settings, choices of the space, and the
value or values at which this one is drawn, as `{loss: huber}`; elsewhere the value under `training` holds.
"""

TRAINER = """\
The file of `python -m trainer.run` ([Training](training.md)). Its `training` is [that of a search](#training), but for
`face_loss_weight`, which needs a search.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a section."""

    name: str
    values: str
    """What it may hold, in words."""
    default: str
    meaning: str
    section: Section | None
    """What checks its value where that is a section, too."""


def reference() -> str:
    """The whole page."""
    places: dict[Section, str] = {}
    for name, section in sections(SearchConfig):
        places.setdefault(section, name)
    parts = [INTRODUCTION, "## A search", _table(SearchConfig, places)]
    for section, name in places.items():
        parts += [f"### {name}", _summary(section), _table(section, places)]
    parts += ["### space", SPACE, "\n".join(map(_form, get_args(AnyDimension)))]
    parts += ["A space may not name", "\n".join(f"- `{name}`: {reason}" for name, reason in FIXED.items())]
    photos = dict(sections(RunConfig))["photos"]
    places[photos] = "photos of a training run"
    parts += ["## One training run", TRAINER, _table(RunConfig, places)]
    parts += [f"### {places[photos]}", _summary(photos), _table(photos, places)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def sections(owner: Section, place: str = "") -> Iterator[tuple[str, Section]]:
    """The sections within one, each behind the one that holds it, by dotted names."""
    for key in keys(owner):
        if key.section is not None:
            yield f"{place}{key.name}", key.section
            yield from sections(key.section, f"{place}{key.name}.")


def keys(section: Section) -> tuple[Key, ...]:
    """The keys of a section, in the order of the code."""
    docstrings = _docstrings(section)
    made = []
    for name, annotation, limits, default in _fields(section):
        inner = next((kind for kind in _members(annotation) if _is_section(kind)), None)
        made.append(
            Key(
                name=name,
                values=_words(annotation, limits),
                default=_default(default),
                meaning=docstrings.get(name) or (_summary(inner).split("\n\n")[0] if inner else ""),
                section=inner,
            )
        )
    return tuple(made)


def _fields(section: Section) -> Iterator[tuple[str, Any, list[Any], Any]]:
    """Name, annotation, limits and default of each field; the default of a key that must be given is undefined."""
    if issubclass(section, BaseModel):
        for name, field in section.model_fields.items():
            yield name, field.annotation, field.metadata, field.get_default(call_default_factory=True)
        return
    hints = get_type_hints(section, include_extras=True)
    for each in dataclasses.fields(section):
        made = each.default_factory() if each.default_factory is not dataclasses.MISSING else each.default
        yield each.name, hints[each.name], [], PydanticUndefined if made is dataclasses.MISSING else made


def _docstrings(section: Section) -> dict[str, str]:
    """The text under each field, as one line; a subclass' own counts before its base's."""
    found: dict[str, str] = {}
    for owner in section.__mro__:
        if not _is_section(owner) or owner is BaseModel:
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found.setdefault(field.target.id, " ".join(str(below.value.value).split()))
    return found


def _words(annotation: Any, limits: list[Any]) -> str:
    members = [member for member in _members(annotation) if member is not types.NoneType]
    if set(members) == set(get_args(Value)):
        return ", ".join(("value", *_limits(limits)))
    words = " or ".join(dict.fromkeys(map(_word, members)))
    return ", ".join((words, *_limits(limits)))


def _word(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [limit for each in arguments[1:] if isinstance(each, FieldInfo) for limit in each.metadata]
        return _words(arguments[0], inner)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is tuple:
        return f"list of: {_words(arguments[0], [])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        held = _words(arguments[1], [])
        return "mapping" if "section" in held else f"mapping to: {held}"
    return WORDS.get(annotation, "section")


def _limits(limits: list[Any]) -> Iterator[str]:
    for limit in limits:
        for name, words in BOUNDS.items():
            if (bound := getattr(limit, name, None)) is not None:
                yield f"{words} {bound}"


def _members(annotation: Any) -> Iterator[Any]:
    """What a field may hold, unions taken apart."""
    if get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    elif get_origin(annotation) is Annotated and get_origin(get_args(annotation)[0]) in (Union, types.UnionType):
        yield from _members(get_args(annotation)[0])
    else:
        yield annotation


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind))


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return REQUIRED
    if _is_section(type(value)):
        return ""
    if value is None:
        return "none"
    plain = list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
    shown = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=1000)
    return f"`{shown.strip().removesuffix('...').strip()}`"


def _summary(section: Section) -> str:
    """A class' docstring up to what it says of errors."""
    return inspect.cleandoc(section.__doc__ or "").split("\n\nRaises:")[0]


def _form(form: Section) -> str:
    """A form of a dimension: its keys and what they mean."""
    named = [
        f"`{key.name}`" + (f" (default {key.default})" if key.default != REQUIRED else "")
        for key in keys(form)
        if key.name != "when"
    ]
    return f"- {', '.join(named)}: {' '.join(_summary(form).split())}"


def _table(section: Section, places: Mapping[Section, str]) -> str:
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for key in keys(section):
        values = key.values
        if key.section is not None:
            values = values.replace("section", f"[section](#{_anchor(places[key.section])})")
        cells = (f"`{key.name}`", values, key.default, key.meaning)
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def main() -> None:
    """Print every key of the configuration files as Markdown."""
    typer.echo(reference(), nl=False)


if __name__ == "__main__":
    typer.run(main)
