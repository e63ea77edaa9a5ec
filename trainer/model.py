"""The frozen base model: one Stable Diffusion pipeline's parts, loaded once and shared by every job of a process."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import snapshot_download
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging


@dataclass(frozen=True, eq=False)
class BaseModel:
    """The parts of a Stable Diffusion 1.x/2.x pipeline, frozen and in evaluation mode.

    The parts are live and shared: an attached adapter changes what `unet` and `text_encoder` compute until it is
    detached.
    """

    name: str
    """Folder or hub name it was loaded from."""
    folder: Path
    """Local folder of the files."""
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    unet: UNet2DConditionModel
    scheduler: ConfigMixin
    """The pipeline's sampler; its config holds the noise schedule and the prediction type."""
    device: torch.device
    dtype: torch.dtype
    """Of all weights: float32 on a CPU, bfloat16 on CUDA (float16 where that is missing)."""

    def pipeline(self) -> StableDiffusionPipeline:
        """A pipeline over these very modules (nothing is copied) with a sampler of its own."""
        return StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=type(self.scheduler).from_config(self.scheduler.config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    @cached_property
    def sha256(self) -> str:
        """Over the names and contents of the weight, config and tokenizer files; the same on every device."""
        digest = hashlib.sha256()
        for part in ("scheduler", "text_encoder", "tokenizer", "unet", "vae"):
            for path in sorted((self.folder / part).iterdir()):
                if path.suffix in (".safetensors", ".json", ".txt"):
                    with path.open("rb") as file:
                        content = hashlib.file_digest(file, "sha256").hexdigest()
                    digest.update(f"{part}/{path.name} {content}\n".encode())
        return digest.hexdigest()


def load_base_model(name_or_path: str | Path, *, device: torch.device | str) -> BaseModel:
    """Loads a Stable Diffusion pipeline's parts from a folder or the hub (offline if HF_HUB_OFFLINE is set).

    Raises:
        ValueError: there is no such model, it is not a Stable Diffusion 1.x/2.x pipeline, or lacks safetensors weights.
    """
    device = torch.device(device)
    folder = _resolve_folder(str(name_or_path))
    _check_pipeline_kind(folder, name_or_path)
    dtype = choose_dtype(device)
    try:
        with quiet_loading():
            pipeline = StableDiffusionPipeline.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                safety_checker=None,
                feature_extractor=None,
                image_encoder=None,
                requires_safety_checker=False,
                local_files_only=True,
            )
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{name_or_path} does not load as a Stable Diffusion 1.x/2.x pipeline with safetensors weights ({error}); "
            "name a folder or hub model in the diffusers layout"
        ) from error
    for module in (pipeline.text_encoder, pipeline.vae, pipeline.unet):
        module.requires_grad_(False).eval().to(device)
    return BaseModel(
        name=str(name_or_path),
        folder=folder,
        tokenizer=pipeline.tokenizer,
        text_encoder=pipeline.text_encoder,
        vae=pipeline.vae,
        unet=pipeline.unet,
        scheduler=pipeline.scheduler,
        device=device,
        dtype=dtype,
    )


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


def _check_pipeline_kind(folder: Path, name: str | Path) -> None:
    index = folder / "model_index.json"
    try:
        kind = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"base model {name} has no readable model_index.json ({error!r}); name a folder or hub model in the "
            "diffusers layout"
        ) from error
    if kind != "StableDiffusionPipeline":
        raise ValueError(f"base model {name} is a {kind}; only Stable Diffusion 1.x/2.x pipelines can be fine-tuned")


def _resolve_folder(name_or_path: str) -> Path:
    if Path(name_or_path).is_dir():
        return Path(name_or_path)
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "true", "yes")
    patterns = ["*.json", "*.txt", "scheduler/*", "tokenizer/*"]
    patterns += [f"{part}/*.{suffix}" for part in ("text_encoder", "unet", "vae") for suffix in ("json", "safetensors")]
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
