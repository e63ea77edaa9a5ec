"""The adapter: which layers it trains, its effect on each, and its start values."""

import dataclasses
import re
from collections.abc import Callable

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from tests.trainer.conftest import DEMO_BASE, MakeConfig
from trainer.adapters.adapter import Adapter, attach_adapter
from trainer.config import AdapterMethod, Targets, TrainingConfig
from trainer.models.base_model import Part
from trainer.models.loading import BaseModel, load_base_model
from trainer.models.stable_diffusion import StableDiffusion

ATTENTION = r"attn[12]\.(to_q|to_k|to_v|to_out\.0)"
EVERYTHING = rf"{ATTENTION}|ff\.net\.(0\.proj|2)|conv1|conv2|conv_shortcut|proj_in|proj_out|(down|up)samplers\.0\.conv"
TEXT = r"self_attn\.(q_proj|k_proj|v_proj|out_proj)"


def layer_names(module: nn.Module, pattern: str) -> set[str]:
    """Names of the weighted layers of a module, without an adapter, whose name ends in the pattern."""
    names = (name.removesuffix(".weight") for name in module.state_dict() if name.endswith(".weight"))
    return {name for name in names if re.search(rf"\.({pattern})$", name)}


def adapter_names(layers: set[str]) -> set[str]:
    return {f"{layer}.lora_{matrix}.default.weight" for layer in layers for matrix in "AB"}


def randomise(adapter: Adapter, seed: int = 0, deviation: float = 0.05) -> None:
    """Gives values to what starts at 0 (B, or its like in LoRA's kin), so that the adapter has an effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in adapter.parts:
            for weight in adapter.parameters(part):
                if not weight.any():
                    weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)


@pytest.mark.parametrize(
    ("targets", "pattern"), [("attention", ATTENTION), ("attention+feed_forward+convolutions", EVERYTHING)]
)
@pytest.mark.parametrize("text_encoder_learning_rate", [0.0, 1e-4])
def test_exactly_the_targets_are_trainable(
    base: BaseModel, make_config: MakeConfig, targets: Targets, pattern: str, text_encoder_learning_rate: float
) -> None:
    unet, text_encoder = layer_names(base.denoiser, pattern), layer_names(base.text_encoder, TEXT)
    assert len(text_encoder) == 4 * base.text_encoder.config.num_hidden_layers
    config = make_config(targets=targets, text_encoder_learning_rate=text_encoder_learning_rate)
    adapter = attach_adapter(base, config)
    try:
        expected: dict[Part, set[str]] = {
            "unet": adapter_names(unet),
            "text_encoder": adapter_names(text_encoder) if text_encoder_learning_rate else set(),
        }
        for part, names in expected.items():
            module = getattr(base, part)
            assert {name for name, weight in module.named_parameters() if weight.requires_grad} == names
            assert set(adapter.named_parameters(part)) == names
            assert len(adapter.parameters(part)) == len(names)
    finally:
        adapter.detach()


def test_the_full_target_set_leaves_no_large_layer_out(base: BaseModel) -> None:
    """What stays frozen in the UNet: in and out convolutions, time embedding, norms."""
    weighted = {name.removesuffix(".weight") for name, weight in base.denoiser.state_dict().items() if weight.ndim > 1}
    left = weighted - layer_names(base.denoiser, EVERYTHING)
    assert {re.sub(r".*\.", "", name) for name in left} == {
        "conv_in",
        "conv_out",
        "linear_1",
        "linear_2",
        "time_emb_proj",
    }


def test_stable_diffusion_1_5_has_as_many_weights_as_the_homework(base: BaseModel) -> None:
    """6,377,472 + 2,359,296 adapter weights at rank 32 on attention, counted without memory for any of them."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=768,
                intermediate_size=3072,
                num_hidden_layers=12,
                num_attention_heads=12,
                projection_dim=768,
            )
        )
    assert isinstance(base, StableDiffusion)
    large = dataclasses.replace(base, unet=unet, text_encoder=text_encoder)
    adapter = attach_adapter(large, TrainingConfig(rank=32))
    assert sum(weight.numel() for weight in adapter.parameters("unet")) == 6_377_472
    assert sum(weight.numel() for weight in adapter.parameters("text_encoder")) == 2_359_296


def effect_of(layer: LoraLayer, value: Tensor) -> Tensor:
    """What the adapter adds to the layer's answer."""
    assert isinstance(layer, nn.Module)
    difference: Tensor = layer(value) - layer.get_base_layer()(value)
    return difference


def test_the_effect_on_every_layer_is_alpha_over_rank_times_b_a(base: BaseModel, make_config: MakeConfig) -> None:
    """In float64, against the update of the weight written out: W + (alpha / rank) * B @ A."""
    config = make_config(rank=3, alpha=7.0, targets="attention+feed_forward+convolutions")
    adapter = attach_adapter(base, config)
    randomise(adapter)
    generator = torch.Generator().manual_seed(1)
    kinds = set()
    try:
        for part in adapter.parts:
            for layer in [module for module in getattr(base, part).modules() if isinstance(module, LoraLayer)]:
                assert isinstance(layer, nn.Module)
                layer.double()
                original = layer.get_base_layer()
                assert isinstance(original, nn.Linear | nn.Conv2d)
                down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                assert isinstance(down, Tensor)
                assert isinstance(up, Tensor)
                update = 7.0 / 3 * (up.flatten(1) @ down.flatten(1)).view(original.weight.shape)
                if isinstance(original, nn.Conv2d):
                    value = torch.randn(2, original.in_channels, 6, 6, generator=generator, dtype=torch.float64)
                    expected = functional.conv2d(value, update, None, original.stride, original.padding)
                else:
                    value = torch.randn(2, original.in_features, generator=generator, dtype=torch.float64)
                    expected = value @ update.T
                kinds.add((type(original).__name__, tuple(original.weight.shape[2:])))
                assert expected.abs().max() > 0.01
                torch.testing.assert_close(effect_of(layer, value), expected, rtol=0, atol=1e-12)
                layer.float()
    finally:
        adapter.detach()
    assert kinds == {("FrozenLinear", ()), ("Conv2d", (1, 1)), ("Conv2d", (3, 3))}


def test_alpha_alone_scales_the_effect_and_rank_shapes_and_scales_it(base: BaseModel, make_config: MakeConfig) -> None:
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    original = base.denoiser.get_submodule(name)
    assert isinstance(original, nn.Linear)
    value = torch.randn(5, original.in_features, generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def measure(rank: int, alpha: float) -> tuple[Tensor, torch.Size, float]:
        """The effect on one layer, the shape of A, and the effect's size relative to B @ A alone."""
        adapter = attach_adapter(base, make_config(rank=rank, alpha=alpha, text_encoder_learning_rate=0))
        randomise(adapter)
        layer = base.denoiser.get_submodule(name)
        assert isinstance(layer, LoraLayer)
        weights = adapter.state_dict("unet")
        down, up = weights[f"{name}.lora_A.weight"], weights[f"{name}.lora_B.weight"]
        effect = effect_of(layer, value)
        adapter.detach()
        return effect, down.shape, (effect.norm() / (value @ down.T @ up.T).norm()).item()

    small, shape, scale = measure(rank=4, alpha=2)
    large, same_shape, large_scale = measure(rank=4, alpha=8)
    torch.testing.assert_close(large, 4 * small, rtol=1e-4, atol=1e-6)
    assert shape == same_shape == (4, original.in_features)
    assert [scale, large_scale] == pytest.approx([0.5, 2], rel=1e-4)
    _, wide_shape, wide_scale = measure(rank=16, alpha=8)
    assert wide_shape == (16, original.in_features)
    assert wide_scale == pytest.approx(0.5, rel=1e-4)


def test_a_fresh_adapter_has_no_effect_yet(
    base: BaseModel, make_config: MakeConfig, unet_output: Callable[[BaseModel], Tensor]
) -> None:
    before = unet_output(base)
    adapter = attach_adapter(base, make_config())
    during = unet_output(base)
    adapter.detach()
    assert torch.equal(before, during)


def test_start_values_follow_the_seed_and_leave_the_global_generator_alone(
    base: BaseModel, make_config: MakeConfig
) -> None:
    def start(seed: int) -> list[Tensor]:
        state = torch.get_rng_state()
        adapter = attach_adapter(base, make_config(seed=seed))
        assert torch.equal(torch.get_rng_state(), state)
        values = [weight.detach().clone() for part in adapter.parts for weight in adapter.parameters(part)]
        adapter.detach()
        torch.rand(1)
        return values

    first, again, other = start(1), start(1), start(2)
    assert all(torch.equal(one, same) for one, same in zip(first, again, strict=True))
    drawn = [(one, different) for one, different in zip(first, other, strict=True) if one.any()]
    assert len(drawn) == len(first) // 2
    assert not any(torch.equal(one, different) for one, different in drawn)


def test_weights_are_float32_on_a_half_precision_base(base: BaseModel, make_config: MakeConfig) -> None:
    adapter = attach_adapter(base, make_config())
    expected = {name: weight.detach().clone() for name, weight in adapter.named_parameters("unet").items()}
    adapter.detach()
    half = load_base_model(DEMO_BASE, device="cpu")
    nn.Module.to(half.denoiser, torch.bfloat16)
    for name, weight in attach_adapter(half, make_config()).named_parameters("unet").items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight.data, expected[name], rtol=2**-8, atol=0)


def test_detaching_leaves_the_base_bit_for_bit_as_it_was(
    base: BaseModel, make_config: MakeConfig, unet_output: Callable[[BaseModel], Tensor]
) -> None:
    def weights() -> dict[str, Tensor]:
        return {
            f"{part}.{name}": weight.clone()
            for part in ("unet", "text_encoder", "vae")
            for name, weight in getattr(base, part).state_dict().items()
        }

    before, answer = weights(), unet_output(base)
    adapter = attach_adapter(base, make_config(targets="attention+feed_forward+convolutions"))
    randomise(adapter)
    assert (unet_output(base) - answer).abs().max() > 0.01
    adapter.detach()
    adapter.detach()
    after = weights()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(unet_output(base), answer)
    assert not hasattr(base.denoiser, "peft_config")
    assert not hasattr(base.text_encoder, "peft_config")


def test_a_second_adapter_is_refused(base: BaseModel, make_config: MakeConfig) -> None:
    adapter = attach_adapter(base, make_config())
    try:
        with pytest.raises(ValueError, match="already carries an adapter"):
            attach_adapter(base, make_config())
    finally:
        adapter.detach()


def test_weights_of_another_shape_or_name_are_refused(base: BaseModel, make_config: MakeConfig) -> None:
    adapter = attach_adapter(base, make_config(rank=2))
    other = {name: weight.clone() for name, weight in adapter.state_dict("unet").items()}
    adapter.detach()
    adapter = attach_adapter(base, make_config(rank=4))
    try:
        with pytest.raises(ValueError, match="use the rank and targets they were trained with"):
            adapter.load_state_dict("unet", other)
        with pytest.raises(ValueError, match="differ in name or shape"):
            adapter.load_state_dict("unet", dict(list(adapter.state_dict("unet").items())[1:]))
    finally:
        adapter.detach()


@pytest.mark.parametrize(("method", "full"), [("lora", 8 / 4), ("rslora", 8 / 2), ("dora", 8 / 4)])
def test_a_strength_scales_what_was_trained(
    base: BaseModel, make_config: MakeConfig, method: AdapterMethod, full: float
) -> None:
    """alpha / rank, or alpha / sqrt(rank), times the strength, whatever strength was set before."""
    adapter = attach_adapter(base, make_config(adapter=method, rank=4, alpha=8))
    try:
        for strength in (0.5, 0.0, 1.25, 1.0):
            adapter.scale(strength)
            layers = [module for module in base.denoiser.modules() if isinstance(module, LoraLayer)]
            assert {layer.scaling["default"] for layer in layers} == {strength * full}
    finally:
        adapter.detach()
