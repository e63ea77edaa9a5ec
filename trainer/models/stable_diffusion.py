"""Stable Diffusion 1.x and 2.x: one text encoder, whose last hidden state steers the UNet.

Legend: tokens = the tokenizer's length, dim = width of the text encoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from torch import Tensor

from trainer.config import Targets
from trainer.models.base_model import BaseModel, Conditioning, Framing, Part, padded_tokens
from trainer.models.targets import UNET_TARGETS

SD2_TEXT_WIDTH = 1024
"""Width of the text encoder of Stable Diffusion 2.x; that of 1.x is 768."""


@dataclass(frozen=True, eq=False, kw_only=True)
class StableDiffusion(BaseModel):
    """Conditioning: `input_ids` Int64[batch, tokens], `text_embeddings` Float[batch, tokens, dim]."""

    title: ClassVar[str] = "Stable Diffusion 1.x/2.x"
    pipeline_class: ClassVar[Any] = StableDiffusionPipeline
    parts: ClassVar[tuple[Part, ...]] = ("unet", "text_encoder")
    targets: ClassVar[Mapping[Targets, tuple[str, ...]]] = UNET_TARGETS
    folders: ClassVar[tuple[str, ...]] = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
    pipeline_arguments: ClassVar[Mapping[str, Any]] = {
        "safety_checker": None,
        "feature_extractor": None,
        "image_encoder": None,
        "requires_safety_checker": False,
    }
    kohya_prefixes: ClassVar[Mapping[Part, str]] = {"unet": "lora_unet", "text_encoder": "lora_te"}
    kohya_version: ClassVar[str] = "sd_v1"

    unet: UNet2DConditionModel

    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        return {"input_ids": padded_tokens(self.tokenizer, captions)}

    def encode(self, tokens: Conditioning) -> Conditioning:
        return {"text_embeddings": self.text_encoder(tokens["input_ids"])[0]}

    def describe_framing(self, framings: Sequence[Framing]) -> Conditioning:
        return {}

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        embeddings = conditioning["text_embeddings"].to(self.dtype)
        answer: Tensor
        (answer,) = self.unet(noisy.to(self.dtype), timesteps, embeddings, return_dict=False)
        return answer

    @property
    def export_texts(self) -> Mapping[str, str]:
        """Of 2.x, as kohya writes them. A1111 offers a file for a model of 2.x only where `ss_v2` is "True"."""
        if self.unet.config["cross_attention_dim"] != SD2_TEXT_WIDTH:
            return {}
        velocity = self.scheduler.config["prediction_type"] == "v_prediction"
        return {"ss_v2": "True", "ss_base_model_version": "sd_v2_v" if velocity else "sd_v2"}

    def pipeline(self) -> StableDiffusionPipeline:
        return StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=type(self.scheduler).from_config(self.scheduler.config),
            **self.pipeline_arguments,
        )
