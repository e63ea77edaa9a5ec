"""What a configuration file may leave open: a file of `name`, `model` and `photos: {folder, class}` is a whole one.

From the strongest: what the file says; the prompts of the package, where it names none; its preset, or `standard` where
it has no space either; what suits the base model's family and size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.config.model_kind import kind_of
from search.config.presets import left_open, merged, preset_of
from trainer.settings_file import read_settings

PROMPT_FILES = Path(__file__).parent / "prompt_files"
"""Prompts of the package, with `{class}` for the class word: `validation.txt`, `final.txt` and `others.txt`."""
FAMILIES = Path(__file__).with_name("family_defaults.yaml")
PROMPT_SETTINGS: Mapping[str, Any] = {
    # 24 prompts: more of them say more of an adapter than more seeds of few.
    "evaluation": {"prompts": str(PROMPT_FILES / "validation.txt"), "seeds": [1]},
    "final": {"prompts": str(PROMPT_FILES / "final.txt")},
}
UNKNOWN = "StableDiffusionPipeline"
"""What a model is taken for that cannot be asked."""
CAPTION = "a photo of {trigger} "


@dataclass(frozen=True)
class Added:
    """Settings that a configuration file leaves open, and where they come from."""

    source: str
    """Such as `preset standard`."""
    settings: Mapping[str, Any]
    """Sections within sections, as in the file; nothing that the file says itself."""


def completed(document: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A configuration file's content with all that it leaves open and that has a default of this kind.

    Args:
        document: Unchecked.
        folder: Of the file.

    Raises:
        ConfigurationError: there is no such preset.
    """
    complete = dict(document)
    for added in what_is_added(document, folder):
        complete = merged(complete, added.settings)
    return complete


def what_is_added(document: Mapping[str, Any], folder: Path) -> Sequence[Added]:
    """The same, source by source, only those that add something.

    Raises:
        ConfigurationError: as `completed`.
    """
    found, complete = [], dict(document)
    for source, settings in _sources(document, folder):
        if added := left_open(settings, complete):
            found.append(Added(source, added))
            complete = merged(complete, added)
    return found


def hint(document: Mapping[str, Any]) -> str:
    """How prompts that a configuration file's content lacks come by themselves; empty if it lacks none, or they do."""
    if _section(document, "photos").get("class") or not _without_prompts(document):
        return ""
    return "photos.class: set it (man, woman, person ...), and prompts that come with the package are used"


def _without_prompts(document: Mapping[str, Any]) -> list[str]:
    return [name for name in PROMPT_SETTINGS if "prompts" not in _section(document, name)]


def _sources(document: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    photos = _section(document, "photos")
    word = photos.get("class")
    for name in _without_prompts(document) if word else ():
        yield f"prompts of the package for a {word}", {name: PROMPT_SETTINGS[name]}
    if word:
        yield f"class {word}", {"photos": {"caption_template": f"{CAPTION}{word}"}}
    if document.get("preset") is not None:
        yield f"preset {document['preset']}", preset_of(document)
    elif "space" not in document:
        yield "preset standard", {"preset": "standard", **preset_of({**document, "preset": "standard"})}
    yield from _of_family(document, folder)


def _of_family(document: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    model = document.get("model")
    if not isinstance(model, str) or not model:
        return
    kind, families = kind_of(model, folder), read_settings(FAMILIES)
    # Nothing can be asked of a hub model that is not at hand; whether it can be had at all is another question.
    pipeline = UNKNOWN if kind is None else kind.pipeline
    if pipeline not in families:
        return
    settings = families[pipeline]
    side = settings.pop("side") if kind is None or kind.side is None else kind.side
    settings.pop("side", None)
    settings["training"]["resolution"] = side
    settings["evaluation"]["generation"]["resolution"] = side
    if _section(document, "evaluation").get("protocol") == "hw10":
        # The homework's own settings are the default there.
        del settings["evaluation"]
    unknown = f", for {model} is not at hand to ask" if kind is None else ""
    yield f"{pipeline} of {side} pixels{unknown}", settings


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = document.get(name)
    return section if isinstance(section, Mapping) else {}
