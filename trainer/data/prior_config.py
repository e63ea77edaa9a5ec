"""The class images for prior preservation, checked when they are configured. Imports no torch.

(DreamBooth, Ruiz et al. 2022, arXiv:2208.12242.) Class images show others of the person's kind, such as any man; the
model keeps learning them beside the person's photos, so that not every man turns into the person.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.config import TrainingConfig
from trainer.data.captions import TRIGGER, foreign_syntax, names_person
from trainer.settings_file import resolve_folder

IMAGES = 100


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """Class images: those of a folder, or else drawn by the untuned base model.

    Raises:
        ValueError: a value lies outside its range; the message names the field, the value and the remedy.
    """

    prompt: str
    """What class images show, without the trigger: `a photo of a man`. They are drawn from it, and it is the caption of
    those in a folder that have no text file."""

    folder: Path | None = None
    """Class images of your own (JPEG, PNG or WebP), with captions as photos have them; all are used. Default: the base
    model draws them."""

    images: int | None = None
    """How many are drawn, 1 ... 100,000, with the seeds from 0 on; None: 100. Only without a folder."""

    steps: int = 30
    """Denoising steps of the base model's own sampler for a drawn image, 1 ... 1000."""

    guidance_scale: float | None = None
    """Guidance of a drawn image, 0 ... 100; None: 7.5, or 3.5 of Flux, which reads it as an input. Of the other
    families it is classifier-free, and 1 or less turns it off."""

    batch_size: int = 4
    """Images drawn together, 1 ... 1024. It changes speed and memory, and of the images no more than rounding."""

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError(f"prompt is {self.prompt!r}; say what class images show, such as 'a photo of a man'")
        if TRIGGER in self.prompt:
            raise ValueError(f"prompt is {self.prompt!r}; class images are not of the person: leave out {TRIGGER}")
        if foreign := foreign_syntax(self.prompt):
            raise ValueError(f"prompt is {self.prompt!r}, which holds {foreign[0]}; {foreign[1]}")
        if self.folder is not None and self.images is not None:
            raise ValueError(
                f"images is {self.images}, but the class images of the folder {self.folder} are all used and none is "
                "drawn; leave out one of the two"
            )
        ranges = {"images": (1, 100_000), "steps": (1, 1000), "batch_size": (1, 1024)}
        for name, (lowest, highest) in ranges.items():
            value = getattr(self, name)
            if name == "images" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
                raise ValueError(f"{name} is {value!r}; it must be a whole number from {lowest} to {highest}")
        guidance = self.guidance_scale
        if guidance is not None and not (math.isfinite(guidance) and 0 <= guidance <= 100):
            raise ValueError(f"guidance_scale is {guidance!r}; it must lie between 0 and 100 (7.5 is usual)")

    @property
    def caption(self) -> str:
        """The prompt as one line."""
        return " ".join(self.prompt.split())

    @property
    def count(self) -> int:
        """How many images the base model draws; 0 where a folder holds them."""
        return 0 if self.folder is not None else self.images or IMAGES

    @property
    def source(self) -> str:
        """Where class images come from, in words."""
        return f"{self.count} drawn from {self.caption!r}" if self.folder is None else f"those in {self.folder}"


def check_prior(prior: PriorConfig | None, trigger: str, trainings: Iterable[TrainingConfig]) -> None:
    """Checks that class images are given where they are weighed, and weighed where they are given.

    Args:
        prior: the class images, if any.
        trigger: the word that stands for the person.
        trainings: what jobs may be asked to do.

    Raises:
        ValueError: they are not, or their prompt names the person; the message has the remedy.
    """
    weight = max(training.prior_loss_weight for training in trainings)
    if prior is None and weight > 0:
        raise ValueError(no_class_images(weight))
    if prior is not None and weight == 0:
        raise ValueError(
            "photos.prior gives class images, but prior_loss_weight is 0 and nothing would learn from them; set "
            "training.prior_loss_weight (1 is usual) or name it in space, or leave photos.prior out"
        )
    if prior is not None and names_person(prior.prompt, trigger):
        raise ValueError(
            f"photos.prior.prompt is {prior.prompt!r}, which holds the trigger {trigger!r}; class images are not of "
            "the person: leave it out"
        )


def resolve_prior(prior: PriorConfig | None, folder: Path) -> PriorConfig | None:
    """`prior` with the folder that a file in `folder` names.

    Raises:
        ConfigurationError: there is none.
    """
    if prior is None or prior.folder is None:
        return prior
    return replace(prior, folder=resolve_folder(prior.folder, folder))


def no_class_images(weight: float) -> str:
    """The message where class images are weighed and there are none."""
    return (
        f"prior_loss_weight is {weight!r}, but there are no class images; give photos.prior a prompt such as "
        "'a photo of a man' (and a folder, if you have such images), or set the weight to 0"
    )
