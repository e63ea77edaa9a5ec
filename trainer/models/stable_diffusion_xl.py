"""Stable Diffusion XL (Podell et al. 2023, arXiv:2307.01952): two text encoders, a pooled embedding, sizes and crops.

Legend: tokens = the tokenizers' length, dim = width of both text encoders together, pooled = width of the projection.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from trainer.config import Targets
from trainer.models.base_model import BaseModel, Conditioning, Framing, Part, padded_tokens
from trainer.models.targets import TEXT_ENCODER_TARGETS, UNET_TARGETS

LAYERS_TEXT = "likeness_layers_per_block"
"""Name of a header text: resnets of each of the UNet's blocks, by which the layers' published names are counted."""
LAYERS_PER_BLOCK = 2
"""Of the published UNet."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusionXL(BaseModel):
    """Conditioning, by name:

    - `input_ids` and `input_ids_2`: Int64[batch, tokens];
    - `text_embeddings`: Float[batch, tokens, dim], the last but one hidden states of both encoders side by side;
    - `pooled_embeddings`: Float[batch, pooled], of the second encoder;
    - `time_ids`: Float32[batch, 6], the framing's sizes in the order original, crop, target.
    """

    title: ClassVar[str] = "Stable Diffusion XL"
    pipeline_class: ClassVar[Any] = StableDiffusionXLPipeline
    parts: ClassVar[tuple[Part, ...]] = ("unet", "text_encoder", "text_encoder_2")
    targets: ClassVar[Mapping[Targets, tuple[str, ...]]] = UNET_TARGETS
    folders: ClassVar[tuple[str, ...]] = (
        "scheduler",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "unet",
        "vae",
    )
    pipeline_arguments: ClassVar[Mapping[str, Any]] = {
        "feature_extractor": None,
        "image_encoder": None,
        "add_watermarker": False,
    }
    kohya_prefixes: ClassVar[Mapping[Part, str]] = {
        "unet": "lora_unet",
        "text_encoder": "lora_te1",
        "text_encoder_2": "lora_te2",
    }
    kohya_version: ClassVar[str] = "sdxl_base_v1-0"

    unet: UNet2DConditionModel
    tokenizer_2: CLIPTokenizer
    text_encoder_2: CLIPTextModelWithProjection
    force_zeros_for_empty_prompt: bool
    """The pipeline's own setting: whether guidance without a negative prompt uses zeros instead of an empty one."""

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        return {
            "input_ids": padded_tokens(self.tokenizer, captions),
            "input_ids_2": padded_tokens(self.tokenizer_2, captions),
        }

    def encode(self, tokens: Conditioning) -> Conditioning:
        first = self.text_encoder(tokens["input_ids"], output_hidden_states=True)
        second = self.text_encoder_2(tokens["input_ids_2"], output_hidden_states=True)
        return {
            "text_embeddings": torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1),
            "pooled_embeddings": second.text_embeds,
        }

    def text_encoder_targets(self, part: Part) -> tuple[str, ...]:
        if part != "text_encoder":
            return super().text_encoder_targets(part)
        # Nothing of the first encoder is read but its last but one hidden states: its last layer would learn nothing.
        layers = range(self.text_encoder.config.num_hidden_layers - 1)
        return tuple(f"layers.{layer}.self_attn.{target}" for layer in layers for target in TEXT_ENCODER_TARGETS)

    def describe_framing(self, framings: Sequence[Framing]) -> Conditioning:
        rows = [(*framing.original_size, *framing.crop_top_left, *framing.target_size) for framing in framings]
        return {"time_ids": torch.tensor(rows, dtype=torch.float32)}

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        added = {
            "text_embeds": conditioning["pooled_embeddings"].to(self.dtype),
            # In float32: bfloat16 would round 1000 pixels to a multiple of 4. The UNet casts their sinusoids itself.
            "time_ids": conditioning["time_ids"],
        }
        embeddings = conditioning["text_embeddings"].to(self.dtype)
        answer: Tensor
        (answer,) = self.unet(noisy.to(self.dtype), timesteps, embeddings, added_cond_kwargs=added, return_dict=False)
        return answer

    @property
    def export_texts(self) -> Mapping[str, str]:
        return {LAYERS_TEXT: str(self.unet.config["layers_per_block"])}

    def pipeline(self) -> StableDiffusionXLPipeline:
        return StableDiffusionXLPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            text_encoder_2=self.text_encoder_2,
            tokenizer=self.tokenizer,
            tokenizer_2=self.tokenizer_2,
            unet=self.unet,
            scheduler=type(self.scheduler).from_config(self.scheduler.config),
            force_zeros_for_empty_prompt=self.force_zeros_for_empty_prompt,
            **self.pipeline_arguments,
        )
