"""Adapters on disk: the diffusers layout (with alpha), and kohya keys for ComfyUI and A1111."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoHaConfig, LoKrConfig, PeftConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainer.adapters.adapter import ADAPTER_NAME, Adapter, check_no_adapter
from trainer.adapters.kohya import MAGNITUDE, layer_tensors, network_texts, plain_tensors
from trainer.files import write_file
from trainer.models.base_model import BaseModel, Part
from trainer.models.families import FAMILIES
from trainer.models.linear_layers import quicken_linear_layers
from trainer.models.pickled import check_has_safetensors
from trainer.models.quiet import quiet_loading

WEIGHTS_FILE = "pytorch_lora_weights.safetensors"
FIRST_FAMILY = "StableDiffusionPipeline"
FAMILY_KEY = "likeness_family"
"""Header text that names the pipeline class of families other than Stable Diffusion 1.x and 2.x."""
TRIGGER_TEXT = "trigger"
BASE_TEXT = "base_model_sha256"
"""Names of header texts: the word that stands for the person, and BaseModel.sha256."""
KOHYA_TEXTS = {TRIGGER_TEXT: "modelspec.trigger_phrase", BASE_TEXT: "ss_base_model_sha256"}
LAYER_AND_MATRIX = re.compile(r"(.+?)\.((?:lora|lokr|hada)_.+)")
LYCORIS_KINDS: dict[str, type[PeftConfig]] = {"LOKR": LoKrConfig, "LOHA": LoHaConfig}


def save_adapter(adapter: Adapter, folder: Path, *, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes `folder`/pytorch_lora_weights.safetensors, which `pipeline.load_lora_weights(folder)` reads.

    PEFT's config travels in the file's header: without it diffusers takes alpha for rank and the effect changes. The
    pipeline reads no LoKr and no LoHa; `load_adapter` does.

    Args:
        adapter: stays attached.
        folder: made if missing; the file in it is replaced in one move.
        metadata: further texts for the header, for example the seed or the photos' hash.

    Returns:
        The path of the file.
    """
    family = type(adapter.base)
    texts = dict(metadata or {})
    if reserved := sorted({"format", LORA_ADAPTER_METADATA_KEY} & texts.keys()):
        raise ValueError(f"the metadata name {reserved[0]!r} is used by diffusers itself; choose another")
    if family.pipeline_class.__name__ != FIRST_FAMILY:
        texts[FAMILY_KEY] = family.pipeline_class.__name__
    path = Path(folder) / WEIGHTS_FILE
    layers = {part: _portable_names(part, adapter.state_dict(part)) for part in adapter.parts}
    configs = {part: _plain_config(adapter, part) for part in adapter.parts}

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
            described = _described(config or {}, part)
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
        quicken_linear_layers(base.module(part))
    adapter.train(False)
    return adapter


def export_kohya(folder: Path, target: Path) -> Path:
    """Writes a saved adapter to the file `target` as ComfyUI and, where it has the family, A1111 read it.

    For UNets these are kohya's or LyCORIS' keys: `lora_unet_<layer>.lora_down.weight` is A, `.lora_up.weight` is B and
    `.alpha` the numerator of the scale; the text encoder's layers begin with `lora_te_text_model_`, those of SDXL's two
    with `lora_te1_` and `lora_te2_`. DoRA, LoKr and LoHa have LyCORIS' names, see trainer.adapters.kohya. The header
    tells the network's dimension, alpha and arguments, the base model's family, and the trigger word and the base
    model's hash if that of the saved adapter does. kohya's layers of Stable Diffusion 3 and Flux are other, fused ones;
    of these families ComfyUI reads diffusers' names, `transformer.<layer>.lora_A.weight`, but no alpha, so the scale is
    part of B. In float32.

    Raises:
        ValueError: there is no readable adapter file with its PEFT config.
    """
    path = Path(folder) / WEIGHTS_FILE
    tensors, header = read_adapter_file(path)
    if LORA_ADAPTER_METADATA_KEY not in header:
        raise ValueError(f"{path} does not say its alpha; save the adapter with save_adapter")
    config: dict[str, Any] = json.loads(header[LORA_ADAPTER_METADATA_KEY])
    family = FAMILIES[header.get(FAMILY_KEY, FIRST_FAMILY)]
    prefixes = {str(part): prefix for part, prefix in family.kohya_prefixes.items()}
    layers: dict[tuple[str, str], dict[str, Tensor]] = defaultdict(dict)
    for name, weight in tensors.items():
        part, rest = name.split(".", 1)
        layer, matrix = LAYER_AND_MATRIX.fullmatch(rest).groups()  # type: ignore[union-attr] # save_adapter's names
        layers[part, layer][_peft_name(matrix)] = weight
    exported: dict[str, Tensor] = {}
    for (part, layer), matrices in layers.items():
        described = _described(config, part)
        if prefixes:
            written = layer_tensors(matrices, layer, described)
            key = f"{prefixes[part]}_{layer.replace('.', '_')}"
        else:
            written, key = plain_tensors(matrices, layer, described), f"{part}.{layer}"
        exported |= {f"{key}.{name}": value.contiguous() for name, value in written.items()}
    texts = {
        **(network_texts(_described(config, family.parts[0])) if prefixes else {}),
        "ss_base_model_version": family.kohya_version,
        **{theirs: header[ours] for ours, theirs in KOHYA_TEXTS.items() if ours in header},
    }
    write_file(Path(target), lambda temporary: save_file(exported, temporary, metadata=texts))
    return Path(target)


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
        _peft_name(name.removeprefix(f"{part}.")): weight
        for name, weight in tensors.items()
        if name.startswith(f"{part}.")
    }
    if part.startswith("text_encoder") and not hasattr(adapter.base.module(part), "text_model"):
        return {name.removeprefix("text_model."): weight for name, weight in found.items()}
    return found


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


def _peft_name(name: str) -> str:
    return name.removesuffix(".weight") if name.endswith(f"{MAGNITUDE}.weight") else name


def _described(config: Mapping[str, Any], part: str) -> dict[str, Any]:
    """PEFT's description of one part out of a file's header."""
    return {name.removeprefix(f"{part}."): value for name, value in config.items() if name.startswith(f"{part}.")}


def _plain_config(adapter: Adapter, part: Part) -> dict[str, Any]:
    """PEFT's config with sets as sorted lists, so that equal adapters make equal files."""
    config: dict[str, Any] = adapter.peft_config(part).to_dict()
    return {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}
