"""What a search was begun with, beside its configuration: the contents of the files that this names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from search.config import SearchConfig
from trainer.files import write_file
from trainer.photos import CaptionedPhoto, PhotoSplit

INPUTS_FILE = "inputs.json"


def inputs_of(config: SearchConfig, split: PhotoSplit, class_photos: Sequence[CaptionedPhoto] = ()) -> dict[str, str]:
    """SHA-256 sums by name: of every photo with its caption and side of the split, of class images, of the prompts.

    Of models that lie in a folder the files' names and sizes; their weights take too long to read.
    """
    found = {}
    for side, photos in (("training", split.training), ("reference", split.reference)):
        for photo in photos:
            found[f"photo {photo.path.name}"] = _sum(f"{side} {photo.sha256} {photo.crop} {photo.caption}".encode())
    for photo in class_photos:
        found[f"class image {photo.path.name}"] = _sum(f"{photo.sha256} {photo.caption}".encode())
    prompts = {
        "evaluation.prompts": config.evaluation.prompts,
        "evaluation.others.prompts": config.evaluation.others.prompts,
        "final.prompts": config.final.prompts,
    }
    found |= {f"file {name}": _sum(path.read_bytes()) for name, path in prompts.items() if path is not None}
    for name, model in (("model", config.model), ("evaluation.clip", config.evaluation.clip)):
        files = sorted(path for path in Path(model).rglob("*") if path.is_file()) if Path(model).is_dir() else []
        if files:
            sizes = [f"{path.relative_to(model)} {path.stat().st_size}" for path in files]
            found[f"folder {name}"] = _sum("\n".join(sizes).encode())
    return found


def changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs, in words; nothing if it was not written down before."""
    if not before:
        return []
    told = {(True, False): "is gone", (False, True): "is new", (True, True): "has changed"}
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return [f"{name} {told[name in before, name in now]}" for name in names]


def write_inputs(folder: Path, inputs: Mapping[str, str]) -> None:
    """Write them into a run folder."""
    text = json.dumps(inputs, indent=1)
    write_file(folder / INPUTS_FILE, lambda path: path.write_text(text, "utf-8"))


def read_inputs(folder: Path) -> dict[str, str]:
    """Those of a run folder; empty if they were not written down."""
    try:
        values = json.loads((folder / INPUTS_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in values.items()} if isinstance(values, dict) else {}


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
