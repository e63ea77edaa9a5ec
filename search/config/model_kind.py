"""What a base model is made for, as far as its small files say: its pipeline and the size of its images.

No weights are read and nothing is imported that knows models: a configuration is checked in a blink.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from trainer.models.model_files import DENOISER, DownloadError, fetch

INDEX = "model_index.json"
CONFIGURATIONS = ("unet/config.json", "transformer/config.json", "vae/config.json")
"""Of a denoiser of either kind, and of the autoencoder."""


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
    if is_folder:
        return _of_folder(path)
    try:
        return _of_folder(fetch(model, [INDEX, *CONFIGURATIONS]))
    except (ValueError, DownloadError):  # which is told where the model itself is wanted
        return None


def _of_folder(folder: Path) -> ModelKind:
    pipeline = _json(folder / INDEX).get("_class_name")
    if not isinstance(pipeline, str):
        return UNKNOWN
    *denoisers, autoencoder = (_json(folder / name) for name in CONFIGURATIONS)
    latent = next((each["sample_size"] for each in denoisers if "sample_size" in each), None)
    blocks = autoencoder.get("block_out_channels")
    if not isinstance(latent, int) or latent < 1 or not isinstance(blocks, list) or not blocks:
        return ModelKind(pipeline, None)
    # Each block of the autoencoder but the last halves the sides.
    return ModelKind(pipeline, latent * 2 ** (len(blocks) - 1))


def _of_single_file(path: Path) -> ModelKind:
    """By the names of its weights: a file of SDXL's shape holds the conditioner of two text encoders."""
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
    except (OSError, SafetensorError):
        return UNKNOWN
    if not any(name.startswith(DENOISER) for name in names):
        return UNKNOWN
    larger = any(name.startswith("conditioner.embedders.1.") for name in names)
    return ModelKind("StableDiffusionXLPipeline" if larger else "StableDiffusionPipeline", None)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
