"""How large everything is that the benchmark measures: as Stable Diffusion 1.5, or as small as a test can bear."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of models and work."""

    unet: Mapping[str, Any]
    """Settings of the UNet that differ from those of the demo's; the same for the other models."""
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    clip_text: Mapping[str, Any]
    clip_vision: Mapping[str, Any]
    tokens: int
    """Length of a caption."""
    photos: int
    """At most so many of the demo's."""
    photo_side: int
    """Of the photos on disk, pixels."""
    resolution: int
    """Of training and of images, pixels."""
    further_resolutions: tuple[int, ...]
    """At which a training step's memory is measured besides."""
    prompts: int
    others: int
    """Prompts of other people."""
    image_steps: int
    image_batches: tuple[int, ...]
    """Images at once, ascending."""
    lora_images: int
    """Images at once where adapters are compared."""
    train_batches: tuple[int, ...]
    """Photos a step whose memory is measured, ascending."""
    window: int
    """Optimizer steps that are timed together."""
    windows: int
    """Whose median is taken."""
    long: int
    """Optimizer steps of a training whose losses are compared, at least 4."""
    resumed: int
    """Optimizer steps before a state is saved, and as many after."""
    jobs: int
    """One after the other in a process."""
    processes: int
    """At most so many share the device."""
    shared_seconds: float
    """For which they are watched."""
    fraction: float
    """Of the time limits of the measurements."""


FULL = Sizes(
    unet={
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "sample_size": 64,
    },
    vae={
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "mid_block_add_attention": True,
        "norm_num_groups": 32,
        "sample_size": 512,
        "scaling_factor": 0.18215,
    },
    text_encoder={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
    },
    clip_text={"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8},
    clip_vision={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 224,
        "patch_size": 32,
    },
    tokens=77,
    photos=60,
    photo_side=1536,
    resolution=512,
    further_resolutions=(768, 1024),
    prompts=12,
    others=6,
    image_steps=20,
    image_batches=(1, 2, 4, 8, 16, 32),
    lora_images=8,
    train_batches=(1, 2, 4, 8, 16),
    window=10,
    windows=5,
    long=50,
    resumed=10,
    jobs=20,
    processes=4,
    shared_seconds=4.0,
    fraction=1.0,
)
"""Stable Diffusion 1.5 with CLIP ViT-B/32 as the judge."""

QUICK = Sizes(
    unet={
        "block_out_channels": (32, 32),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 2,
        "cross_attention_dim": 32,
    },
    vae={
        "block_out_channels": (8, 8),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
    },
    text_encoder={"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "projection_dim": 32},
    clip_text={"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2},
    clip_vision={"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2},
    tokens=24,
    photos=6,
    photo_side=64,
    resolution=32,
    further_resolutions=(64,),
    prompts=2,
    others=1,
    image_steps=2,
    image_batches=(1, 2),
    lora_images=2,
    train_batches=(1, 2),
    window=1,
    windows=1,
    long=4,
    resumed=1,
    jobs=2,
    processes=1,
    shared_seconds=0.2,
    fraction=10.0,
)
"""That every measurement runs, not how fast."""
