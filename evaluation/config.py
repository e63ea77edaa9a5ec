"""The configuration of an evaluation: how images are made, how faces are found, and how measures are weighed."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal, get_args

SamplerName = Literal["dpmsolver++", "ddim", "as-is"]
ObjectiveMode = Literal["weighted", "pareto"]

TRIGGER_FIELD = "{trigger}"
"""Stands in a prompt for the word that names the person."""


NO_PROBABILITIES: Mapping[str, str] = {
    "opencv": "(100 - s) / 100 of the cascade's score s, so that surer faces get LESS",
    "dlib": "a margin, 0 to about 3.5, of which DeepFace keeps what is below 1",
}
"""Detectors of DeepFace whose confidence is no probability, and what it is."""


def _whole_number(name: str, value: int, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}; give a whole number of at least {least}")


def _finite_number(name: str, value: float, *, lower: float, upper: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; give a finite number")
    if not lower <= value <= upper:
        raise ValueError(f"{name} is {value!r}; give a number from {lower} to {upper}")


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How one image is made from a prompt and a seed."""

    steps: int = 30
    """Denoising steps of the sampler, at least 1. A multistep sampler needs about 20."""
    guidance_scale: float = 7.5
    """Classifier-free guidance w (Ho and Salimans 2022), 0 to 100; 1 or less turns it off and halves the cost. Flux
    reads it as an input instead; there 3.5 is usual."""
    resolution: int
    """Side of the square image in pixels, a positive multiple of 8."""
    batch_size: int
    """Images made together, at least 1. It changes speed and memory, not the images."""
    scheduler: SamplerName = "dpmsolver++"
    """`dpmsolver++` (Lu et al. 2022, second order), `ddim` (Song et al. 2021) or `as-is` (the model's own,
    with which flow models always draw)."""
    negative_prompt: str = ""
    """What guidance leads away from, the same for every image."""
    shared_noise: bool = False
    """Draw all images' first noise from ONE generator on the model's device, batch after batch, as the homework did: an
    image then depends on those before it, on the batch size and on the device. Only to reproduce the homework's numbers
    (`evaluation.hw10`)."""

    def __post_init__(self) -> None:
        _whole_number("steps", self.steps, least=1)
        _finite_number("guidance_scale", self.guidance_scale, lower=0.0, upper=100.0)
        _whole_number("resolution", self.resolution, least=8)
        if self.resolution % 8:
            above = self.resolution // 8 * 8 + 8
            raise ValueError(f"resolution is {self.resolution}; give a multiple of 8, such as {above}")
        _whole_number("batch_size", self.batch_size, least=1)
        if self.scheduler not in get_args(SamplerName):
            raise ValueError(f"scheduler is {self.scheduler!r}; give one of {', '.join(get_args(SamplerName))}")


@dataclass(frozen=True, kw_only=True)
class OnnxRecognizer:
    """A face recogniser from an ONNX file that takes faces as ArcFace does (Deng et al. 2019), like insightface's:
    aligned to ArcFace's template, RGB, (value - 127.5) / 127.5, [1, 3, size, size].

    Faces are found by `detector`. Five points align them with `retinaface`, of which alone DeepFace hands them on, two
    eyes with the other detectors, the square around the box where the eyes are not found.
    """

    onnx: Path
    """The file. Nothing in it is run but onnxruntime's own operators, on one CPU thread."""
    size: int = 112
    """Side of the aligned face, pixels, at least 16."""

    def __post_init__(self) -> None:
        _whole_number("recognizer.size", self.size, least=16)


@dataclass(frozen=True, kw_only=True)
class FaceConfig:
    """How faces are found by DeepFace, and embedded by it or by a recogniser from a file.

    A face counts when its confidence is above `minimum_confidence` and its box is not tiny (`minimum_face`); an image
    without a face that counts is faceless. Of several faces that count, the one with the largest box is taken: in a
    picture of one person the others are background. A profile is a face like any other if the detector finds it;
    frontal detectors such as `dlib` mostly do not, for the untuned model's images and every candidate's alike.
    """

    recognizer: str | OnnxRecognizer = "GhostFaceNet"
    """DeepFace recognition model, as DeepFace spells it (`GhostFaceNet`, `ArcFace`, `Dlib` ...), or a file:
    `{onnx: PATH, size: 112}`."""
    detector: str = "ssd"
    """DeepFace detector, as DeepFace spells it (`ssd`, `retinaface`, `dlib` ...), but not `skip`: it finds no faces."""
    minimum_confidence: float = 0.0
    """Faces count only with a detection confidence ABOVE this, 0 (inclusive) to 1 (exclusive). The number is the
    detector's own and does not travel to another one: `ssd`, `yunet` and `retinaface` drop faces below 0.9 themselves;
    with `opencv`, which gives surer faces less, and `dlib`, which gives a margin, anything but 0 is refused. DeepFace
    rounds confidence to 0.01 and gives 0 to the whole image when it finds no face."""
    minimum_face: float = 0.05
    """Faces count only with a box whose longer side is at least this share of the image's shorter side, 0 to 1. An
    embedding of fewer pixels says little of a person, and a face in the background is not the picture's subject."""
    minimum_side: int = 128
    """Images with a shorter side below this many pixels are enlarged to it (Lanczos) for detection; 0 never enlarges.
    Detectors have a smallest face (about 40 px for DeepFace's `dlib`): of 48 head-and-shoulder photos at 64 px it
    found 13, and all 48 when shown at 128 px. Real and generated images go through the same rule."""

    @property
    def name(self) -> str:
        """Both models, as a person calls them."""
        return f"{self.recognizer_name} with {self.detector}"

    @property
    def recognizer_name(self) -> str:
        """DeepFace's name, or that of the file."""
        return self.recognizer.onnx.name if isinstance(self.recognizer, OnnxRecognizer) else self.recognizer

    def __post_init__(self) -> None:
        if not self.recognizer:
            raise ValueError("recognizer is empty; give a DeepFace recognition model, such as GhostFaceNet")
        if not self.detector or self.detector == "skip":
            raise ValueError(f"detector is {self.detector!r}, which finds no faces; give a DeepFace one, such as ssd")
        _finite_number("minimum_confidence", self.minimum_confidence, lower=0.0, upper=1.0)
        if self.minimum_confidence == 1.0:
            raise ValueError("minimum_confidence is 1.0, which no face exceeds; give a number below 1")
        if self.minimum_confidence and self.detector in NO_PROBABILITIES:
            raise ValueError(
                f"minimum_confidence is {self.minimum_confidence}, but the confidence of detector {self.detector!r} is "
                f"{NO_PROBABILITIES[self.detector]}; leave minimum_confidence out or choose a detector whose "
                "confidence is a probability, such as ssd or retinaface"
            )
        _finite_number("minimum_face", self.minimum_face, lower=0.0, upper=1.0)
        _whole_number("minimum_side", self.minimum_side, least=0)


class Anchor(StrEnum):
    """What sets an end of a scale: measured once, before any candidate."""

    UNTUNED = "untuned"
    """The untuned model's images, on average."""
    REAL = "real"
    """The person's own photos, on average."""
    MISMATCHED = "mismatched"
    """The untuned model's images with the other prompts of the set; of the CLIP score only."""


@dataclass(frozen=True, kw_only=True)
class MeasureConfig:
    """How a measure of images enters the objective: (x - zero) / (one - zero), clipped, times the weight."""

    weight: float
    """What one unit adds to the objective, -1 to 1."""
    zero: Anchor | float = Anchor.UNTUNED
    """`untuned`, `real` or a number."""
    one: Anchor | float = Anchor.REAL
    """`untuned`, `real` or a number."""
    low: float = -1.0
    """The least that an image counts."""
    high: float = 1.0
    """The most that an image counts, above `low`."""
    missing: float = 0.0
    """What an image counts that does not have the measure."""

    def __post_init__(self) -> None:
        _finite_number("weight", self.weight, lower=-1.0, upper=1.0)
        for name in ("low", "high", "missing"):
            _finite_number(name, getattr(self, name), lower=-100.0, upper=100.0)
        if self.low >= self.high:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; give a high above the low")
        if not self.low <= self.missing <= self.high:
            raise ValueError(
                f"missing is {self.missing:g}; give a number from low ({self.low:g}) to high ({self.high:g})"
            )
        if self.zero == self.one:
            raise ValueError(f"zero and one are both {self.zero}, so the measure has no scale; give two ends")
        if Anchor.MISMATCHED in (self.zero, self.one):
            raise ValueError("mismatched is an end of the CLIP score only; give untuned, real or a number")


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """What a search maximises: one number, or likeness and fidelity at once.

    The number is a weighted sum, each weight from 0 to 1, those of likeness and fidelity not both 0. It is reported for
    every candidate in either mode.
    """

    likeness: float = 0.5
    """Reward for one unit of likeness (from the base model to the person's own photos)."""
    fidelity: float = 0.4
    """Reward for one unit of fidelity (from images of other prompts to the base model's own)."""
    faceless: float = 0.5
    """Penalty when every image is without a face; a share of them costs that share. An image's likeness counts no lower
    than this, so that a face unlike the person never pays less than none."""
    leakage: float = 0.05
    """Penalty for one unit of leakage: other people who come nearer to the person. Less than 0 is no reward. Small,
    since leakage grows with likeness: over 33 configurations of the demo Kendall's tau between the objective on 24
    images and on all others was 0.85 without it, 0.82 with 0.05 and 0.78 with 0.1 (`benchmarks.truth`)."""
    measures: Mapping[str, MeasureConfig] = field(default_factory=dict)
    """Further measures of images that count, by name: any that `evaluation.judges` declare, or a built-in one such as
    `verified` (`evaluation.measures`)."""
    mode: ObjectiveMode = "weighted"
    """`weighted`: the highest weighted sum wins. `pareto`: the search looks for the front of likeness and fidelity, and
    a rule takes the champion from it (`evaluation.pareto`)."""
    minimum_likeness: float | None = None
    """In mode `pareto`: the champion is the most faithful point of the front with at least this likeness, 0 to 1.
    None: the front's knee, which measures both by the front's own ranges: where fidelity hardly varies over the front,
    little of it counts as much as much likeness, and a minimum says better what is wanted."""
    maximum_faceless_rate: float = 0.1
    """The front's constraint: largest share of faceless images, 0 (inclusive) to 1 (exclusive). A candidate above it is
    beaten by every one that keeps it."""

    def __post_init__(self) -> None:
        for name in ("likeness", "fidelity", "faceless", "leakage"):
            _finite_number(f"weight of {name}", getattr(self, name), lower=0.0, upper=1.0)
        if self.likeness == 0.0 and self.fidelity == 0.0:
            raise ValueError(
                "the weights of likeness and fidelity are both 0, so all models would tie; raise one of them"
            )
        if self.mode not in get_args(ObjectiveMode):
            raise ValueError(f"mode is {self.mode!r}; give one of {', '.join(get_args(ObjectiveMode))}")
        if self.minimum_likeness is not None:
            _finite_number("minimum_likeness", self.minimum_likeness, lower=0.0, upper=1.0)
            if self.mode != "pareto":
                raise ValueError(
                    f"minimum_likeness is {self.minimum_likeness}, but mode is {self.mode!r}, which knows no minimum; "
                    "set mode to pareto or leave minimum_likeness out"
                )
        _finite_number("maximum_faceless_rate", self.maximum_faceless_rate, lower=0.0, upper=1.0)
        if self.maximum_faceless_rate == 1.0:
            raise ValueError("maximum_faceless_rate is 1.0, which no model exceeds; give a number below 1")


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What a candidate may not exceed; one that surely does is unfit: it ranks behind all others and cannot win.

    Sure is what holds at the lower end of the meter's 95 % interval: a single image makes nobody unfit. Each limit may
    be None: the meter is reported, and nothing follows from it.
    """

    memorisation: float | None = 0.1
    """Largest share of images that are copies of training photos, 0 to 1."""
    leakage: float | None = None
    """Largest leakage, in units of likeness: 0.5 means that other people come half-way to the person. None by default:
    without pictures of others in the training every adapter that knows the person well leaks (in the demo all with a
    likeness above 0.5 leaked 0.7 or more), so that a limit would refuse the best; its weight in the objective
    (`ObjectiveConfig.leakage`) prefers the least of them."""
    likeness_spread: float | None = 0.5
    """Largest likeness on the best quarter of the prompts less that on the worst, beyond the untuned model's own."""
    others_faceless: float | None = 0.25
    """Largest share of images of other people that have lost their face, beyond the untuned model's, 0 to 1. Of six
    such images four have to be lost before it is sure."""

    def __post_init__(self) -> None:
        limits = (("memorisation", 1.0), ("leakage", 1.0), ("likeness_spread", 2.0), ("others_faceless", 1.0))
        for name, upper in limits:
            value = getattr(self, name)
            if value is not None:
                _finite_number(f"limit of {name}", value, lower=0.0, upper=upper)


@dataclass(frozen=True, kw_only=True)
class PromptSet:
    """Prompts and seeds that every candidate is shown: one image for each prompt and each seed.

    A prompt may hold `{trigger}`. The image is made with the trigger in its place; the CLIP score uses the class word
    (`as_read_by_clip`), since CLIP has never seen the trigger.
    """

    prompts: tuple[str, ...]
    """At least one, none empty, none twice."""
    seeds: tuple[int, ...]
    """At least one, none twice, each 0 to 2**63 - 1."""

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError("there are no prompts; give at least one")
        for prompt in self.prompts:
            if not prompt.replace(TRIGGER_FIELD, "").strip():
                raise ValueError(f"the prompt {prompt!r} says nothing beside the trigger; describe the image to make")
            if unknown := re.search(r"\{[^{}]*\}|[{}]", prompt.replace(TRIGGER_FIELD, " ")):
                raise ValueError(f"the prompt {prompt!r} holds {unknown[0]}; only {TRIGGER_FIELD} is filled in")
        if len(set(self.prompts)) < len(self.prompts):
            twice = next(prompt for prompt in self.prompts if self.prompts.count(prompt) > 1)
            raise ValueError(f"the prompt {twice!r} is given twice; give each once and add seeds for more images")
        if not self.seeds:
            raise ValueError("there are no seeds; give at least one whole number")
        for seed in self.seeds:
            _whole_number("a seed", seed, least=0)
            if seed >= 2**63:
                raise ValueError(f"the seed {seed} is too large; give one below 2**63")
        if len(set(self.seeds)) < len(self.seeds):
            twice_seed = next(seed for seed in self.seeds if self.seeds.count(seed) > 1)
            raise ValueError(f"the seed {twice_seed} is given twice, so its images would be too; give each once")

    def of_others(self, count: int, seeds: tuple[int, ...], class_word: str = "") -> "PromptSet":
        """The same prompts with the class word for the trigger: whom they show is anybody, but not the person.

        Args:
            count: At most so many prompts, spread evenly over the set; at least 1.
            seeds: As for any prompt set.
            class_word: What the person is (`as_read_by_clip`).
        """
        texts = list(dict.fromkeys(as_read_by_clip(prompt, class_word) for prompt in self.prompts))
        count = min(count, len(texts))
        return PromptSet(prompts=tuple(texts[index * len(texts) // count] for index in range(count)), seeds=seeds)

    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(prompt index, seed) of every image, prompt by prompt."""
        return tuple((index, seed) for index in range(len(self.prompts)) for seed in self.seeds)


ADJECTIVES = "old|older|young|younger|elderly|middle-aged|little|tall|short|bearded|bald|smiling|beautiful|handsome"
CLASS_NOUNS = "person|man|woman|boy|girl|guy|lady|gentleman|male|female|child|kid|baby|teenager|adult|human|people"


def with_trigger(prompt: str, trigger: str) -> str:
    """The prompt that an image is made from; with an empty trigger, as anybody would read it."""
    return prompt.replace(TRIGGER_FIELD, trigger) if trigger else as_read_by_clip(prompt)


def as_read_by_clip(prompt: str, class_word: str = "") -> str:
    """The prompt with the class word in the trigger's place, for readers who have never seen the trigger.

    DreamBooth's prompts are `[trigger] [class noun]` and its scores leave the trigger out (Ruiz et al. 2023). A prompt
    may hold the class word behind the trigger already; it is not said twice.

    Args:
        prompt: May hold `{trigger}`.
        class_word: What the person is, such as `man`, where the prompt does not say it itself with a common noun for
            people behind the trigger, as in `{trigger} man` or `{trigger} old man`. Empty: `person`.
    """
    noun = rf"{re.escape(class_word)}|{CLASS_NOUNS}" if class_word else CLASS_NOUNS
    pattern = rf"{re.escape(TRIGGER_FIELD)}(?:\s+((?:(?:{ADJECTIVES})\s+)?(?:{noun}))(?!\w))?"
    return re.sub(pattern, lambda found: found[1] or class_word or "person", prompt, flags=re.IGNORECASE).strip()
