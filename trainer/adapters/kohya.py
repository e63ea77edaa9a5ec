"""One adapted layer under the names and with the alpha that kohya's and LyCORIS' readers expect."""

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trainer.adapters.method import matches

MAGNITUDE = "lora_magnitude_vector"


def layer_tensors(tensors: Mapping[str, Tensor], layer: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of `layer` in the other readers' words, with an `alpha`.

    Those readers scale by alpha / rank, the rank being what the tensors show. diffusers' also takes one alpha for the
    whole of a part: where a layer's differs (by a pattern, or for rsLoRA by its rank), the rest is multiplied into B.
    LoKr of two full matrices, which they do not scale, gets its scale multiplied in. DoRA's magnitude becomes
    `dora_scale`, one value an output channel.

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
        written = {
            "lora_down.weight": tensors["lora_A.weight"],
            "lora_up.weight": up if own == common else up * (own / common),
            "alpha": torch.tensor(common),
        }
        if MAGNITUDE in tensors:
            dimensions = tensors["lora_A.weight"].ndim
            written["dora_scale"] = tensors[MAGNITUDE].reshape(-1, *[1] * (dimensions - 1))
        return written
    alpha = _setting("alpha", "alpha_pattern", layer, config)
    if kind == "LOKR" and {"lokr_w1", "lokr_w2"} <= tensors.keys():
        scale = alpha / _setting("r", "rank_pattern", layer, config)
        return {**tensors, "lokr_w1": tensors["lokr_w1"] * scale, "alpha": torch.tensor(1.0)}
    return {**tensors, "alpha": torch.tensor(alpha)}


def plain_tensors(tensors: Mapping[str, Tensor], layer: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A LoRA's matrices under their own names with its scale multiplied into B.

    For readers that know neither alpha nor config: they take alpha for the rank that A shows, and so scale by 1.

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
    plain = kind == "LORA" and not config.get("use_dora")
    if not plain:
        arguments["algo"] = "lora" if kind == "LORA" else str(kind).lower()
    if config.get("use_dora"):
        arguments["dora_wd"] = "True"
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
