"""Flux.1 (Black Forest Labs 2024, arXiv:2506.15742): a transformer over 2 x 2 patches, steered by T5 and CLIP's pool.

Legend: tokens = those that T5 reads, dim = width of T5, pooled = width of CLIP, patches = height / 2 * width / 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from transformers import T5EncoderModel

from trainer.models.base_model import Conditioning, Framing, padded_tokens
from trainer.models.flow_model import FlowModel

TIMESTEP_SCALE = 1000
"""The transformer multiplies the time that it reads by this."""
TRAINING_GUIDANCE = 1.0
"""Input of the guidance-distilled model in training: to imitate photos, no more."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Flux(FlowModel):
    """Conditioning, by name:

    - `input_ids`: Int64[batch, CLIP's tokens]; `input_ids_2`: Int64[batch, tokens];
    - `text_embeddings`: Float[batch, tokens, dim], of T5;
    - `pooled_embeddings`: Float[batch, pooled], of CLIP.
    """

    title: ClassVar[str] = "Flux"
    pipeline_class: ClassVar[Any] = FluxPipeline
    folders: ClassVar[tuple[str, ...]] = (
        "scheduler",
        "text_encoder",
        "text_encoder_2",
        "tokenizer",
        "tokenizer_2",
        "transformer",
        "vae",
    )
    kohya_version: ClassVar[str] = "flux1"
    usual_guidance: ClassVar[float] = 3.5
    caption_length: ClassVar[int] = 512

    transformer: FluxTransformer2DModel
    tokenizer_2: Any
    text_encoder_2: T5EncoderModel

    @property
    def t5_tokenizer(self) -> Any:
        return self.tokenizer_2

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        return {
            "input_ids": padded_tokens(self.tokenizer, captions),
            "input_ids_2": padded_tokens(self.tokenizer_2, captions, self.caption_length),
        }

    def encode(self, tokens: Conditioning) -> Conditioning:
        return {
            "text_embeddings": self.text_encoder_2(tokens["input_ids_2"])[0],
            "pooled_embeddings": self.text_encoder(tokens["input_ids"]).pooler_output,
        }

    def describe_framing(self, framings: Sequence[Framing]) -> Conditioning:
        return {}

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        # A patch is one token, its channels channel by channel, as pixel_unshuffle lays them.
        patches = pixel_unshuffle(noisy.to(self.dtype), 2)
        embeddings = conditioning["text_embeddings"].to(self.dtype)
        height, width = patches.shape[2:]
        positions = torch.zeros(height, width, 3, device=noisy.device, dtype=self.dtype)
        positions[..., 1] = torch.arange(height, device=noisy.device)[:, None]
        positions[..., 2] = torch.arange(width, device=noisy.device)
        guidance = torch.full((len(noisy),), TRAINING_GUIDANCE, device=noisy.device)
        (answer,) = self.transformer(
            hidden_states=patches.flatten(2).transpose(1, 2),
            timestep=timesteps / TIMESTEP_SCALE,
            guidance=guidance if self.transformer.config["guidance_embeds"] else None,
            encoder_hidden_states=embeddings,
            pooled_projections=conditioning["pooled_embeddings"].to(self.dtype),
            txt_ids=torch.zeros(embeddings.shape[1], 3, device=noisy.device, dtype=self.dtype),
            img_ids=positions.view(-1, 3),
            return_dict=False,
        )
        return pixel_shuffle(answer.transpose(1, 2).unflatten(2, (height, width)), 2)

    def pipeline(self) -> FluxPipeline:
        return FluxPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            text_encoder_2=self.text_encoder_2,
            tokenizer=self.tokenizer,
            tokenizer_2=self.tokenizer_2,
            transformer=self.transformer,
            scheduler=type(self.scheduler).from_config(self.scheduler.config),
            **self.pipeline_arguments,
        )
