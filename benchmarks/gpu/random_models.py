"""Models with random weights, photos and prompts of a given size, written to a folder as a search finds its own.

Weights are drawn so that every layer keeps the size of what goes through it (deviation 1 / sqrt(inputs)), and the
UNet's answer has unit variance as noise has: images are noise, but finite in every number format.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from PIL import Image
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from benchmarks.gpu.sizes import Sizes
from evaluation.config import FaceConfig, GenerationConfig, LimitsConfig, ObjectiveConfig, PromptSet
from search.config.prompts import read_prompts
from search.workers.setup import RunnerSetup
from trainer.data.photos import load_photos, split_photos

DEMO = Path(__file__).parents[2] / "demo"
TRIGGER = "sks"
ANSWER_GAIN = 1.7
"""Of the UNet's last layer: before it lies SiLU, which leaves a deviation of 0.6 of one of 1."""


def write_kit(folder: Path, sizes: Sizes, device: torch.device) -> RunnerSetup:
    """Everything that a job runner loads.

    Args:
        folder: Gets base model, CLIP, photos and, later, the data cache.
        sizes: Of everything.
        device: Draws the weights, in float32 as the hub's files are.
    """
    _write_base_model(folder / "base", sizes, device)
    _write_clip(folder / "clip", sizes, device)
    _write_photos(folder / "photos", sizes)
    prompts = read_prompts(DEMO / "prompts" / "validation.txt")[: sizes.prompts]
    others = read_prompts(DEMO / "prompts" / "others.txt")[: sizes.others]
    return RunnerSetup(
        model=str(folder / "base"),
        clip=str(folder / "clip"),
        split=split_photos(load_photos(folder / "photos", TRIGGER), 0.3, 0),
        trigger=TRIGGER,
        resolution=sizes.resolution,
        cache=folder / "cache",
        faces=FaceConfig(recognizer="Dlib", detector="dlib"),
        generation=GenerationConfig(
            steps=sizes.image_steps, resolution=sizes.resolution, batch_size=sizes.image_batches[-1]
        ),
        objective=ObjectiveConfig(),
        limits=LimitsConfig(),
        prompt_sets={"validation": PromptSet(prompts=prompts, seeds=(1, 2))},
        other_sets={"validation": PromptSet(prompts=others, seeds=(1,))},
        threads=1,
        hw10=False,
    )


def _write_base_model(folder: Path, sizes: Sizes, device: torch.device) -> None:
    source = DEMO / "base"
    folder.mkdir(parents=True)
    shutil.copy(source / "model_index.json", folder)
    shutil.copytree(source / "scheduler", folder / "scheduler")
    _copy_tokenizer(source / "tokenizer", folder / "tokenizer", sizes.tokens)
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config({**_settings(source / "unet"), **sizes.unet})
        vae = AutoencoderKL.from_config({**_settings(source / "vae"), **sizes.vae})
        described = {**_settings(source / "text_encoder"), **sizes.text_encoder}
        text_encoder = CLIPTextModel(CLIPTextConfig(**{**described, "max_position_embeddings": sizes.tokens}))
    for module, name in ((unet, "unet"), (vae, "vae"), (text_encoder, "text_encoder")):
        drawn = _drawn(module, device)
        if drawn is unet:
            unet.conv_out.weight.data *= ANSWER_GAIN
        drawn.save_pretrained(folder / name)


def _write_clip(folder: Path, sizes: Sizes, device: torch.device) -> None:
    source = DEMO / "clip"
    described = _settings(source)
    side = dict(sizes.clip_vision).get("image_size", described["vision_config"]["image_size"])
    text = {**described["text_config"], **sizes.clip_text, "max_position_embeddings": sizes.tokens}
    vision = {**described["vision_config"], **sizes.clip_vision}
    with torch.device("meta"):
        clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=described["projection_dim"]))
    _copy_tokenizer(source, folder, sizes.tokens)
    _drawn(clip, device).save_pretrained(folder)
    processor = json.loads((source / "preprocessor_config.json").read_text("utf-8"))
    processor |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), "utf-8")


def _write_photos(folder: Path, sizes: Sizes) -> None:
    """The demo's, enlarged."""
    folder.mkdir()
    for photo in sorted((DEMO / "photos").glob("*.png"))[: sizes.photos]:
        with Image.open(photo) as picture:
            enlarged = picture.convert("RGB").resize((sizes.photo_side,) * 2, Image.Resampling.BICUBIC)
        enlarged.save(folder / f"{photo.stem}.jpg", quality=95)
        shutil.copy(photo.with_suffix(".txt"), folder)


def _copy_tokenizer(source: Path, target: Path, tokens: int) -> None:
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source / "tokenizer.json", target)
    settings = json.loads((source / "tokenizer_config.json").read_text("utf-8"))
    settings |= {"model_max_length": tokens, "max_length": tokens}
    (target / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


def _settings(folder: Path) -> Mapping[str, Any]:
    settings: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))
    return settings


@torch.no_grad()
def _drawn(module: Any, device: torch.device) -> Any:
    """The module, which has no memory yet, on `device` with random weights."""
    module.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for layer in module.modules():
        for name, weight in layer.named_parameters(recurse=False):
            if weight.ndim < 2:
                weight.fill_(1.0 if name == "weight" else 0.0)
            else:
                inputs = weight.shape[1] if isinstance(layer, nn.Embedding) else weight[0].numel()
                weight.normal_(std=1 / math.sqrt(inputs), generator=generator)
    return module
