"""What Stable Diffusion 3 and Flux share: a transformer that follows a rectified flow, steered by CLIP and T5.

Only the transformer carries adapters: its own layers for text outweigh the encoders, which every prompt shares.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from trainer.config import TEXT_ENCODER_SETTINGS, AdapterMethod, Targets, TrainingConfig
from trainer.models.base_model import BaseModel, Part
from trainer.models.patches import patch_of_latents
from trainer.models.targets import TRANSFORMER_TARGETS


@dataclass(frozen=True, eq=False, kw_only=True)
class FlowModel(BaseModel):
    """A base model whose denoiser is a transformer and whose scheduler is FlowMatchEulerDiscreteScheduler."""

    parts: ClassVar[tuple[Part, ...]] = ("transformer",)
    targets: ClassVar[Mapping[Targets, tuple[str, ...]]] = TRANSFORMER_TARGETS
    methods: ClassVar[tuple[AdapterMethod, ...]] = ("lora", "rslora")
    pipeline_arguments: ClassVar[Mapping[str, Any]] = {"image_encoder": None, "feature_extractor": None}
    kohya_prefixes: ClassVar[Mapping[Part, str]] = {}
    caption_length: ClassVar[int]
    """Tokens of a caption that T5 reads, as many as the pipeline gives it."""

    @property
    @abstractmethod
    def t5_tokenizer(self) -> Any:
        """Of T5, which reads more of a caption than CLIP."""

    @property
    def caption_tokenizer(self) -> tuple[Any, int]:
        return self.t5_tokenizer, self.caption_length

    @property
    def patch(self) -> int:
        """Two latents of the VAE: the transformer sees squares of 2 x 2."""
        return patch_of_latents(self.vae.config)

    def check_schedule(self) -> None:
        if not isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):
            raise ValueError(
                f"the scheduler of base model {self.name} is a {type(self.scheduler).__name__}, of which the noise of "
                "a timestep is not known here; use the model with its FlowMatchEulerDiscreteScheduler"
            )

    def check(self, config: TrainingConfig) -> None:
        super().check(config)
        if config.text_encoder_learning_rate:
            raise ValueError(
                f"text_encoder_learning_rate is {config.text_encoder_learning_rate!r}, but the text encoders of "
                f"{self.title} carry no adapters here; set it to null or 0"
            )
        for name in TEXT_ENCODER_SETTINGS:
            if getattr(config, name) is not None:
                raise ValueError(
                    f"{name} is {getattr(config, name)!r} and would change nothing, since the text encoders of "
                    f"{self.title} carry no adapters here; leave it out"
                )
        if config.noise_offset:
            raise ValueError(
                f"noise_offset is {config.noise_offset!r}, but the flow of {self.title} starts from plain noise and "
                "reaches all brightnesses from there; set it to 0"
            )
        if config.resolution % self.patch:
            raise ValueError(
                f"resolution is {config.resolution}, but {self.title} sees patches of {self.patch} x {self.patch} "
                f"pixels; make it a multiple of {self.patch}"
            )
