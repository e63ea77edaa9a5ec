"""What A1111 and ComfyUI make of the exported file: their formulas and names, written anew from their source.

A1111: AUTOMATIC1111/stable-diffusion-webui, extensions-builtin/Lora: network.py (formulas, version) and networks.py.
ComfyUI: comfyanonymous/ComfyUI, comfy/weight_adapter/base.py and lora.py. kohya: kohya-ss/sd-scripts, networks/lora.py
and library/sdxl_model_util.py.
"""

import copy
import dataclasses
import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from tests.trainer.conftest import FULL, MakeConfig
from tests.trainer.original_layout import published_unet_names
from trainer.adapters.adapter import attach_adapter
from trainer.adapters.adapter_files import load_adapter, read_adapter_file, save_adapter
from trainer.adapters.kohya import export_kohya, kohya_key
from trainer.adapters.method import adapted_layers
from trainer.models.base_model import BaseModel
from trainer.models.stable_diffusion import StableDiffusion
from trainer.models.stable_diffusion_xl import StableDiffusionXL
from trainer.models.targets import UNET_TARGETS

from .test_adapter import randomise

Read = Callable[[Tensor, Mapping[str, Tensor], float], Tensor]
"""(weight of the layer, tensors of the file, strength) to the weight that images are made with."""
UnetOutput = Callable[[BaseModel], Tensor]


def update(weight: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """(alpha / rank) B A, as all of them compute it of a linear layer or a convolution."""
    down, up = values["lora_down.weight"], values["lora_up.weight"]
    scale = float(values["alpha"]) / down.shape[0]
    product = torch.matmul(up.flatten(1), down.flatten(1)).reshape(weight.shape)
    return torch.mul(product, scale)


def by_axis(matrix: Tensor, axis: int) -> Tensor:
    """Norms of the outputs (0) or inputs (1) of a layer, in a shape that broadcasts over its weight."""
    others = [dimension for dimension in range(matrix.ndim) if dimension != axis]
    norms: Tensor = torch.linalg.vector_norm(matrix, dim=others, keepdim=True)
    return norms


def by_kohya(weight: Tensor, values: Mapping[str, Tensor], strength: float) -> Tensor:
    assert "dora_scale" not in values, "networks.lora knows none"
    return weight + strength * update(weight, values)


def by_a1111(weight: Tensor, values: Mapping[str, Tensor], strength: float) -> Tensor:
    """DoRA: `dora_scale` over the norm of each INPUT, whatever the shape of `dora_scale`."""
    change = update(weight, values)
    if "dora_scale" in values:
        moved = weight + change
        change = moved * (values["dora_scale"] / by_axis(moved, 1)) - weight
    return weight + strength * change


def by_comfyui(weight: Tensor, values: Mapping[str, Tensor], strength: float) -> Tensor:
    """DoRA by output: over the norm of the weight WITHOUT the change."""
    moved = weight + update(weight, values)
    if "dora_scale" not in values:
        return weight + strength * (moved - weight)
    scale = values["dora_scale"]
    norm = by_axis(weight, 0) if scale.shape[0] == weight.shape[0] else by_axis(moved, 1)
    return weight + strength * (moved * (scale / norm) - weight)


READERS: Mapping[str, Read] = {"kohya": by_kohya, "A1111": by_a1111, "ComfyUI": by_comfyui}


def read_by(base: BaseModel, file: Path, read: Read, strength: float) -> StableDiffusion:
    """A copy of the model with the weights that a program would make images with."""
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in read_adapter_file(file)[0].items():
        layer, name = key.split(".", 1)
        layers[layer][name] = value
    assert isinstance(base, StableDiffusion)
    merged = dataclasses.replace(base, unet=copy.deepcopy(base.unet), text_encoder=copy.deepcopy(base.text_encoder))
    modules = {f"lora_unet_{name.replace('.', '_')}": module for name, module in merged.unet.named_modules()}
    for name, module in merged.text_encoder.named_modules():
        modules[f"lora_te_text_model_{name.removeprefix('text_model.').replace('.', '_')}"] = module
    for layer, values in layers.items():
        module = modules[layer]
        assert isinstance(module.weight, Tensor)
        module.weight.data = read(module.weight.data, values, strength)
    return merged


@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_they_draw_what_was_trained_at_every_strength(
    base: BaseModel, make_config: MakeConfig, unet_output: UnetOutput, tmp_path: Path, method: str
) -> None:
    """Other ranks and alphas in the text encoder, the middle block and cross-attention, and convolutions."""
    before = unet_output(base)
    config = make_config(
        adapter=method,
        targets=FULL,
        text_encoder_rank=2,
        text_encoder_alpha=3.0,
        rank_pattern={r"mid_block.*": 3},
        alpha_pattern={r"attn2\..*": 5.0},
    )
    adapter = attach_adapter(base, config)
    expected: dict[float, Tensor] = {}
    try:
        randomise(adapter)
        save_adapter(adapter, tmp_path)
        for strength in (0.0, 0.5, 1.0):
            adapter.scale(strength)
            expected[strength] = unet_output(base)
    finally:
        adapter.detach()
    assert torch.equal(expected[0.0], before)
    assert (expected[1.0] - expected[0.5]).abs().max() > 0.01
    file = export_kohya(tmp_path, tmp_path / "person.safetensors")
    for reader, read in READERS.items():
        for strength, drawn in expected.items():
            assert (unet_output(read_by(base, file, read, strength)) - drawn).abs().max() < 1e-5, (reader, strength)


@torch.no_grad()
def test_dora_is_not_exported_since_neither_program_would_show_what_was_trained(
    base: BaseModel, make_config: MakeConfig, tmp_path: Path
) -> None:
    """PEFT and the paper divide by the norm of each output of the changed weight; LyCORIS can, neither of them does."""
    adapter = attach_adapter(base, make_config(adapter="dora"))
    try:
        randomise(adapter)
        save_adapter(adapter, tmp_path)
    finally:
        adapter.detach()
    with pytest.raises(ValueError, match=r"is a DoRA; A1111 divides .* and ComfyUI .*: use it with diffusers"):
        export_kohya(tmp_path, tmp_path / "person.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_lora_weights.safetensors"]

    layer = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    tensors, _ = read_adapter_file(tmp_path / "pytorch_lora_weights.safetensors")
    own = {name.removeprefix(f"unet.{layer}."): value for name, value in tensors.items() if f"unet.{layer}." in name}
    weight = base.denoiser.get_submodule(layer).weight
    magnitude = 1.1 * own["lora_magnitude_vector"]
    values = {
        "lora_down.weight": own["lora_A.weight"],
        "lora_up.weight": own["lora_B.weight"],
        "alpha": torch.tensor(10.0),
        "dora_scale": magnitude[:, None],
    }
    moved = weight + update(weight, values)
    trained = moved * (magnitude[:, None] / by_axis(moved, 0))
    effect = (trained - weight).norm()
    for reader in ("A1111", "ComfyUI"):
        assert (READERS[reader](weight, values, 1.0) - trained).norm() / effect > 0.02, reader


UNETS: Mapping[str, tuple[type[BaseModel], dict[str, Any]]] = {
    "1.x": (StableDiffusion, {"cross_attention_dim": 768, "attention_head_dim": 8}),
    "2.x": (
        StableDiffusion,
        {"cross_attention_dim": 1024, "attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True},
    ),
    "XL": (
        StableDiffusionXL,
        {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "cross_attention_dim": 2048,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
    ),
}
"""The published shapes, without weights."""


def a1111_name(key: str, modules: set[str]) -> str:
    """The module that A1111 puts the tensors of a UNet's layer into: its name with underscores for dots."""
    suffixes = {"conv1": "in_layers_2", "conv2": "out_layers_3", "conv_shortcut": "skip_connection"}
    name = key
    if match := re.match(r"lora_unet_down_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", key):
        inner = suffixes.get(match[4], match[4]) if match[2] == "resnets" else match[4]
        at = 1 + int(match[1]) * 3 + int(match[3])
        name = f"diffusion_model_input_blocks_{at}_{int(match[2] == 'attentions')}_{inner}"
    elif match := re.match(r"lora_unet_mid_block_(attentions|resnets)_(\d+)_(.+)", key):
        inner = suffixes.get(match[3], match[3]) if match[1] == "resnets" else match[3]
        name = f"diffusion_model_middle_block_{1 if match[1] == 'attentions' else int(match[2]) * 2}_{inner}"
    elif match := re.match(r"lora_unet_up_blocks_(\d+)_(attentions|resnets)_(\d+)_(.+)", key):
        inner = suffixes.get(match[4], match[4]) if match[2] == "resnets" else match[4]
        at = int(match[1]) * 3 + int(match[3])
        name = f"diffusion_model_output_blocks_{at}_{int(match[2] == 'attentions')}_{inner}"
    elif match := re.match(r"lora_unet_down_blocks_(\d+)_downsamplers_0_conv", key):
        name = f"diffusion_model_input_blocks_{3 + int(match[1]) * 3}_0_op"
    elif match := re.match(r"lora_unet_up_blocks_(\d+)_upsamplers_0_conv", key):
        name = f"diffusion_model_output_blocks_{2 + int(match[1]) * 3}_{2 if int(match[1]) > 0 else 1}_conv"
    return name if name in modules else key.replace("lora_unet", "diffusion_model")


@pytest.mark.parametrize(("version", "count"), [("1.x", 256), ("2.x", 256), ("XL", 771)])
def test_a1111_and_comfyui_find_the_module_of_every_layer(version: str, count: int) -> None:
    """All that may be adapted, by the published names of a UNet of the real shape."""
    family, shape = UNETS[version]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shape)
    published = {
        name.removesuffix(".weight"): known.removesuffix(".weight").replace(".", "_")
        for name, known in published_unet_names(unet).items()
        if name.endswith(".weight")
    }
    modules = {f"diffusion_model_{name}" for name in published.values()}
    layers = adapted_layers(unet, UNET_TARGETS[FULL])
    assert len(layers) == count
    keys = {layer: kohya_key(family, "unet", layer, {}) for layer in layers}
    assert len(set(keys.values())) == count
    for layer, key in keys.items():
        assert a1111_name(key, modules) == f"diffusion_model_{published[layer]}"
        # ComfyUI knows every layer by its published name, and by diffusers' too.
        assert key in (f"lora_unet_{published[layer]}", f"lora_unet_{layer.replace('.', '_')}")
        # kohya trains 1.x and 2.x in diffusers' UNet and XL in the published one.
        kohya = published[layer] if version == "XL" else layer.replace(".", "_")
        assert key == f"lora_unet_{kohya}"


def test_a_layer_of_xl_by_hand() -> None:
    assert kohya_key(
        StableDiffusionXL, "unet", "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_out.0", {}
    ) == ("lora_unet_input_blocks_4_1_transformer_blocks_1_attn1_to_out_0")
    assert kohya_key(StableDiffusionXL, "unet", "up_blocks.0.upsamplers.0.conv", {}) == (
        "lora_unet_output_blocks_2_2_conv"
    )
    assert kohya_key(StableDiffusionXL, "text_encoder_2", "text_model.encoder.layers.3.self_attn.q_proj", {}) == (
        "lora_te2_text_model_encoder_layers_3_self_attn_q_proj"
    )
    with pytest.raises(ValueError, match="conv_in is no layer of a block"):
        kohya_key(StableDiffusionXL, "unet", "conv_in", {})


def a1111_version(header: Mapping[str, str]) -> str:
    """For which model A1111 offers a file."""
    if header.get("ss_base_model_version", "").startswith("sdxl_"):
        return "SDXL"
    return "SD2" if header.get("ss_v2") == "True" else "SD1"


@pytest.mark.parametrize(
    ("width", "prediction", "version", "kohya"),
    [(768, "epsilon", "SD1", "sd_v1"), (1024, "epsilon", "SD2", "sd_v2"), (1024, "v_prediction", "SD2", "sd_v2_v")],
)
def test_a1111_offers_a_file_for_the_model_that_it_was_trained_on(
    base: BaseModel, make_config: MakeConfig, tmp_path: Path, width: int, prediction: str, version: str, kohya: str
) -> None:
    """2.x is what has its text encoder's width; the demo's model is told to have it."""
    assert isinstance(base, StableDiffusion)
    unet = copy.deepcopy(base.unet)
    unet.register_to_config(cross_attention_dim=width)
    scheduler = type(base.scheduler).from_config(base.scheduler.config, prediction_type=prediction)
    other = dataclasses.replace(base, unet=unet, scheduler=scheduler)
    adapter = attach_adapter(other, make_config(text_encoder_learning_rate=0.0))
    try:
        save_adapter(adapter, tmp_path)
    finally:
        adapter.detach()
    header = read_adapter_file(export_kohya(tmp_path, tmp_path / "person.safetensors"))[1]
    assert a1111_version(header) == version
    assert header["ss_base_model_version"] == kohya
    assert json.loads(header["ss_network_args"]) == {}
    load_adapter(base, tmp_path).detach()
