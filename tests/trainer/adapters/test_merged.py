"""An adapter merged into a base of 16 bits: the same output up to that rounding, and the base's own bits afterwards."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainer.conftest import DEMO_BASE, MakeConfig
from trainer.adapters.adapter import Adapter, attach_adapter
from trainer.adapters.adapter_files import load_adapter, save_adapter
from trainer.adapters.merged import drawing_weights, merged
from trainer.models import loading
from trainer.models.loading import BaseModel, load_base_model

METHODS = ("lora", "rslora", "dora", "loha", "lokr")
EVERYTHING = "attention+feed_forward+convolutions"


@pytest.fixture(scope="module")
def short_base() -> BaseModel:
    """The demo's model in bfloat16, as a GPU holds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "choose_dtype", lambda device: torch.bfloat16)
        return load_base_model(DEMO_BASE, device="cpu")


def weights_of(base: BaseModel) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": weight.detach().clone()
        for part in base.parts
        for name, weight in base.module(part).state_dict().items()
    }


def trained(base: BaseModel, make_config: MakeConfig, method: str) -> Adapter:
    """An adapter that has an effect, as if it were trained."""
    config = make_config(adapter=method, targets=EVERYTHING, text_encoder_learning_rate=1e-4)
    adapter = attach_adapter(base, config)
    generator = torch.Generator().manual_seed(5)
    size = {"loha": 0.25, "lokr": 0.1}.get(method, 0.05)  # theirs are products of products
    for part in adapter.parts:
        for weight in adapter.parameters(part):
            weight.data += size * torch.randn(weight.shape, generator=generator)
    return adapter


@torch.no_grad()
def predicted(base: BaseModel) -> Tensor:
    generator = torch.Generator().manual_seed(6)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    encoded = base.encode(base.tokenize(["a photo of sks man", "a woman"]))
    return base.predict(noisy, torch.tensor([100, 800]), encoded).float()


def off(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("method", METHODS)
def test_a_merged_adapter_computes_the_same_and_leaves_no_bit_behind(
    method: str, short_base: BaseModel, make_config: MakeConfig
) -> None:
    before, plain = weights_of(short_base), predicted(short_base)
    adapter = trained(short_base, make_config, method)
    try:
        live = predicted(short_base)
        with drawing_weights(adapter):
            together = predicted(short_base)
        assert torch.equal(predicted(short_base), live), "the adapter is live again"
    finally:
        adapter.detach()
    assert off(together, live) < 0.03 < 0.1 < off(live, plain), "bfloat16 has three digits; the adapter does much more"
    after = weights_of(short_base)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(predicted(short_base), plain)


def test_the_sum_is_rounded_once_at_the_strength_that_is_set(short_base: BaseModel, make_config: MakeConfig) -> None:
    adapter = trained(short_base, make_config, "lora")
    try:
        adapter.scale(0.5)
        checked = 0
        for name, layer in short_base.denoiser.named_modules():
            if name.endswith("to_q"):
                weight = layer.base_layer.weight
                update = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
                expected = (weight.float() + layer.scaling["default"] * update).bfloat16()
                with merged(adapter):
                    assert torch.equal(layer.base_layer.weight, expected)
                    assert layer.base_layer.weight.data_ptr() == weight.data_ptr(), "in its own memory"
                checked += 1
                break
        assert checked
        assert layer.scaling["default"] == 0.5 * layer.lora_alpha["default"] / layer.r["default"]
    finally:
        adapter.detach()


@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_from_its_file_draws_what_it_drew_in_training(
    method: str, short_base: BaseModel, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Bit for bit: it is loaded as it was trained, in float32, though the base has 16 bits."""
    adapter = trained(short_base, make_config, method)
    try:
        with drawing_weights(adapter):
            live = predicted(short_base)
        save_adapter(adapter, tmp_path)
    finally:
        adapter.detach()
    adapter = load_adapter(short_base, tmp_path)
    try:
        assert {weight.dtype for part in adapter.parts for weight in adapter.parameters(part)} == {torch.float32}
        with drawing_weights(adapter):
            assert torch.equal(predicted(short_base), live)
    finally:
        adapter.detach()


def test_a_failure_within_puts_the_base_back(short_base: BaseModel, make_config: MakeConfig) -> None:
    before = weights_of(short_base)
    adapter = trained(short_base, make_config, "lora")
    try:
        with pytest.raises(MemoryError), merged(adapter):
            raise MemoryError
    finally:
        adapter.detach()
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(short_base).items())


def test_a_base_in_float32_is_left_as_it_is(base: BaseModel, make_config: MakeConfig) -> None:
    before = weights_of(base)
    adapter = trained(base, make_config, "lora")
    try:
        live = predicted(base)
        with drawing_weights(adapter):
            assert torch.equal(predicted(base), live)
        with merged(adapter):
            assert off(predicted(base), live) < 1e-5
    finally:
        adapter.detach()
    assert all(torch.equal(weight, before[name]) for name, weight in weights_of(base).items())
