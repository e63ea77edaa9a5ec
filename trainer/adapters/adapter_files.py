"""Adapters on disk in the diffusers layout, with their alpha; `trainer.adapters.kohya` exports them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoHaConfig, LoKrConfig, PeftConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainer.adapters.adapter import ADAPTER_NAME, Adapter, check_no_adapter
from trainer.files import write_file
from trainer.models.base_model import BaseModel, Part
from trainer.models.linear_layers import speed_up_linear_layers
from trainer.models.model_files import check_has_safetensors
from trainer.models.quiet import quiet_loading

MAGNITUDE = "lora_magnitude_vector"
"""Name of DoRA's magnitudes within a layer."""
WEIGHTS_FILE = "pytorch_lora_weights.safetensors"
FIRST_FAMILY = "StableDiffusionPipeline"
FAMILY_KEY = "likeness_family"
"""Header text that names the pipeline class of families other than Stable Diffusion 1.x and 2.x."""
TRIGGER_TEXT = "trigger"
BASE_TEXT = "base_model_sha256"
"""Names of header texts: the word that stands for the person, and BaseModel.sha256."""
LYCORIS_KINDS: dict[str, type[PeftConfig]] = {"LOKR": LoKrConfig, "LOHA": LoHaConfig}


def save_adapter(adapter: Adapter, folder: Path, *, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes `folder`/pytorch_lora_weights.safetensors, which `pipeline.load_lora_weights(folder)` reads.

    The file's header carries PEFT's config: without it diffusers takes alpha for rank and the effect changes. The
    pipeline reads no LoKr and no LoHa; `load_adapter` does.

    Args:
        adapter: stays attached.
        folder: made if missing; the file in it is replaced in one move.
        metadata: further texts for the header, for example the seed or the photos' hash.

    Returns:
        The path of the file.

    Raises:
        ValueError: a weight is not finite, or the metadata uses a name of diffusers' own.
    """
    family = type(adapter.base)
    texts = {**adapter.base.export_texts, **(metadata or {})}
    if reserved := sorted({"format", LORA_ADAPTER_METADATA_KEY} & texts.keys()):
        raise ValueError(f"the metadata name {reserved[0]!r} is used by diffusers itself; choose another")
    if family.pipeline_class.__name__ != FIRST_FAMILY:
        texts[FAMILY_KEY] = family.pipeline_class.__name__
    path = Path(folder) / WEIGHTS_FILE
    layers = {part: _portable_names(part, adapter.state_dict(part)) for part in adapter.parts}
    configs = {part: _plain_config(adapter, part) for part in adapter.parts}
    if not all(weight.isfinite().all() for weights in layers.values() for weight in weights.values()):
        raise ValueError(f"the adapter for {path} holds weights that are not finite; use a lower learning rate")

    def write(temporary: Path) -> None:
        family.pipeline_class.save_lora_weights(
            temporary.parent,
            **{f"{part}_lora_layers": dict(layers[part]) for part in adapter.parts},
            **{f"{part}_lora_adapter_metadata": configs[part] for part in adapter.parts},
            weight_name=temporary.name,
        )
        if texts:
            tensors, header = read_adapter_file(temporary)
            save_file(tensors, temporary, metadata={**header, **texts})

    write_file(path, write)
    return path


def load_adapter(base: BaseModel, folder: Path) -> Adapter:
    """Puts a saved adapter into `base` for generation, a LoRA through diffusers' own loader; detach it when done.

    Its weights are float32 as they were trained, whatever the base's format.

    Raises:
        ValueError: there is no readable adapter file, or the base carries an adapter already.
    """
    check_no_adapter(base)
    check_has_safetensors(Path(folder))
    tensors, header = read_adapter_file(Path(folder) / WEIGHTS_FILE)
    config = json.loads(header[LORA_ADAPTER_METADATA_KEY]) if LORA_ADAPTER_METADATA_KEY in header else None
    parts = tuple(part for part in base.parts if any(name.startswith(f"{part}.") for name in tensors))
    adapter = Adapter(base=base, parts=parts)
    try:
        for part in parts:
            described = part_config(config or {}, part)
            kind = LYCORIS_KINDS.get(described.get("peft_type", ""))
            if kind is not None:  # diffusers' loader knows LoRA only
                getattr(base, part).add_adapter(kind(**described), adapter_name=ADAPTER_NAME)
                adapter.load_state_dict(part, weights_of_part(adapter, part, tensors))
                continue
            with quiet_loading():
                if part == base.parts[0]:
                    base.denoiser.load_lora_adapter(tensors, prefix=part, adapter_name=ADAPTER_NAME, metadata=config)
                else:
                    base.pipeline_class.load_lora_into_text_encoder(
                        tensors, None, base.module(part), prefix=part, adapter_name=ADAPTER_NAME, metadata=config
                    )
    except BaseException:
        adapter.detach()
        raise
    for part in parts:
        for weight in adapter.parameters(part):
            weight.requires_grad_(False)
            weight.data = weight.data.float()
        if base.dtype != torch.float32:  # to which the loaders have rounded what is in the file
            adapter.load_state_dict(part, weights_of_part(adapter, part, tensors))
        speed_up_linear_layers(base.module(part))
    adapter.train(False)
    return adapter


def read_adapter_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header texts of a safetensors file.

    Raises:
        ValueError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}); use another checkpoint") from error


def weights_of_part(adapter: Adapter, part: Part, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part of an adapter file, under the names of `adapter.state_dict(part)`."""
    found = {
        peft_name(name.removeprefix(f"{part}.")): weight
        for name, weight in tensors.items()
        if name.startswith(f"{part}.")
    }
    if part.startswith("text_encoder") and not hasattr(adapter.base.module(part), "text_model"):
        return {name.removeprefix("text_model."): weight for name, weight in found.items()}
    return found


def part_config(config: Mapping[str, Any], part: str) -> dict[str, Any]:
    """PEFT's config of one part out of a file's header, which holds all parts'."""
    return {name.removeprefix(f"{part}."): value for name, value in config.items() if name.startswith(f"{part}.")}


def peft_name(name: str) -> str:
    """PEFT's name of a matrix within its layer: DoRA's magnitude goes without the `.weight` that files give it."""
    return name.removesuffix(".weight") if name.endswith(f"{MAGNITUDE}.weight") else name


def _portable_names(part: Part, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names as every tool knows them.

    Recent transformers dropped the `text_model.` in front, the files keep it; and it finds the magnitudes of DoRA only
    where their name ends in `.weight`, which PEFT and the UNet's loader leave out.
    """
    portable = {}
    for name, weight in weights.items():
        if part.startswith("text_encoder"):
            name = name if name.startswith("text_model.") else f"text_model.{name}"
            name = f"{name}.weight" if name.endswith(MAGNITUDE) else name
        portable[name] = weight.detach().cpu().contiguous()
    return portable


def _plain_config(adapter: Adapter, part: Part) -> dict[str, Any]:
    """PEFT's config with sets as sorted lists, so that equal adapters make equal files."""
    config: dict[str, Any] = adapter.peft_config(part).to_dict()
    return {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
