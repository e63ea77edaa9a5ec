"""Pipelines of the families' shapes with random weights, small enough for tests."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from .conftest import DEMO_BASE


def text_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=3,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=20,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def write_stable_diffusion_xl(path: Path) -> Path:
    """A pipeline of SDXL's shape with random weights, as diffusers saves it."""
    tokenizer = CLIPTokenizer.from_pretrained(DEMO_BASE / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline: Any = StableDiffusionXLPipeline(
            vae=AutoencoderKL(
                block_out_channels=(32, 32),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                latent_channels=4,
                scaling_factor=0.13025,
            ),
            text_encoder=CLIPTextModel(text_config(tokenizer, 16)),
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, 24)),
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            unet=UNet2DConditionModel(
                sample_size=16,
                block_out_channels=(32, 64),
                layers_per_block=1,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                transformer_layers_per_block=(1, 2),
                attention_head_dim=(2, 4),
                use_linear_projection=True,
                cross_attention_dim=16 + 24,
                addition_embed_type="text_time",
                addition_time_embed_dim=8,
                projection_class_embeddings_input_dim=6 * 8 + 20,
            ),
            scheduler=EulerDiscreteScheduler(
                beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
            ),
            add_watermarker=False,
        )
        pipeline.save_pretrained(path)
    return path
