"""The settings of a photo folder, which a training run and a search have in common. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator

from trainer.data.buckets import AspectBuckets, enlargement_warnings
from trainer.data.captions import caption_warnings, foreign_syntax
from trainer.data.photo_files import folder_warnings
from trainer.data.photos import CaptionedPhoto, PhotoFolderError, PhotoProblem, survey_photos
from trainer.data.picture import HIGHEST_MAXIMUM_PIXELS, MAXIMUM_PIXELS
from trainer.data.prior_config import PriorConfig, resolve_prior
from trainer.settings_file import Section, resolve_folder


def _from_switch(value: Any) -> Any:
    return ({} if value else None) if isinstance(value, bool) else value


class PhotoFolderConfig(Section):
    """The person's photos."""

    folder: Path
    """Photos (JPEG, PNG or WebP, by content), each with a caption in a text file of the same name."""
    trigger: str = Field(default="sks", pattern=r"^[^\x00-\x20\x7f\"\\`{}<>|][^\x00-\x1f\x7f\"\\`{}<>|]{0,99}$")
    """The word that stands for the person. It replaces `{trigger}` in captions, and in the prompts of a search."""
    caption_template: str | None = Field(default=None, pattern=r"\S")
    """Caption of a photo that has no text file, such as `a photo of {trigger}`. Default: it is refused."""
    repeats: dict[str, Annotated[int, Field(ge=1, le=1000)]] = Field(default={})
    """How often photos come in an epoch, by patterns of their file names, such as `close-up*: 3`; the first that fits
    counts, photos that none fits come once."""
    maximum_pixels: int = Field(default=MAXIMUM_PIXELS, ge=4096, le=HIGHEST_MAXIMUM_PIXELS)
    """Most pixels (width x height) of a photo; larger ones are refused before they are decoded."""
    buckets: Annotated[AspectBuckets | None, BeforeValidator(_from_switch)] = None
    """Cut each photo that is trained on to the size nearest to its shape, of about `training.resolution` squared
    pixels: true, or the `step` and `maximum_ratio` of their sides. A search compares faces on the middle square all the
    same. Default: cut to the middle square."""
    prior: PriorConfig | None = None
    """Class images for prior preservation, which `training.prior_loss_weight` (or the space of a search) weighs.
    Default: none."""

    @field_validator("caption_template")
    @classmethod
    def _holds_no_foreign_syntax(cls, template: str | None) -> str | None:
        if template is not None and (foreign := foreign_syntax(template)):
            raise ValueError(f"it holds {foreign[0]}; {foreign[1]}")
        return template

    def load(self) -> tuple[CaptionedPhoto, ...]:
        """All photos, sorted by name.

        Raises:
            PhotoFolderError: the folder cannot be used; lists all that is wrong with it.
        """
        photos, problems = self.survey()
        if problems:
            raise PhotoFolderError(self.folder, problems)
        return photos

    def survey(self) -> tuple[tuple[CaptionedPhoto, ...], tuple[PhotoProblem, ...]]:
        """The photos that can be used, sorted by name, and all that is wrong with the folder."""
        return survey_photos(
            self.folder,
            self.trigger,
            maximum_pixels=self.maximum_pixels,
            caption_template=self.caption_template,
            repeats=self.repeats,
        )

    def warnings(self, photos: Sequence[CaptionedPhoto], resolution: int | None = None) -> tuple[str, ...]:
        """What to know of the folder and its captions before anything is trained, a line each.

        Args:
            photos: those that are used, cropped as they will be.
            resolution: side of training images in pixels; None leaves enlargement out.
        """
        captions = [(photo.path.name, photo.caption) for photo in photos]
        small = () if resolution is None else enlargement_warnings(photos, self.buckets, resolution)
        return (*folder_warnings(self.folder), *caption_warnings(captions, self.trigger), *small)

    def resolved(self, folder: Path) -> Self:
        """The same with the folders that a configuration file in `folder` names.

        Raises:
            ConfigurationError: one of them does not exist.
        """
        return self.model_copy(
            update={"folder": resolve_folder(self.folder, folder), "prior": resolve_prior(self.prior, folder)}
        )
