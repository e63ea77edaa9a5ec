"""A YAML file of settings on its way through pydantic: read, explained if wrong, paths resolved. Imports no torch.

Together with `trainer.files` and `trainer.storage` it is the floor that trainer and search share.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError


class ConfigurationError(ValueError):
    """The configuration file cannot be used; the message names the place, the value and the remedy."""


class Section(BaseModel):
    """A section of a configuration file: unknown keys are refused, values do not change once checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
"""A name that files and folders may have on every system."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers: PyYAML reads `1e-4` as text, everybody means a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: it is none.
    """
    return yaml.load(text, _Loader)  # noqa: S506 - _Loader is a SafeLoader


def read_settings(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds, unchecked.

    Raises:
        ConfigurationError: the file cannot be read, is not YAML or holds something else.
    """
    try:
        document = parse_yaml(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} must hold a mapping of settings, not {type(document).__name__}")
    return document


def resolve_folder(value: Path, folder: Path) -> Path:
    """An existing folder that a file in `folder` names.

    Raises:
        ConfigurationError: there is none.
    """
    resolved = (folder / value.expanduser()).resolve()
    if not resolved.is_dir():
        raise ConfigurationError(f"{value} is not a folder (looked for {resolved})")
    return resolved


def resolve_model(value: str, folder: Path, *, needed: str) -> str:
    """A model that a file in `folder` names: an absolute path where it lies on this machine, else the hub's name.

    Args:
        value: a folder or file, or owner/name on the hub.
        folder: of the configuration file.
        needed: the file that makes a folder a model's.

    Raises:
        ConfigurationError: it is neither.
    """
    resolved = (folder / Path(value).expanduser()).resolve()
    if resolved.is_dir():
        if not (resolved / needed).is_file():
            raise ConfigurationError(f"{value!r} holds no {needed}; give a model's folder (looked in {resolved})")
        return str(resolved)
    if resolved.is_file():
        # What it is and what to do about it, the loader knows.
        return str(resolved)
    # owner/name is a hub name, but not where `owner` is a folder at hand: then the path is mistyped.
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", value) is None or resolved.parent.is_dir():
        raise ConfigurationError(f"{value!r} is neither a folder (looked for {resolved}) nor a hub name (owner/name)")
    return value


def explain(error: ValidationError, settings: type[BaseModel], tags: Collection[str] = ()) -> list[str]:
    """One line a problem: the place, what is wrong, and for an unknown key the nearest that exists.

    Args:
        error: of validating a document.
        settings: what it was validated as.
        tags: names that pydantic puts into a place and that are no keys of the file (those of unions).
    """
    lines = []
    for problem in error.errors():
        place = [part for part in problem["loc"] if part not in tags]
        name = ".".join(str(part) for part in place)
        if problem["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
            lines.append(f"  {name}: there is no such key{nearest(str(place[-1]), _keys(settings, place[:-1]))}")
        elif problem["type"] == "missing":
            lines.append(f"  {name}: this key is missing")
        else:
            value = problem.get("input")
            shown = f" (found {value!r})" if not isinstance(value, dict | list) and place else ""
            lines.append(f"  {name or 'file'}: {problem['msg'].removeprefix('Value error, ')}{shown}")
    return lines


def nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The end of a message on an unknown name: the nearest known one, or all of them."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else f"; known: {', '.join(known)}" if known else ""


def _keys(settings: type[BaseModel], place: Iterable[Any]) -> list[str]:
    """The keys that exist at a place of the file."""
    kinds: list[Any] = [settings]
    for part in place:
        kinds = [kind for owner in kinds for kind in _kinds_of_field(owner, str(part))]
    return [name for kind in kinds for name in _field_names(kind)]


def _kinds_of_field(owner: Any, name: str) -> Iterator[Any]:
    if get_origin(owner) is dict:
        yield from _members(get_args(owner)[1])
    elif isinstance(owner, type) and issubclass(owner, BaseModel) and name in owner.model_fields:
        yield from _members(owner.model_fields[name].annotation)


def _members(annotation: Any) -> Iterator[Any]:
    """What a field may hold, unions taken apart."""
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _field_names(kind: Any) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    return [alias_of(kind, name) for name in kind.model_fields]


def alias_of(section: type, field: str) -> str:
    """The key of a field in the file, which may be a word that Python reserves."""
    fields = section.model_fields if issubclass(section, BaseModel) else {}
    return (fields[field].alias if field in fields else None) or field
