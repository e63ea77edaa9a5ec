"""Stable Diffusion 3 and 3.5 (Esser et al. 2024, arXiv:2403.03206): a transformer steered by two CLIPs and T5.

Legend: clip = tokens that CLIP reads, t5 = those that T5 reads, dim = width of T5, pooled = of both CLIPs' projections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from torch import Tensor
from torch.nn.functional import pad
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel

from trainer.models.base_model import Conditioning, Framing, padded_tokens
from trainer.models.flow_model import FlowModel


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusion3(FlowModel):
    """Conditioning, by name:

    - `input_ids` and `input_ids_2`: Int64[batch, clip]; `input_ids_3`: Int64[batch, t5];
    - `text_embeddings`: Float[batch, clip + t5, dim], the last but one hidden states of both CLIPs side by side, with
      zeros to the width of T5, before those of T5;
    - `pooled_embeddings`: Float[batch, pooled], of both CLIPs.
    """

    title: ClassVar[str] = "Stable Diffusion 3"
    pipeline_class: ClassVar[Any] = StableDiffusion3Pipeline
    folders: ClassVar[tuple[str, ...]] = (
        "scheduler",
        "text_encoder",
        "text_encoder_2",
        "text_encoder_3",
        "tokenizer",
        "tokenizer_2",
        "tokenizer_3",
        "transformer",
        "vae",
    )
    kohya_version: ClassVar[str] = "sd3"
    caption_length: ClassVar[int] = 256

    transformer: SD3Transformer2DModel
    tokenizer_2: CLIPTokenizer
    tokenizer_3: Any
    text_encoder_2: CLIPTextModelWithProjection
    text_encoder_3: T5EncoderModel

    @property
    def t5_tokenizer(self) -> Any:
        return self.tokenizer_3

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        return {
            "input_ids": padded_tokens(self.tokenizer, captions),
            "input_ids_2": padded_tokens(self.tokenizer_2, captions, self.tokenizer.model_max_length),
            "input_ids_3": padded_tokens(self.tokenizer_3, captions, self.caption_length),
        }

    def encode(self, tokens: Conditioning) -> Conditioning:
        first = self.text_encoder(tokens["input_ids"], output_hidden_states=True)
        second = self.text_encoder_2(tokens["input_ids_2"], output_hidden_states=True)
        clip = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        t5 = self.text_encoder_3(tokens["input_ids_3"])[0]
        return {
            "text_embeddings": torch.cat([pad(clip, (0, t5.shape[-1] - clip.shape[-1])), t5], dim=1),
            "pooled_embeddings": torch.cat([first.text_embeds, second.text_embeds], dim=-1),
        }

    def describe_framing(self, framings: Sequence[Framing]) -> Conditioning:
        return {}

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        answer: Tensor
        (answer,) = self.transformer(
            hidden_states=noisy.to(self.dtype),
            timestep=timesteps,
            encoder_hidden_states=conditioning["text_embeddings"].to(self.dtype),
            pooled_projections=conditioning["pooled_embeddings"].to(self.dtype),
            return_dict=False,
        )
        return answer

    def pipeline(self) -> StableDiffusion3Pipeline:
        return StableDiffusion3Pipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            text_encoder_2=self.text_encoder_2,
            text_encoder_3=self.text_encoder_3,
            tokenizer=self.tokenizer,
            tokenizer_2=self.tokenizer_2,
            tokenizer_3=self.tokenizer_3,
            transformer=self.transformer,
            scheduler=type(self.scheduler).from_config(self.scheduler.config),
            **self.pipeline_arguments,
        )
