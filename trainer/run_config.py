"""The configuration of one training run without a search: one YAML file, checked here. Imports no torch.

Every path in the file is read relative to the file's own folder, so that the same command resumes from anywhere.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator

from trainer.config import TrainingConfig, check_text_encoder_settings
from trainer.data.photos_config import PhotoFolderConfig
from trainer.data.prior_config import check_prior
from trainer.settings_file import ConfigurationError, Name, Section, explain, path_errors, read_settings, resolve_model


class RunConfig(Section):
    """Everything that `python -m trainer.run` needs to know."""

    name: Name
    """Name of the adapter: NAME.safetensors is the file for ComfyUI and A1111."""
    model: str
    """Base model: a folder in diffusers layout, a single .safetensors file or a hub name."""
    photos: PhotoFolderConfig
    """The person's photos; all of them are trained on."""
    training: TrainingConfig = TrainingConfig()
    output: Path
    """Folder of the adapter and of the states to resume from; made if missing."""
    save_every: int = Field(default=100, ge=1)
    """Optimizer steps between two saved states. The last step is always saved."""

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

    @field_validator("training")
    @classmethod
    def _text_encoder_settings_count(cls, training: TrainingConfig) -> TrainingConfig:
        check_text_encoder_settings([training])
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
        config = RunConfig.model_validate(read_settings(path, RunConfig))
    except ValidationError as error:
        raise ConfigurationError(f"{path} cannot be used:\n" + "\n".join(explain(error, RunConfig))) from error
    folder = path.parent
    with path_errors():
        output = (folder / config.output.expanduser()).resolve()
        output.exists()  # the system says whether it can be a path at all
        return config.model_copy(
            update={
                "model": resolve_model(config.model, folder, needed="model_index.json"),
                "photos": config.photos.resolved(folder),
                "output": output,
            }
        )
