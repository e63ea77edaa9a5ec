"""Writing the parts of the kit as one Stable Diffusion pipeline."""

import shutil
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from demo.kit.denoiser import Denoiser, make_scheduler
from demo.kit.training import write_safetensors


def export_base_model(
    vae: AutoencoderKL, scaling: float, denoiser: Denoiser, tokenizer: CLIPTokenizer, folder: Path
) -> None:
    """Writes what `StableDiffusionPipeline.from_pretrained` loads; weights in fp16, each file replaced at once.

    Args:
        vae: the autoencoder in whose latents the denoiser was trained.
        scaling: factor that gives its latents unit variance.
        denoiser: UNet and text encoder.
    """
    vae.register_to_config(scaling_factor=scaling)
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=denoiser.text_encoder,
        tokenizer=tokenizer,
        unet=denoiser.unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".base-") as temporary:
        pipeline.save_pretrained(temporary, safe_serialization=True)
        for file in sorted(Path(temporary).rglob("*")):
            target = folder / file.relative_to(temporary)
            if file.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            elif file.suffix == ".safetensors":
                halves = {
                    name: value.half() if value.is_floating_point() else value
                    for name, value in load_file(file).items()
                }
                write_safetensors(halves, target)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target.with_name(f".{file.name}.tmp"))
                target.with_name(f".{file.name}.tmp").replace(target)


def latent_scaling(means: torch.Tensor, deviations: torch.Tensor) -> float:
    """The factor that gives sampled latents unit variance."""
    variance = means.var() + deviations.square().mean()
    return float(variance.rsqrt())


def pipeline_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
