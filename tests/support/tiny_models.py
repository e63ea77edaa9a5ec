"""Pipelines of the families' shapes with random weights, small enough for tests."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.trainer.conftest import DEMO_BASE, write_photo
from trainer.data.cache import DataCache, build_cache
from trainer.data.photos import load_photos
from trainer.models.loading import BaseModel

RESOLUTION = 32
CAPTIONS = tuple(f"a man with a hat, number {number}" for number in range(4))
EVERY_LAYER = "attention+feed_forward+convolutions"


def encode_photos(base: BaseModel, folder: Path) -> DataCache:
    """Four photos, 70 pixels wide and 80 high, written into `folder` with `CAPTIONS` and encoded at `RESOLUTION`."""
    for number, caption in enumerate(CAPTIONS):
        write_photo(folder, f"photo{number}", seed=number, caption=caption)
    return build_cache(load_photos(folder), base, resolution=RESOLUTION, folder=folder / "cache")


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


def make_t5(width: int) -> tuple[T5Tokenizer, T5EncoderModel]:
    """T5 that reads letters, and its tokenizer."""
    letters = [(letter, -3.0) for letter in "▁abcdefghijklmnopqrstuvwxyz0123456789,."]
    tokenizer = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0)
    config = T5Config(vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    return tokenizer, T5EncoderModel(config)


def make_autoencoder() -> AutoencoderKL:
    """Of 16 channels, with a shift, half as large as the picture."""
    return AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=16,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def write_stable_diffusion_3(path: Path) -> Path:
    """A pipeline of Stable Diffusion 3.5's shape with random weights: the first block attends twice."""
    tokenizer = CLIPTokenizer.from_pretrained(DEMO_BASE / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer_3, text_encoder_3 = make_t5(48)
        pipeline: Any = StableDiffusion3Pipeline(
            vae=make_autoencoder(),
            text_encoder=CLIPTextModelWithProjection(text_config(tokenizer, 16)),
            text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizer, 24)),
            text_encoder_3=text_encoder_3,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            tokenizer_3=tokenizer_3,
            transformer=SD3Transformer2DModel(
                sample_size=16,
                num_layers=2,
                attention_head_dim=8,
                num_attention_heads=4,
                joint_attention_dim=48,
                caption_projection_dim=32,
                pooled_projection_dim=40,
                pos_embed_max_size=16,
                dual_attention_layers=(0,),
                qk_norm="rms_norm",
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
        pipeline.save_pretrained(path)
    return path


def write_flux(path: Path) -> Path:
    """A pipeline of Flux.1 dev's shape with random weights."""
    tokenizer = CLIPTokenizer.from_pretrained(DEMO_BASE / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer_2, text_encoder_2 = make_t5(48)
        pipeline: Any = FluxPipeline(
            vae=make_autoencoder(),
            text_encoder=CLIPTextModel(text_config(tokenizer, 16)),
            text_encoder_2=text_encoder_2,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer_2,
            transformer=FluxTransformer2DModel(
                in_channels=64,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
                joint_attention_dim=48,
                pooled_projection_dim=16,
                guidance_embeds=True,
                axes_dims_rope=(4, 6, 6),
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        )
        pipeline.save_pretrained(path)
    return path
