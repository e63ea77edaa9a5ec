"""The hyper-parameters of one fine-tuning job, checked when they are set. Imports no torch."""

import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

Targets = Literal["attention", "attention+feed_forward+convolutions"]
LearningRateSchedule = Literal["cosine_with_restarts", "cosine", "constant"]
MixedPrecision = Literal["auto", "no", "bf16"]
OptimizerName = Literal["adamw", "adamw_8bit", "adafactor", "prodigy"]
AdapterMethod = Literal["lora", "rslora", "dora", "lokr", "loha"]
Loss = Literal["squared", "huber"]
HuberSchedule = Literal["snr", "exponential", "constant"]

READ_BY_DIFFUSERS_ONLY: Mapping[AdapterMethod, str] = {
    "dora": "A1111 divides DoRA's magnitudes by the norms of the inputs and ComfyUI by those of the untuned weights, "
    "so neither would show what was trained"
}
"""Kinds of adapters of which no file is written for ComfyUI and A1111, and why."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Hyper-parameters of one fine-tuning job of a LoRA adapter or one of its kin (see trainer.adapters.method).

    Raises:
        ValueError: a value lies outside its range; the message names the field, the value and the remedy.
    """

    learning_rate: float = 1e-4
    """Learning rate of the UNet's adapter, in (0, 1]; with Prodigy a factor on the rate that it finds, 1 as a rule."""

    text_encoder_learning_rate: float | None = None
    """Learning rate of the text encoder's adapter, in [0, 1]; None: the UNet's; 0 leaves it untrained."""

    optimizer: OptimizerName = "adamw"
    """What turns gradients into steps, see trainer.job.optimizer; "adamw_8bit" needs a CUDA device and bitsandbytes."""

    text_encoder_steps: int | None = None
    """Optimizer steps after which the text encoder's adapter is left as it is, at least 1; None: trained to the end."""

    adapter: AdapterMethod = "lora"
    """What the adapter's layers compute, see trainer.adapters.method; a search takes those that every reader loads,
    "lora" and "rslora"."""

    rank: int = 32
    """Rank r of the update B @ A, 1 ... 1024."""

    alpha: float = 16.0
    """Numerator of the scale alpha / rank that multiplies B @ A; above 0."""

    text_encoder_rank: int | None = None
    """Rank in the text encoder, 1 ... 1024; None: as in the UNet. Only where it is trained."""

    text_encoder_alpha: float | None = None
    """Alpha in the text encoder, above 0; None: as in the UNet. Only where it is trained."""

    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    """Other ranks for some layers, by a regular expression of the end of their name, from a dot on: mid_block.*: 8."""

    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    """Other alphas for some layers, as in rank_pattern."""

    dropout: float = 0.0
    """Probability that an input of A is dropped in training, in [0, 1); 0 with "lokr" and "loha", which have no A."""

    targets: Targets = "attention"
    """Adapted layers of the UNet or transformer. The text encoder always adapts its attention projections."""

    steps: int = 400
    """Optimizer steps of the whole run; the learning rate schedule spans exactly these."""

    batch_size: int = 2
    """Photos in one forward pass, summed over all processes of the job; at least 1."""

    gradient_accumulation_steps: int = 1
    """Forward passes averaged into one optimizer step; at least 1."""

    lr_scheduler: LearningRateSchedule = "cosine_with_restarts"
    """Shape of the learning rate after the warm-up."""

    lr_warmup_steps: int = 0
    """Optimizer steps of linear warm-up from 0; 0 ... steps - 1."""

    lr_cycles: int = 3
    """Cosine cycles of "cosine_with_restarts", at least 1; the other schedules ignore it."""

    snr_gamma: float | None = 5.0
    """Gamma of the min-SNR weighting, above 0; None weighs every timestep alike, as flow models always do."""

    noise_offset: float = 0.0
    """Deviation of the offset that each channel's noise gets as a whole, in [0, 1]; 0: none, 0.05 is usual. Flow models
    take none."""

    loss: Loss = "squared"
    """The squared error, or the pseudo-Huber loss, which is near the absolute error where the error is large."""

    huber_c: float = 0.1
    """Error at which the pseudo-Huber loss turns from square to linear, above 0; in (0, 1) where the schedule moves."""

    huber_schedule: HuberSchedule = "snr"
    """How that error falls from 1 to huber_c with the noise of a timestep, see trainer.job.loss; "constant": not at
    all."""

    ema_decay: float = 0.0
    """Decay of the running average of the adapter's weights, which is then evaluated and saved, in [0, 1); 0: none."""

    gradient_checkpointing: bool = False
    """Compute the denoiser's activations again in the backward pass instead of keeping them: less memory, more time."""

    max_grad_norm: float = 1.0
    """L2 norm to which the gradient of all adapter weights together is clipped; above 0, may be infinite."""

    weight_decay: float = 1e-2
    """Decoupled weight decay of the optimizer, at least 0."""

    seed: int = 0
    """Seed of the adapter's start values, the data order and all noise; 0 ... 2**63 - 1, in a search 2**62 at most."""

    resolution: int = 512
    """Side of the square training crop in pixels; a multiple of 8, at least 8. Aspect buckets have at most the pixels
    of this square."""

    caption_dropout: float = 0.0
    """Probability that a photo is shown with an empty caption, in [0, 1)."""

    caption_shuffle: float = 0.0
    """Probability that the tags of a caption (its parts between commas) come in another order than the written one, in
    [0, 1]. The first, which names the person, keeps its place; a caption with fewer than two others has no other."""

    horizontal_flip: float = 0.0
    """Probability that a photo is shown mirrored, in [0, 1]. Off: no face is the same mirrored."""

    face_loss_weight: float = 1.0
    """How much more an error within the box of the face counts than one outside, in [1, 1000]; 1: no more. The weights
    of a photo average 1, so a learning rate means what it meant; a photo without a face counts evenly."""

    prior_loss_weight: float = 0.0
    """Weight of the loss on class images beside that on the photos (prior preservation, see trainer.data.prior), in
    [0, 1000]; 0: none, 1 is usual. Each step then learns as many class images as photos and takes twice as long."""

    mixed_precision: MixedPrecision = "auto"
    """Autocast of forward and backward; "auto" is bf16 on a CUDA device that has it and "no" on a CPU."""

    def __post_init__(self) -> None:
        self._check_numbers()
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
        for name in ("alpha", "text_encoder_alpha"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}; it must be above 0, for example half the rank")
        if not 1 <= self.face_loss_weight <= 1000:
            raise ValueError(f"face_loss_weight is {self.face_loss_weight!r}; it must lie between 1 (off) and 1000")
        if not 0 <= self.prior_loss_weight <= 1000:
            raise ValueError(
                f"prior_loss_weight is {self.prior_loss_weight!r}; it must lie between 0 (off) and 1000 (1 is usual)"
            )
        if self.dropout and self.adapter in ("lokr", "loha"):
            raise ValueError(
                f"dropout is {self.dropout!r}, but {self.adapter!r} has no A whose input drops; set it to 0"
            )
        if self.snr_gamma is not None and not 0 < self.snr_gamma < math.inf:
            raise ValueError(
                f"snr_gamma is {self.snr_gamma!r}; it must be above 0 (5 is usual), or null for no weighting"
            )
        if not 0 <= self.noise_offset <= 1:
            raise ValueError(f"noise_offset is {self.noise_offset!r}; it must lie between 0 and 1 (0.05 is usual)")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay!r}; it must be at least 0 and below 1 (0.999 is usual)")
        highest_c = math.inf if self.huber_schedule == "constant" else 1
        if not 0 < self.huber_c < highest_c:
            raise ValueError(f"huber_c is {self.huber_c!r}; it must lie between 0 and {highest_c} (0.1 is usual)")
        if not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm is {self.max_grad_norm!r}; it must be above 0 (1 is usual)")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay!r}; it must be 0 or more")
        self._check_whole_numbers()
        self._check_choices()
        self._check_patterns()
        if self.optimizer == "prodigy" and self.text_encoder_learning_rate not in (None, 0, self.learning_rate):
            raise ValueError(
                f"text_encoder_learning_rate is {self.text_encoder_learning_rate!r}, but Prodigy finds one rate for "
                "everything; set it to null, or to 0 to leave the text encoder untrained"
            )

    def _check_numbers(self) -> None:
        """Neither text nor true, which Python takes for 1: a `horizontal_flip: true` would mirror every photo."""
        for each in fields(self):
            value, number = getattr(self, each.name), each.type in (int, float, int | None, float | None)
            optional = value is None and each.type in (int | None, float | None)
            if number and not optional and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{each.name} is {value!r}; give a number")

    def _check_whole_numbers(self) -> None:
        ranges = {
            "rank": (1, 1024),
            "text_encoder_rank": (1, 1024),
            "text_encoder_steps": (1, 10_000_000),
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
            if value is None and name.startswith("text_encoder"):
                continue
            if not isinstance(value, int):
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
            ("optimizer", get_args(OptimizerName)),
            ("adapter", get_args(AdapterMethod)),
            ("loss", get_args(Loss)),
            ("huber_schedule", get_args(HuberSchedule)),
        ):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")

        if not isinstance(self.gradient_checkpointing, bool):
            raise ValueError(f"gradient_checkpointing is {self.gradient_checkpointing!r}; choose true or false")

    def _check_patterns(self) -> None:
        for name, patterns in (("rank_pattern", self.rank_pattern), ("alpha_pattern", self.alpha_pattern)):
            for pattern, value in patterns.items():
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"{name} names {pattern!r}, which is no regular expression ({error})") from error
                whole = isinstance(value, int) and not isinstance(value, bool)
                if name == "rank_pattern" and not (whole and 1 <= value <= 1024):
                    raise ValueError(f"{name}[{pattern!r}] is {value!r}; it must be a whole number from 1 to 1024")
                if not 0 < value < math.inf:
                    raise ValueError(f"{name}[{pattern!r}] is {value!r}; it must be above 0")

    @property
    def trains_text_encoder(self) -> bool:
        """Whether the text encoder gets an adapter."""
        return self.learning_rate_of("text_encoder") > 0

    def learning_rate_of(self, part: str) -> float:
        """The rate that a part's adapter is trained with; all text encoders have the same."""
        if not _encodes_text(part) or self.text_encoder_learning_rate is None:
            return self.learning_rate
        return self.text_encoder_learning_rate

    def rank_of(self, part: str) -> int:
        """The rank of a part's adapter where no pattern gives a layer another."""
        return self.rank if not _encodes_text(part) or self.text_encoder_rank is None else self.text_encoder_rank

    def alpha_of(self, part: str) -> float:
        """The alpha of a part's adapter where no pattern gives a layer another."""
        return self.alpha if not _encodes_text(part) or self.text_encoder_alpha is None else self.text_encoder_alpha

    def trains_at(self, part: str, step: int) -> bool:
        """Whether a part that has an adapter still learns in optimizer step `step`, from 0."""
        return not _encodes_text(part) or self.text_encoder_steps is None or step < self.text_encoder_steps

    @property
    def photos_per_step(self) -> int:
        """Photos that one optimizer step sees, over all forward passes and processes."""
        return self.batch_size * self.gradient_accumulation_steps


TEXT_ENCODER_SETTINGS = ("text_encoder_rank", "text_encoder_alpha", "text_encoder_steps")
"""What only an adapter of the text encoder reads."""


def check_text_encoder_settings(trainings: Iterable[TrainingConfig], drawn: Container[str] = ()) -> None:
    """Checks that settings of the text encoder's adapter are only given where there may be one.

    Args:
        trainings: what jobs may be asked to do.
        drawn: settings that vary.

    Raises:
        ValueError: one is given, and it would change nothing; the message has the remedy.
    """
    trainings = tuple(trainings)
    if any(training.trains_text_encoder for training in trainings):
        return
    for name in TEXT_ENCODER_SETTINGS:
        if name in drawn or any(getattr(training, name) is not None for training in trainings):
            raise ValueError(
                f"{name} would change nothing, since text_encoder_learning_rate is 0 and the text encoder is not "
                "trained; leave it out, or give the text encoder a rate"
            )


def _encodes_text(part: str) -> bool:
    return part.startswith("text_encoder")
