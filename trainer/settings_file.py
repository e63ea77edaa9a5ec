"""A YAML file of settings on its way through pydantic: read, explained if wrong, paths resolved. Imports no torch.

Together with `trainer.files` and `trainer.storage` it is the floor that trainer and search share.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from trainer.files import read_text
from trainer.setting_kinds import keys_of, kinds_at
from trainer.yaml_text import Misread, parse_yaml


class ConfigurationError(ValueError):
    """The configuration file cannot be used; the message names the place, the value and the remedy."""


class Section(BaseModel):
    """A section of a configuration file: unknown keys are refused, values do not change once checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _leaves_the_other_file_alone(name: str) -> str:
    if name == "pytorch_lora_weights":
        raise ValueError("this is the name of the file for diffusers; choose another")
    return name


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"), AfterValidator(_leaves_the_other_file_alone)]
"""A name that files and folders may have on every system, and an adapter's file beside the one for diffusers."""


def read_settings(path: Path, settings: type | None = None) -> dict[str, Any]:
    """The mapping that a YAML file holds, unchecked.

    Args:
        path: the file.
        settings: the section that it will be validated as, which says where text is due and where a number. Default:
            what is written decides.

    Raises:
        ConfigurationError: the file cannot be read, is not YAML, would not be read as it is meant or holds something
            else.
    """
    try:
        document = parse_yaml(read_text(path), () if settings is None else (settings,), source=str(path))
    except Misread as error:
        raise ConfigurationError(f"{path} cannot be used: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} must hold a mapping of settings, not {type(document).__name__}")
    return document


@contextmanager
def path_errors() -> Iterator[None]:
    """What the system says of a path, as an error of the configuration: a name that is too long, a folder that may not
    be entered, links in a circle, the home of nobody.

    Raises:
        ConfigurationError: one of these.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"the path {shortened(error.filename)} cannot be used: {error.strerror}") from error
    except RuntimeError as error:  # of pathlib: `~nobody`, and links in a circle
        raise ConfigurationError(f"a path cannot be used: {error}") from error


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
            known = keys_of(kinds_at(settings, place[:-1]))
            lines.append(f"  {name}: {_unknown_key(str(place[-1]), known)}")
        elif problem["type"] == "missing":
            lines.append(f"  {name}: this key is missing")
        else:
            value = problem.get("input")
            shown = f" (found {shortened(value)})" if not isinstance(value, dict | list) and place else ""
            remedy = _remedy(problem["type"], value)
            lines.append(f"  {name or 'file'}: {problem['msg'].removeprefix('Value error, ')}{shown}{remedy}")
    return lines


def number_remedy(text: str) -> str:
    """The end of a message on text that stands where a number is due: what to write instead."""
    if found := re.fullmatch(r"(\d+):(\d\d)(?::\d\d)?", text.strip()):
        minutes = int(found[1]) * 60 + int(found[2])
        return f"; give minutes as a number, such as {minutes}, or hours, such as {minutes / 60:g}"
    if re.fullmatch(r"[-+]?[\d.]*,[\d.,]*(?:[eE][-+]?\d+)?", text.strip()):
        return "; write a number with a decimal point and no commas, as 0.0001 or 1000"
    if found := re.fullmatch(r"([\d.]+) ?%", text.strip()):
        return "; write a share as a number: 50% is 0.5"
    if re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", text.strip()):
        return "; write it without an exponent"
    return "; give a number"


def _unknown_key(key: str, known: Sequence[str]) -> str:
    if key in known:  # of another of the forms that the section may have
        return "this key does not go with the others beside it"
    return f"there is no such key{nearest(key, known)}"


def _remedy(problem: str, value: Any) -> str:
    if problem in {"float_parsing", "int_parsing"} and isinstance(value, str):
        return number_remedy(value)
    if problem in {"string_type", "path_type"}:
        if value is None:
            return "; leave the key out, or put the word in quotes"
        return "; put it in quotes" if isinstance(value, int | float) else "; give text"
    if problem in {"float_type", "int_type"}:
        return "; leave the key out, or give a number" if value is None else "; give a number"
    return "; give true or false" if problem in {"bool_parsing", "bool_type"} else ""


def shortened(value: Any) -> str:
    """A value as a message shows it, 100 characters at most."""
    shown = repr(value)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."


def nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The end of a message on an unknown name: the nearest known one, or all of them."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else f"; known: {', '.join(known)}" if known else ""
