"""Base models, loaded once and shared by every job of a process."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from torch import nn
from transformers.utils import logging as transformers_logging

from trainer.linear_layers import quicken_linear_layers
from trainer.model_family import BaseModel as BaseModel
from trainer.pickled import check_has_safetensors, check_not_pickled
from trainer.stable_diffusion import StableDiffusion
from trainer.stable_diffusion_xl import StableDiffusionXL

FAMILIES: dict[str, type[BaseModel]] = {
    family.pipeline_class.__name__: family for family in (StableDiffusion, StableDiffusionXL)
}
"""By the pipeline class that model_index.json names."""
NOT_USED: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
        "requires_safety_checker": False,
    },
    "StableDiffusionXLPipeline": {"feature_extractor": None, "image_encoder": None, "add_watermarker": False},
}
"""Parts of each pipeline that neither training nor scoring needs."""


def load_base_model(name_or_path: str | Path, *, device: torch.device | str) -> BaseModel:
    """Loads a pipeline's parts from a folder or the hub (offline if HF_HUB_OFFLINE is set).

    Raises:
        ValueError: there is no such model, its family is not known here, or it lacks safetensors weights; pickled
            ones are named and not opened.
    """
    device = torch.device(device)
    folder = _resolve_folder(str(name_or_path))
    kind = _pipeline_kind(folder, name_or_path)
    family = FAMILIES[kind]
    for part in family.files:
        check_has_safetensors(folder / part)
    dtype = choose_dtype(device)
    try:
        with quiet_loading():
            pipeline = family.pipeline_class.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, **NOT_USED[kind]
            )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{name_or_path} does not load as a {family.title} pipeline with safetensors weights ({error}); "
            "name a folder or hub model in the diffusers layout"
        ) from error
    return take_apart(pipeline, name=str(name_or_path), folder=folder, device=device, dtype=dtype)


def take_apart(pipeline: Any, *, name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> BaseModel:
    """The base model over a pipeline's parts: frozen, in evaluation mode, on `device`.

    Convolution weights lie channels last, in which convolutions need no reordering: on a CPU images are made 1.07 times
    as fast and training steps 1.0 to 1.08 times. Linear layers are those of `trainer.linear_layers`.
    """
    family = FAMILIES[type(pipeline).__name__]
    own = {field.name for field in fields(family)} - {"name", "folder", "device", "dtype"}
    modules = pipeline.components
    parts = {part: modules[part] if part in modules else pipeline.config[part] for part in own}
    for module in parts.values():
        if isinstance(module, nn.Module):
            module.requires_grad_(False).eval().to(device)
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
            quicken_linear_layers(module)
    return family(name=name, folder=folder, device=device, dtype=dtype, **parts)


def choose_device() -> torch.device:
    """The current CUDA device if there is one, otherwise the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def choose_dtype(device: torch.device) -> torch.dtype:
    """Number format of the frozen weights on `device`."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def set_threads(count: int) -> None:
    """Sets the CPU threads of torch operators in this process; one a job and one job a core gives the most steps."""
    if count < 1:
        raise ValueError(f"threads is {count}; it must be at least 1")
    torch.set_num_threads(count)


def _pipeline_kind(folder: Path, name: str | Path) -> str:
    index = folder / "model_index.json"
    try:
        kind = str(json.loads(index.read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"base model {name} has no readable model_index.json ({error!r}); name a folder or hub model in the "
            "diffusers layout"
        ) from error
    if kind not in FAMILIES:
        known = " and ".join(family.title for family in FAMILIES.values())
        raise ValueError(f"base model {name} is a {kind}; only {known} pipelines can be fine-tuned")
    return kind


def _resolve_folder(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.is_dir():
        return path
    check_not_pickled(path)
    if path.suffix == ".safetensors":
        raise ValueError(
            f"base model {path} is a single file; convert it once with diffusers' from_single_file(...) and "
            "save_pretrained(FOLDER), and name the folder"
        )
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "true", "yes")
    patterns = ["*.json", "*.txt", "scheduler/*", "tokenizer/*", "tokenizer_2/*"]
    modules = ("text_encoder", "text_encoder_2", "unet", "vae")
    patterns += [f"{part}/*.{suffix}" for part in modules for suffix in ("json", "safetensors")]
    try:
        return Path(
            snapshot_download(
                name_or_path,
                local_files_only=offline,
                allow_patterns=patterns,
                ignore_patterns=["*.fp16.*", "*.non_ema.*"],
            )
        )
    except (OSError, ValueError) as error:
        where = "in the hub's local cache (HF_HUB_OFFLINE is set)" if offline else "on the hub"
        raise ValueError(f"base model {name_or_path!r} is neither a folder nor {where}: {error}") from error


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Hides the loading bars of diffusers and transformers, which would mix with the search's own output."""
    libraries = (diffusers_logging, transformers_logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, was_shown in zip(libraries, shown, strict=True):
            if was_shown:
                library.enable_progress_bar()
