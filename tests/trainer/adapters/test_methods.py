"""Every kind of adapter that is exported: what it computes, written out and in its file for other programs."""

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.conftest import MakeConfig
from trainer.adapters.adapter import attach_adapter
from trainer.adapters.adapter_files import BASE_TEXT, TRIGGER_TEXT, read_adapter_file, save_adapter
from trainer.adapters.kohya import export_kohya
from trainer.config import READ_BY_DIFFUSERS_ONLY, AdapterMethod
from trainer.models.loading import BaseModel
from trainer.models.stable_diffusion import StableDiffusion

from .test_adapter import randomise

UnetOutput = Callable[[BaseModel], Tensor]
METHODS = [method for method in get_args(AdapterMethod) if method not in READ_BY_DIFFUSERS_ONLY]
DEVIATIONS = {"lokr": 0.2, "loha": 1.0}


@dataclasses.dataclass(frozen=True)
class Written:
    """A saved adapter with an effect, in both files."""

    folder: Path
    kohya: Path
    before: Tensor
    adapted: Tensor


@pytest.fixture
def written(
    base: BaseModel, make_config: MakeConfig, tmp_path: Path, unet_output: UnetOutput
) -> Callable[..., Written]:
    """Other ranks and alphas in the text encoder, the middle block and cross-attention."""

    def write(method: str) -> Written:
        before = unet_output(base)
        config = make_config(
            adapter=method,
            rank=4,
            alpha=10.0,
            targets="attention+feed_forward+convolutions",
            text_encoder_rank=2,
            text_encoder_alpha=3.0,
            rank_pattern={r"mid_block.*": 3},
            alpha_pattern={r"attn2\..*": 5.0},
        )
        adapter = attach_adapter(base, config)
        try:
            assert torch.allclose(unet_output(base), before, rtol=0, atol=1e-5)
            randomise(adapter, deviation=DEVIATIONS.get(method, 0.05))
            adapted = unet_output(base)
            texts = {TRIGGER_TEXT: "sks", BASE_TEXT: "0123"}
            folder = save_adapter(adapter, tmp_path / "adapter", metadata=texts).parent
        finally:
            adapter.detach()
        assert (adapted - before).abs().max() > 0.01
        return Written(
            folder=folder,
            kohya=export_kohya(folder, tmp_path / "person.safetensors"),
            before=before,
            adapted=adapted,
        )

    return write


@pytest.mark.parametrize("method", METHODS)
def test_the_kohya_file_read_by_the_formulas_of_lycoris_and_others(
    base: BaseModel, unet_output: UnetOutput, written: Callable[..., Written], method: str
) -> None:
    """Each weight rebuilt as LyCORIS, A1111 and ComfyUI do from keys, alpha and the ranks that the tensors show."""
    made = written(method)
    tensors, header = read_adapter_file(made.kohya)
    layers: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, value in tensors.items():
        layer, name = key.split(".", 1)
        layers[layer][name] = value
    assert isinstance(base, StableDiffusion)
    merged = dataclasses.replace(base, unet=copy.deepcopy(base.denoiser), text_encoder=copy.deepcopy(base.text_encoder))
    modules = {f"lora_unet_{name.replace('.', '_')}": module for name, module in merged.denoiser.named_modules()}
    for name, module in merged.text_encoder.named_modules():
        modules[f"lora_te_text_model_{name.removeprefix('text_model.').replace('.', '_')}"] = module
    for layer, values in layers.items():
        module = modules[layer]
        assert isinstance(module, nn.Linear | nn.Conv2d)
        module.weight.data = adapted_weight(module.weight.data, values)
    assert (unet_output(merged) - made.adapted).abs().max() < 1e-5
    alpha = 20.0 if method == "rslora" else 10.0
    arguments = {"lokr": '"algo": "lokr"', "loha": '"algo": "loha"'}
    expected = f'{{"conv_dim": "4", "conv_alpha": "{alpha}"' + (f", {arguments[method]}" if method in arguments else "")
    assert header == {
        "ss_network_module": "lycoris.kohya" if method in arguments else "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": str(alpha),
        "ss_network_args": expected + "}",
        "ss_base_model_version": "sd_v1",
        "ss_base_model_sha256": "0123",
        "modelspec.trigger_phrase": "sks",
    }


def adapted_weight(weight: Tensor, values: dict[str, Tensor]) -> Tensor:
    """The weight of an adapted layer from the tensors of one layer of the file."""
    alpha = values["alpha"].item()
    if "lora_up.weight" in values:
        down, up = values["lora_down.weight"], values["lora_up.weight"]
        return weight + alpha / down.shape[0] * (up.flatten(1) @ down.flatten(1)).view(weight.shape)
    if "hada_w1_a" in values:
        product = (values["hada_w1_a"] @ values["hada_w1_b"]) * (values["hada_w2_a"] @ values["hada_w2_b"])
        return weight + alpha / values["hada_w1_b"].shape[0] * product.view(weight.shape)
    if "lokr_w2" in values:  # two full matrices are not scaled
        large, scale = values["lokr_w2"], 1.0
    else:
        large = values["lokr_w2_a"] @ values["lokr_w2_b"]
        scale = alpha / values["lokr_w2_b"].shape[0]
    small = values["lokr_w1"].view(*values["lokr_w1"].shape, *[1] * (large.ndim - 2))
    return weight + scale * torch.kron(small, large).view(weight.shape)


def test_ranks_follow_part_and_pattern(base: BaseModel, make_config: MakeConfig) -> None:
    adapter = attach_adapter(
        base, make_config(rank=4, text_encoder_rank=2, rank_pattern={"mid_block.*": 3, r"down_blocks\.1.*to_q": 5})
    )
    try:
        unet = {name: weight.shape[0] for name, weight in adapter.state_dict("unet").items() if ".lora_A." in name}
        for name, rank in unet.items():
            queries = name.startswith("down_blocks.1") and ".to_q." in name
            assert rank == (3 if name.startswith("mid_block") else 5 if queries else 4), name
        assert set(unet.values()) == {3, 4, 5}
        assert {
            weight.shape[0] for name, weight in adapter.state_dict("text_encoder").items() if ".lora_A." in name
        } == {2}
    finally:
        adapter.detach()


@pytest.mark.parametrize("field", ["rank_pattern", "alpha_pattern"])
def test_a_pattern_of_no_layer_is_refused_and_leaves_no_adapter(
    base: BaseModel, make_config: MakeConfig, field: str
) -> None:
    with pytest.raises(ValueError, match=rf"{field} names 'mid_block', which ends no adapted layer's name"):
        attach_adapter(base, make_config(**{field: {"mid_block": 3}}))
