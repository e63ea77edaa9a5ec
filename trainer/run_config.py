"""The configuration of one training run without a search: one YAML file, checked here. Imports no torch.

Every path in the file is read relative to the file's own folder, so that the same command resumes from anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from trainer.config import TrainingConfig
from trainer.picture import HIGHEST_MAXIMUM_PIXELS, MAXIMUM_PIXELS
from trainer.settings_file import ConfigurationError, explain, read_settings, resolve_folder, resolve_model


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

    @field_validator("training")
    @classmethod
    def _looks_for_no_faces(cls, training: TrainingConfig) -> TrainingConfig:
        if training.face_loss_weight > 1:
            raise ValueError(
                f"face_loss_weight is {training.face_loss_weight!r}, but only a search looks for faces; set it to 1"
            )
        return training


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
    photos = config.photos.model_copy(update={"folder": resolve_folder(config.photos.folder, folder)})
    return config.model_copy(
        update={
            "model": resolve_model(config.model, folder, needed="model_index.json"),
            "photos": photos,
            "output": (folder / config.output.expanduser()).resolve(),
        }
    )
