"""The configuration of one training run without a search: one YAML file, checked here. Imports no torch.

Every path in the file is read relative to the file's own folder, so that the same command resumes from anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from trainer.config import TrainingConfig
from trainer.data.buckets import AspectBuckets
from trainer.data.picture import HIGHEST_MAXIMUM_PIXELS, MAXIMUM_PIXELS
from trainer.data.prior_config import PriorConfig, check_prior, resolve_prior
from trainer.settings_file import ConfigurationError, explain, read_settings, resolve_folder, resolve_model


def _from_switch(value: Any) -> Any:
    return ({} if value else None) if isinstance(value, bool) else value


OptionalBuckets = Annotated[AspectBuckets | None, BeforeValidator(_from_switch)]
"""A setting that is `true` (the default buckets), `false` (none) or says what they are."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingPhotos(_Section):
    """The person's photos; all of them are trained on."""

    folder: Path
    """Photos (JPEG, PNG or WebP, by content), each with a caption in a text file of the same name."""
    trigger: str = "sks"
    """The word that stands for the person and replaces `{trigger}` in captions."""
    caption_template: str | None = Field(default=None, pattern=r"\S")
    """Caption of a photo that has no text file, such as `a photo of {trigger}`. Default: it is refused."""
    repeats: dict[str, Annotated[int, Field(ge=1, le=1000)]] = {}
    """How often photos come in an epoch, by patterns of their file names; the first that fits counts, else once."""
    maximum_pixels: int = Field(default=MAXIMUM_PIXELS, ge=4096, le=HIGHEST_MAXIMUM_PIXELS)
    """Most pixels (width x height) of a photo; larger ones are refused before they are decoded."""
    buckets: OptionalBuckets = None
    """Cut each photo to the size nearest to its shape, of about `training.resolution` squared pixels: true, or the
    `step` and `maximum_ratio` of their sides. Default: cut to the middle square."""
    prior: PriorConfig | None = None
    """Class images for prior preservation, which `training.prior_loss_weight` weighs. Default: none."""


class RunConfig(_Section):
    """Everything that `python -m trainer.run` needs to know."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the adapter: NAME.safetensors is the file for ComfyUI and A1111."""
    model: str
    """Base model: a folder in diffusers layout, a single .safetensors file or a hub name."""
    photos: TrainingPhotos
    training: TrainingConfig = TrainingConfig()
    output: Path
    """Folder of the adapter and of the states to resume from; made if missing."""
    save_every: int = Field(default=100, ge=1)
    """Optimizer steps between two saved states. The last step is always saved."""

    @field_validator("name")
    @classmethod
    def _leaves_the_other_file_alone(cls, name: str) -> str:
        if name == "pytorch_lora_weights":
            raise ValueError("this is the name of the file for diffusers; choose another")
        return name

    @model_validator(mode="after")
    def _buckets_fit(self) -> RunConfig:
        if self.photos.buckets is not None:
            self.photos.buckets.sizes(self.training.resolution)
        return self

    @field_validator("training")
    @classmethod
    def _looks_for_no_faces(cls, training: TrainingConfig) -> TrainingConfig:
        if training.face_loss_weight > 1:
            raise ValueError(
                f"face_loss_weight is {training.face_loss_weight!r}, but only a search looks for faces; set it to 1"
            )
        return training

    @model_validator(mode="after")
    def _class_images_where_they_are_weighed(self) -> RunConfig:
        check_prior(self.photos.prior, self.photos.trigger, [self.training])
        return self


def load_run_config(path: Path) -> RunConfig:
    """Read, check and resolve a configuration file.

    Raises:
        ConfigurationError: anything that is wrong with the file, all of it at once.
    """
    try:
        config = RunConfig.model_validate(read_settings(path))
    except ValidationError as error:
        raise ConfigurationError(f"{path} cannot be used:\n" + "\n".join(explain(error, RunConfig))) from error
    folder = path.parent
    photos = config.photos.model_copy(
        update={
            "folder": resolve_folder(config.photos.folder, folder),
            "prior": resolve_prior(config.photos.prior, folder),
        }
    )
    return config.model_copy(
        update={
            "model": resolve_model(config.model, folder, needed="model_index.json"),
            "photos": photos,
            "output": (folder / config.output.expanduser()).resolve(),
        }
    )
