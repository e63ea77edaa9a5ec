"""The families of base models that can be fine-tuned, by the diffusers pipeline that their model_index.json names."""

import json
from pathlib import Path

from trainer.models.base_model import BaseModel
from trainer.models.flux import Flux
from trainer.models.stable_diffusion import StableDiffusion
from trainer.models.stable_diffusion_3 import StableDiffusion3
from trainer.models.stable_diffusion_xl import StableDiffusionXL

FAMILIES: dict[str, type[BaseModel]] = {
    family.pipeline_class.__name__: family for family in (StableDiffusion, StableDiffusionXL, StableDiffusion3, Flux)
}
"""By the name of the pipeline's class."""


def family_of(folder: Path, name: str | Path) -> type[BaseModel]:
    """The family of the model in a folder of diffusers' layout.

    Args:
        folder: holds model_index.json.
        name: what the user called the model.

    Raises:
        ValueError: the folder does not say, or the family is not known here.
    """
    index = folder / "model_index.json"
    try:
        kind = str(json.loads(index.read_text(encoding="utf-8"))["_class_name"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"base model {name} has no readable model_index.json ({error!r}); name a folder or hub model in the "
            "diffusers layout"
        ) from error
    if kind not in FAMILIES:
        known = ", ".join(family.title for family in FAMILIES.values())
        raise ValueError(f"base model {name} is a {kind}; only {known} pipelines can be fine-tuned")
    return FAMILIES[kind]
