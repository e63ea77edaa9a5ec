"""What the trainer knows of a base model, whatever its family: captions in, predictions out, parts that carry adapters.

Legend: batch = photos of one call, channels, height and width as those of a latent.
"""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from trainer.config import AdapterMethod, Targets, TrainingConfig
from trainer.models.patches import check_sizes
from trainer.models.targets import TEXT_ENCODER_TARGETS

Part = Literal["unet", "transformer", "text_encoder", "text_encoder_2"]
INDEX = "model_index.json"
LOADED = re.compile(
    r"(diffusion_pytorch_)?model(-\d+-of-\d+)?\.safetensors(\.index\.json)?"
    r"|(?!(diffusion_pytorch_)?model[.-]).+\.(json|txt|model)"
)
"""Names of the files that are read of a part: weights, whole or in pieces, configurations and vocabularies."""
Conditioning = Mapping[str, Tensor]
"""Named tensors, each with one row a photo, that steer a prediction; their names are the family's own."""


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Where the training crop lies in a photo: the micro-conditioning of SDXL (Podell et al. 2023, arXiv:2307.01952).

    Sizes in pixels, heights first.
    """

    original_size: tuple[int, int]
    """Height and width of the upright photo."""
    crop_top_left: tuple[int, int]
    """Rows and columns cut off at the top and the left, in the photo scaled to its crop."""
    target_size: tuple[int, int]
    """Height and width of the crop."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BaseModel(ABC):
    """The parts of one pipeline, frozen and in evaluation mode; a subclass a family of models.

    The parts are live and shared: an attached adapter changes what they compute until it is detached.
    """

    title: ClassVar[str]
    """What people call the family."""
    pipeline_class: ClassVar[Any]
    """The diffusers pipeline, which also reads and writes the family's adapter files."""
    parts: ClassVar[tuple[Part, ...]]
    """Modules that may carry adapter layers: the denoiser (UNet or transformer), then the text encoders."""
    targets: ClassVar[Mapping[Targets, tuple[str, ...]]]
    """Adapted layers of the denoiser."""
    methods: ClassVar[tuple[AdapterMethod, ...]] = get_args(AdapterMethod)
    """Kinds of adapters of which there is a file for other programs."""
    folders: ClassVar[tuple[str, ...]]
    """Sub-folders of the pipeline that determine what the model computes."""
    pipeline_arguments: ClassVar[Mapping[str, Any]]
    """Arguments of the pipeline that leave out what neither training nor scoring needs."""
    kohya_prefixes: ClassVar[Mapping[Part, str]]
    """What kohya's keys begin with, by part; {} if the family's readers know diffusers' names."""
    kohya_version: ClassVar[str]
    """What kohya's header calls the family, where `export_texts` says nothing else."""
    usual_guidance: ClassVar[float] = 7.5
    """Guidance of images where none is asked for."""

    name: str
    """Folder, file or hub name it was loaded from."""
    folder: Path
    """Local folder of the files."""
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel | CLIPTextModelWithProjection
    vae: AutoencoderKL
    scheduler: ConfigMixin
    """The pipeline's sampler; its config holds the noise schedule and the prediction type."""
    device: torch.device
    dtype: torch.dtype
    """Of all weights: float32 on a CPU, bfloat16 on CUDA (float16 where that is missing)."""

    @abstractmethod
    def tokenize(self, captions: Sequence[str]) -> Conditioning:
        """Token ids of every text encoder, Int64[captions, tokens] on the CPU, padded to the tokenizer's length."""

    @abstractmethod
    def encode(self, tokens: Conditioning) -> Conditioning:
        """What the text encoders make of `tokenize`'s tensors, on the device: with gradients if these are enabled."""

    @abstractmethod
    def describe_framing(self, framings: Sequence[Framing]) -> Conditioning:
        """What the model reads of sizes and crops, on the CPU; {} if it reads nothing."""

    @abstractmethod
    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The denoiser's answer to Float[batch, channels, height, width] latents at [batch] timesteps.

        Args:
            noisy: any float format; the model computes in its own.
            timesteps: as `trainer.job.loss.NoiseSchedule.times` has them.
            conditioning: rows of `encode` and `describe_framing` together; further names are ignored.
        """

    @property
    def export_texts(self) -> Mapping[str, str]:
        """What a saved adapter's header says of this very model, so that it can be exported without the model."""
        return {}

    @abstractmethod
    def pipeline(self) -> Any:
        """A `pipeline_class` over these very modules (nothing is copied) with a sampler of its own."""

    def text_encoder_targets(self, part: Part) -> tuple[str, ...]:
        """Ends of the names of the layers that an adapter of this text encoder has."""
        return TEXT_ENCODER_TARGETS

    @property
    def patch(self) -> int:
        """Sides of training pictures are multiples of this many pixels."""
        return 8

    def check_schedule(self) -> None:
        """Raises ValueError if the noise that the model was trained with, or the scale of its latents, is unknown here.

        A diffusion's noise is that of the betas in its scheduler's config, which all its samplers share; another kind,
        such as EDM's, would be taken for it unseen.
        """
        if "beta_schedule" not in self.scheduler.config:
            raise ValueError(
                f"the scheduler of base model {self.name} is a {type(self.scheduler).__name__}, which has no "
                "beta_schedule, so the noise that the model was trained with is not known here; use a model whose "
                "scheduler has one, such as DDIMScheduler or EulerDiscreteScheduler"
            )
        if self.vae.config.get("latents_mean") is not None:
            raise ValueError(
                f"the VAE of base model {self.name} says latents_mean, by which its latents would have to be centred "
                "and scaled by channel; that is not done here: use another model"
            )

    def check_sizes(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Raises ValueError if one of the sizes of training pictures, (width, height) in pixels, is no multiple of
        `patch`."""
        check_sizes(sizes, self.patch, self.title)

    def check(self, config: TrainingConfig) -> None:
        """Raises ValueError if `config` asks for what the family cannot do."""
        self.check_schedule()
        if config.adapter not in self.methods:
            raise ValueError(
                f"adapter is {config.adapter!r}, for which no file of {self.title} is known that other programs read; "
                f"choose one of {', '.join(map(repr, self.methods))}"
            )

    @property
    def caption_tokenizer(self) -> tuple[Any, int]:
        """The tokenizer that reads most of a caption, and how many tokens it reads."""
        return self.tokenizer, self.tokenizer.model_max_length

    @property
    def denoiser(self) -> Any:
        """The UNet or transformer, a diffusers ModelMixin."""
        return self.module(self.parts[0])

    def module(self, part: Part) -> nn.Module:
        """The module that `part` names."""
        module: nn.Module = getattr(self, part)
        return module

    @cached_property
    def sha256(self) -> str:
        """Over names and contents of model_index.json and of the files in `folders` that are loaded: configurations,
        vocabularies and weights without those of variants beside them (`.fp16.`, `.non_ema.`).

        It is the same on every device, and follows what the model computes, not where it lies.
        """
        digest = hashlib.sha256()
        files = [self.folder / INDEX, *(path for part in self.folders for path in loaded_files(self.folder / part))]
        for path in files:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(self.folder).as_posix()} {content}\n".encode())
        return digest.hexdigest()


def loaded_files(folder: Path) -> list[Path]:
    """What loading a part of a pipeline reads, by name. Where there are weights of variants only, these."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    own = [path for path in files if LOADED.fullmatch(path.name)]
    if any(path.suffix == ".safetensors" for path in own):
        return own
    return sorted({*own, *(path for path in files if path.suffix == ".safetensors")})


def padded_tokens(tokenizer: Any, captions: Sequence[str], length: int | None = None) -> Tensor:
    """Int64[captions, tokens], cut and padded to `length`, or the tokenizer's own."""
    encoded = tokenizer(
        list(captions),
        padding="max_length",
        truncation=True,
        max_length=length or tokenizer.model_max_length,
        return_tensors="pt",
    )
    input_ids: Tensor = encoded.input_ids
    return input_ids
