"""What a base model is made for, as far as its small files say: its pipeline and the size of its images.

No weights are read and nothing is imported that knows models: a configuration is checked in a blink.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "model_index.json"
Read = Callable[[str], dict[str, Any]]
"""The content of one of a model's JSON files by its path in the model's folder; empty if it has none."""


@dataclass(frozen=True)
class ModelKind:
    """A base model by what its folder says of it."""

    pipeline: str
    """Class of its diffusers pipeline, such as `StableDiffusionPipeline`."""
    side: int | None
    """Side in pixels of the square images that it was trained for; None: its files do not say."""


UNKNOWN = ModelKind("", None)
"""Of a folder or file that does not say what it is."""


def kind_of(model: str, folder: Path) -> ModelKind | None:
    """The kind of a model as a configuration file in `folder` names it; None if it is not at hand to ask.

    A hub name is asked for its small JSON files: in the hub's local cache, or on the hub where that is allowed.
    """
    try:
        path = (folder / Path(model).expanduser()).resolve()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, ValueError, RuntimeError):  # no path that the system takes, which is refused elsewhere
        return None
    if is_file:
        return _of_single_file(path)
    read = _reader_of_folder(path) if is_folder else _reader_of_hub(model)
    pipeline = read(INDEX).get("_class_name")
    if not isinstance(pipeline, str):
        return UNKNOWN if is_folder else None
    denoiser = read("unet/config.json") or read("transformer/config.json")
    latent, blocks = denoiser.get("sample_size"), read("vae/config.json").get("block_out_channels")
    if not isinstance(latent, int) or latent < 1 or not isinstance(blocks, list) or not blocks:
        return ModelKind(pipeline, None)
    # Each block of the autoencoder but the last halves the sides.
    return ModelKind(pipeline, latent * 2 ** (len(blocks) - 1))


def _reader_of_folder(folder: Path) -> Read:
    return lambda name: _json(folder / name)


def _reader_of_hub(model: str) -> Read:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    def read(name: str) -> dict[str, Any]:
        try:
            return _json(Path(hf_hub_download(model, name)))
        except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError):
            return {}

    return read


def _of_single_file(path: Path) -> ModelKind:
    """By the names of its weights: a file of SDXL's shape holds the conditioner of two text encoders."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            names = json.loads(file.read(size)) if size < path.stat().st_size else {}
    except (OSError, ValueError):
        return UNKNOWN
    if not any(name.startswith("model.diffusion_model.") for name in names):
        return UNKNOWN
    larger = any(name.startswith("conditioner.embedders.1.") for name in names)
    return ModelKind("StableDiffusionXLPipeline" if larger else "StableDiffusionPipeline", None)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
