"""What one fine-tuning job is told: every hyper-parameter, checked when it is made. Imports no torch."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

Targets = Literal["attention", "attention+feed_forward+convolutions"]
LearningRateSchedule = Literal["cosine_with_restarts", "cosine", "constant"]
MixedPrecision = Literal["auto", "no", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Hyper-parameters of one LoRA fine-tuning job (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

    Raises:
        ValueError: a value lies outside its range; the message names the field, the value and the remedy.
    """

    learning_rate: float = 1e-4
    """AdamW learning rate of the UNet's adapter, in (0, 1]."""

    text_encoder_learning_rate: float | None = None
    """AdamW learning rate of the text encoder's adapter, in [0, 1]; None: the UNet's; 0 leaves it untrained."""

    rank: int = 32
    """Rank r of the update B @ A, 1 ... 1024."""

    alpha: float = 16.0
    """Numerator of the scale alpha / rank that multiplies B @ A; above 0."""

    dropout: float = 0.0
    """Probability that an input of A is dropped in training, in [0, 1)."""

    targets: Targets = "attention"
    """Adapted layers of the UNet. The text encoder always adapts its attention projections."""

    steps: int = 400
    """Optimizer steps of the whole run; the learning rate schedule spans exactly these."""

    batch_size: int = 2
    """Photos in one forward pass, summed over all workers of the job; at least 1."""

    gradient_accumulation_steps: int = 1
    """Forward passes averaged into one optimizer step; at least 1."""

    lr_scheduler: LearningRateSchedule = "cosine_with_restarts"
    """Shape of the learning rate after the warm-up."""

    lr_warmup_steps: int = 0
    """Optimizer steps of linear warm-up from 0; 0 ... steps - 1."""

    lr_cycles: int = 3
    """Cosine cycles of "cosine_with_restarts", at least 1; the other schedules ignore it."""

    snr_gamma: float | None = 5.0
    """Gamma of the min-SNR weighting, above 0; None weighs every timestep alike."""

    max_grad_norm: float = 1.0
    """L2 norm to which the gradient of all adapter weights together is clipped; above 0, may be infinite."""

    weight_decay: float = 1e-2
    """Decoupled weight decay of AdamW, at least 0."""

    seed: int = 0
    """Seed of the adapter's start values, the data order and all noise; 0 ... 2**63 - 1."""

    resolution: int = 512
    """Side of the square training crop in pixels; a multiple of 8, at least 8."""

    caption_dropout: float = 0.0
    """Probability that a photo is shown with an empty caption, in [0, 1)."""

    caption_shuffle: float = 0.0
    """Probability that the tags of a caption (its parts between commas) come in another order, in [0, 1]. The first,
    which names the person, keeps its place."""

    horizontal_flip: float = 0.0
    """Probability that a photo is shown mirrored, in [0, 1]. Off: no face is the same mirrored."""

    face_loss_weight: float = 1.0
    """How much more an error within the box of the face counts than one outside, in [1, 1000]; 1: no more. The weights
    of a photo average 1, so a learning rate means what it meant; a photo without a face counts evenly."""

    mixed_precision: MixedPrecision = "auto"
    """Autocast of forward and backward; "auto" is bf16 on a CUDA device that has it and "no" on a CPU."""

    def __post_init__(self) -> None:
        for name in ("learning_rate", "text_encoder_learning_rate"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value!r}; it must lie between 0 and 1, for example 1e-4")
        if self.learning_rate == 0:
            raise ValueError("learning_rate is 0; the UNet is always trained, give it a rate such as 1e-4")
        for name in ("dropout", "caption_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be at least 0 and below 1")
        for name in ("caption_shuffle", "horizontal_flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it is a probability, from 0 to 1")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha is {self.alpha!r}; it must be above 0, for example half the rank")
        if not 1 <= self.face_loss_weight <= 1000:
            raise ValueError(f"face_loss_weight is {self.face_loss_weight!r}; it must lie between 1 (off) and 1000")
        if self.snr_gamma is not None and not 0 < self.snr_gamma < math.inf:
            raise ValueError(
                f"snr_gamma is {self.snr_gamma!r}; it must be above 0 (5 is usual), or null for no weighting"
            )
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm!r}; it must be above 0 (1 is usual)")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay!r}; it must be 0 or more")
        self._check_whole_numbers()
        self._check_choices()

    def _check_whole_numbers(self) -> None:
        ranges = {
            "rank": (1, 1024),
            "steps": (1, 10_000_000),
            "batch_size": (1, 4096),
            "gradient_accumulation_steps": (1, 4096),
            "lr_warmup_steps": (0, self.steps - 1),
            "lr_cycles": (1, 10_000),
            "seed": (0, 2**63 - 1),
            "resolution": (8, 16_384),
        }
        for name, (lowest, highest) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise ValueError(f"{name} is {value!r}; it must be a whole number")
            if not lowest <= value <= highest:
                note = f" (below steps, which is {self.steps})" if name == "lr_warmup_steps" else ""
                raise ValueError(f"{name} is {value}; it must lie between {lowest} and {highest}{note}")
        if self.resolution % 8:
            nearest = max(8, round(self.resolution / 8) * 8)
            raise ValueError(f"resolution is {self.resolution}; it must be a multiple of 8, for example {nearest}")

    def _check_choices(self) -> None:
        for name, choices in (
            ("targets", get_args(Targets)),
            ("lr_scheduler", get_args(LearningRateSchedule)),
            ("mixed_precision", get_args(MixedPrecision)),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")

    @property
    def trains_text_encoder(self) -> bool:
        """Whether the text encoder gets an adapter."""
        return self.learning_rate_of("text_encoder") > 0

    def learning_rate_of(self, part: Literal["unet", "text_encoder"]) -> float:
        """The rate that a part's adapter is trained with."""
        if part == "unet" or self.text_encoder_learning_rate is None:
            return self.learning_rate
        return self.text_encoder_learning_rate

    @property
    def photos_per_step(self) -> int:
        """Photos that one optimizer step sees, over all forward passes and workers."""
        return self.batch_size * self.gradient_accumulation_steps
