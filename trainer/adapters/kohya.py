"""The export of a saved adapter to ComfyUI and A1111, with the names and alpha of kohya's and LyCORIS' files."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from safetensors.torch import save_file
from torch import Tensor

from trainer.adapters.adapter_files import (
    BASE_TEXT,
    FAMILY_KEY,
    FIRST_FAMILY,
    TRIGGER_TEXT,
    WEIGHTS_FILE,
    part_config,
    peft_name,
    read_adapter_file,
)
from trainer.adapters.method import matches
from trainer.adapters.published_names import published_name
from trainer.config import READ_BY_DIFFUSERS_ONLY
from trainer.files import write_file
from trainer.models.base_model import BaseModel
from trainer.models.families import FAMILIES
from trainer.models.stable_diffusion_xl import LAYERS_PER_BLOCK, LAYERS_TEXT, StableDiffusionXL

VERSION_TEXT = "ss_base_model_version"
MODEL_TEXTS = (VERSION_TEXT, "ss_v2")
"""Texts of kohya's header that a saved adapter's says itself, where its base model is not the family's usual one."""
KOHYA_TEXTS = {TRIGGER_TEXT: "modelspec.trigger_phrase", BASE_TEXT: "ss_base_model_sha256"}
LAYER_AND_MATRIX = re.compile(r"(.+?)\.((?:lora|lokr|hada)_.+)")


def export_kohya(folder: Path, target: Path) -> Path:
    """Writes a saved adapter to the file `target` as ComfyUI and, where it has the family, A1111 read it.

    For UNets these are kohya's or LyCORIS' keys: `lora_unet_<layer>.lora_down.weight` is A, `.lora_up.weight` is B and
    `.alpha` the numerator of the scale. Layers of the UNet have diffusers' names, those of SDXL its published ones
    (`trainer.adapters.published_names`); the text encoder's begin with `lora_te_text_model_`, those of SDXL's two with
    `lora_te1_` and `lora_te2_`. LoKr and LoHa have LyCORIS' names. The header tells the network's dimension, alpha and
    arguments, the base model's version, and the trigger word and the base model's hash if that of the saved adapter
    does. kohya's layers of Stable Diffusion 3 and Flux are other, fused ones; of these families ComfyUI reads
    diffusers' names, `transformer.<layer>.lora_A.weight`; the scale is part of B, so that diffusers, which takes alpha
    from elsewhere, reads the same file alike. In float32.

    Raises:
        ValueError: there is no readable adapter file with its PEFT config, or neither program would read the kind of
            adapter as it was trained (`trainer.config.READ_BY_DIFFUSERS_ONLY`).
    """
    path = Path(folder) / WEIGHTS_FILE
    tensors, header = read_adapter_file(path)
    if LORA_ADAPTER_METADATA_KEY not in header:
        raise ValueError(f"{path} does not say its alpha; save the adapter with save_adapter")
    config: dict[str, Any] = json.loads(header[LORA_ADAPTER_METADATA_KEY])
    family = FAMILIES[header.get(FAMILY_KEY, FIRST_FAMILY)]
    layers: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
    for name, weight in tensors.items():
        part, rest = name.split(".", 1)
        layer, matrix = LAYER_AND_MATRIX.fullmatch(rest).groups()  # type: ignore[union-attr] # save_adapter's names
        layers[part, layer][peft_name(matrix)] = weight
    exported: dict[str, Tensor] = {}
    for (part, layer), matrices in layers.items():
        peft_config = part_config(config, part)
        if peft_config.get("use_dora"):
            raise ValueError(f"{path} is a DoRA; {READ_BY_DIFFUSERS_ONLY['dora']}: use it with diffusers")
        if family.kohya_prefixes:
            written, key = layer_tensors(matrices, layer, peft_config), kohya_key(family, part, layer, header)
        else:
            written, key = plain_tensors(matrices, layer, peft_config), f"{part}.{layer}"
        exported |= {f"{key}.{name}": value.contiguous() for name, value in written.items()}
    texts = {
        **(network_texts(part_config(config, family.parts[0])) if family.kohya_prefixes else {}),
        VERSION_TEXT: family.kohya_version,
        **{name: header[name] for name in MODEL_TEXTS if name in header},
        **{theirs: header[ours] for ours, theirs in KOHYA_TEXTS.items() if ours in header},
    }
    write_file(Path(target), lambda temporary: save_file(exported, temporary, metadata=texts))
    return Path(target)


def kohya_key(family: type[BaseModel], part: str, layer: str, header: Mapping[str, str]) -> str:
    """kohya's name of a layer of a UNet or its text encoders.

    Args:
        family: has such names.
        part: of the model.
        layer: its name in diffusers' or transformers' module.
        header: of the adapter's file.
    """
    if family is StableDiffusionXL and part == "unet":
        layer = published_name(layer, int(header.get(LAYERS_TEXT, LAYERS_PER_BLOCK)))
    prefixes = {str(own): prefix for own, prefix in family.kohya_prefixes.items()}
    return f"{prefixes[part]}_{layer.replace('.', '_')}"


def layer_tensors(tensors: Mapping[str, Tensor], layer: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of `layer` under the other readers' names, with an `alpha`.

    Those readers scale by alpha / rank, the rank being what the tensors show. diffusers' also takes one alpha for the
    whole of a part: where a layer's differs (by a pattern, or for rsLoRA by its rank), the rest is multiplied into B.
    LoKr of two full matrices, which they do not scale, gets its scale multiplied in.

    Args:
        tensors: under PEFT's names within the layer (`lora_A.weight`, `lokr_w1`, `hada_w1_a`, ...).
        layer: its name within the model.
        config: PEFT's description of the layers of this part.
    """
    kind = config["peft_type"]
    if kind == "LORA":
        rank = tensors["lora_A.weight"].shape[0]
        own = _setting("lora_alpha", "alpha_pattern", layer, config) * (math.sqrt(rank) if config["use_rslora"] else 1)
        common = network_alpha(config)
        up = tensors["lora_B.weight"]
        return {
            "lora_down.weight": tensors["lora_A.weight"],
            "lora_up.weight": up if own == common else up * (own / common),
            "alpha": torch.tensor(common),
        }
    alpha = _setting("alpha", "alpha_pattern", layer, config)
    if kind == "LOKR" and {"lokr_w1", "lokr_w2"} <= tensors.keys():
        scale = alpha / _setting("r", "rank_pattern", layer, config)
        return {**tensors, "lokr_w1": tensors["lokr_w1"] * scale, "alpha": torch.tensor(1.0)}
    return {**tensors, "alpha": torch.tensor(alpha)}


def plain_tensors(tensors: Mapping[str, Tensor], layer: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A LoRA's matrices under their own names with its scale multiplied into B.

    Where no tensor is named `alpha`, ComfyUI scales by 1. So does diffusers where the header has no config; it knows no
    tensor of that name beside these.

    Args:
        tensors: `lora_A.weight` and `lora_B.weight`.
        layer: its name within the model.
        config: PEFT's description of the layers of this part.
    """
    rank = tensors["lora_A.weight"].shape[0]
    alpha = _setting("lora_alpha", "alpha_pattern", layer, config)
    scale = alpha / (math.sqrt(rank) if config["use_rslora"] else rank)
    return {"lora_A.weight": tensors["lora_A.weight"], "lora_B.weight": tensors["lora_B.weight"] * scale}


def network_texts(config: Mapping[str, Any]) -> dict[str, str]:
    """The `ss_network_*` texts of a file's header: module, dimension, alpha and arguments.

    Args:
        config: PEFT's description of the UNet's layers.
    """
    kind, rank, alpha = config["peft_type"], int(config["r"]), network_alpha(config)
    convolutions = "conv1" in config["target_modules"]
    arguments: dict[str, str] = {"conv_dim": str(rank), "conv_alpha": str(alpha)} if convolutions else {}
    plain = kind == "LORA"
    if not plain:
        arguments["algo"] = str(kind).lower()
    return {
        "ss_network_module": "networks.lora" if plain else "lycoris.kohya",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_network_args": json.dumps(arguments),
    }


def network_alpha(config: Mapping[str, Any]) -> float:
    """The alpha of a part as a whole, for readers that scale by alpha / rank.

    Args:
        config: PEFT's description of the part's layers.
    """
    alpha = float(config["lora_alpha" if config["peft_type"] == "LORA" else "alpha"])
    return alpha * math.sqrt(config["r"]) if config.get("use_rslora") else alpha


def _setting(name: str, patterns: str, layer: str, config: Mapping[str, Any]) -> float:
    """The layer's own value where a pattern gives it one, else that of all."""
    own = (value for pattern, value in config[patterns].items() if matches(pattern, layer))
    return float(next(own, config[name]))
