"""`python -m search.config`: every key of a configuration file, as Markdown from the fields and their docstrings.

`docs/configuration.md` is what it prints; a test keeps it current.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, get_args

import typer
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from search.config.search_config import FIXED, SearchConfig
from search.config.space import AnyDimension, Value
from trainer.run_config import RunConfig
from trainer.setting_kinds import alias_of
from trainer.yaml_text import dump_yaml

Schema: TypeAlias = Mapping[str, Any]
"""JSON schema of a section or of a key."""

REQUIRED = "must be given"

WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "path": "path"}
"""By JSON schema's type or format."""

BOUNDS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    **dict.fromkeys(("minLength", "minItems", "minProperties"), "length at least"),
}

INTRODUCTION = """\
# Configuration

Every key of the two configuration files, both YAML: one for `python -m search.run`, one for `python -m trainer.run`.
Paths are relative to the file's own folder. A key that does not exist is refused with the nearest one that does, and
everything that is wrong with a file is reported together. `--set key=value` replaces one setting of a search, the key
with dots: `--set evaluation.every=50`.

YAML is read by the rules of version 1.2, in UTF-8. Text needs no quotes where text is due, `name: 007` among it. A
switch or a time (`true`, `1:30`) where a number is due, a number that begins with zeros, and a key that is given twice
are refused. In the value of `--set`, `#` begins no comment.

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


class DocumentedSchema(GenerateJsonSchema):
    """JSON schema in which every key is described by the text under its field."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        return _described(super().model_schema(schema), schema["cls"])

    def dataclass_schema(self, schema: Any) -> dict[str, Any]:
        return _described(super().dataclass_schema(schema), schema["cls"])


def _described(schema: dict[str, Any], section: type) -> dict[str, Any]:
    """With the text under each field as one line; a subclass' own counts before its base's."""
    for owner in reversed(section.__mro__):
        if owner in (object, BaseModel):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner))).body[0]
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                continue
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                key = alias_of(section, field.target.id)
                schema["properties"][key]["description"] = " ".join(str(below.value.value).split())
    return schema


def schema_of(kind: type[Any]) -> Schema:
    """The JSON schema of a pydantic model or a dataclass, whose keys hold as `section` what they refer to."""
    schema = TypeAdapter(kind).json_schema(schema_generator=DocumentedSchema)
    known = schema.get("$defs", {})
    for owner in (schema, *(each for each in known.values() if "properties" in each)):
        for value in owner["properties"].values():
            held = value.get("additionalProperties")
            for each in (value, *value.get("anyOf", ()), *([held] if isinstance(held, dict) else ())):
                referred = known.get(each.get("$ref", "").rpartition("/")[2], {})
                if "enum" in referred:
                    each.pop("$ref")
                    each["enum"] = referred["enum"]
                elif referred:
                    value["section"] = referred
                    value.setdefault("description", _summary(referred).split("\n\n")[0])
    return schema


def sections(owner: Schema, place: str = "") -> Iterator[tuple[str, Schema]]:
    """The sections within one, each behind the one that holds it, by dotted names."""
    for key, value in owner["properties"].items():
        if (section := value.get("section")) is not None:
            yield f"{place}{key}", section
            yield from sections(section, f"{place}{key}.")


def reference() -> str:
    """The whole page."""
    search, run = schema_of(SearchConfig), schema_of(RunConfig)
    places: dict[str, str] = {}
    chapters = []
    for place, section in sections(search):
        if places.setdefault(section["title"], place) == place:
            chapters.append((place, section))
    photos = run["properties"]["photos"]["section"]
    places[photos["title"]] = "photos of a training run"
    parts = [INTRODUCTION, "## A search", _table(search, places)]
    for place, section in chapters:
        parts += [f"### {place}", _summary(section), _table(section, places)]
    forms = (search["$defs"][kind.__name__] for kind in get_args(AnyDimension))
    parts += ["### space", SPACE, "\n".join(map(_form, forms))]
    parts += ["A space may not name", "\n".join(f"- `{name}`: {reason}" for name, reason in FIXED.items())]
    parts += ["## One training run", TRAINER, _table(run, places)]
    parts += [f"### {places[photos['title']]}", _summary(photos), _table(photos, places)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _summary(section: Schema) -> str:
    """A section's docstring up to what it says of errors."""
    return str(section.get("description", "")).split("\n\nRaises:")[0]


def _table(section: Schema, places: Mapping[str, str]) -> str:
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    for key, value in section["properties"].items():
        inner = value.get("section")
        values = _words(value)
        if inner is not None:
            values = values.replace("section", f"[section](#{_anchor(places[inner['title']])})")
        cells = (f"`{key}`", values, _default(section, key), value["description"])
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _form(form: Schema) -> str:
    """A form of a dimension: its keys and what they mean."""
    defaults = {key: _default(form, key) for key in form["properties"] if key != "when"}
    named = [f"`{key}`" + (f" (default {text})" if text != REQUIRED else "") for key, text in defaults.items()]
    return f"- {', '.join(named)}: {' '.join(_summary(form).split())}"


def _words(value: Schema) -> str:
    """What a key may hold, in words."""
    kinds = [kind for kind in value.get("anyOf", [value]) if kind.get("type") != "null"]
    return "value" if len(kinds) == len(get_args(Value)) else " or ".join(map(_word, kinds))


def _word(kind: Schema) -> str:
    if "$ref" in kind:
        words = "section"
    elif "enum" in kind:
        words = ", ".join(f"`{choice}`" for choice in kind["enum"])
    elif kind["type"] == "array":
        words = f"list of: {_words(kind['items'])}"
    elif kind["type"] == "object":
        held = kind["additionalProperties"]
        words = "mapping" if "oneOf" in held else f"mapping to: {_words(held)}"
    else:
        words = WORDS[kind.get("format", kind["type"])]
    return ", ".join((words, *(f"{text} {kind[name]}" for name, text in BOUNDS.items() if name in kind)))


def _default(section: Schema, key: str) -> str:
    if key in section.get("required", ()):
        return REQUIRED
    default = section["properties"][key].get("default", {})
    if default is None:
        return "none"
    if "section" in section["properties"][key] and not isinstance(default, str):
        return ""
    shown = dump_yaml(default, default_flow_style=True, width=1000)
    return f"`{shown.strip().removesuffix('...').strip()}`"


def main() -> None:
    """Print every key of the configuration files as Markdown."""
    typer.echo(reference(), nl=False)


if __name__ == "__main__":
    typer.run(main)
