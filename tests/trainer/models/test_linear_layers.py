"""Linear layers with gradients through oneDNN: the numbers of PyTorch and PEFT, and only where they may be used."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as PeftLoraLinear
from torch import Tensor, nn

from tests.trainer.conftest import MakeConfig
from trainer.adapters import adapter
from trainer.data.cache import DataCache
from trainer.job.job import TrainingJob
from trainer.models import linear_layers
from trainer.models.linear_layers import FrozenLinear, FrozenLoraLinear, speed_up_linear_layers
from trainer.models.loading import BaseModel

INPUTS, OUTPUTS, RANK, SCALING = 6, 5, 3, 0.4


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the values that reached oneDNN's operator."""
    shapes: list[tuple[int, ...]] = []
    product: Callable[..., Tensor] = linear_layers._one_dnn

    def noted(values: Tensor, *arguments: Any) -> Tensor:
        shapes.append(tuple(values.shape))
        return product(values, *arguments)

    monkeypatch.setattr(linear_layers, "_one_dnn", noted)
    return shapes


@pytest.fixture(params=[0, linear_layers.LARGE], ids=["all through oneDNN", "all through PyTorch"])
def large(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """From how many multiplications on products count as large; those of these tests are smaller than the default."""
    size: int = request.param
    monkeypatch.setattr(linear_layers, "LARGE", size)
    return size


def frozen(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(INPUTS, OUTPUTS, bias=bias).requires_grad_(False)


def adapted(bias: bool = True, **changes: Any) -> PeftLoraLinear:
    """A LoRA layer whose B is not 0, alpha over rank being `SCALING`."""
    config = LoraConfig(r=RANK, lora_alpha=SCALING * RANK, **changes)  # type: ignore[arg-type]
    layer = PeftLoraLinear(frozen(bias), "own", config=config, r=RANK, lora_alpha=SCALING * RANK)  # type: ignore[arg-type]
    up = layer.lora_B["own"].weight
    assert isinstance(up, Tensor)
    nn.init.normal_(up)
    return layer


def gradients(layer: nn.Module, values: Tensor, towards: Tensor) -> dict[str, Tensor]:
    """The answer, and the gradients of all that gets one."""
    values = values.detach().requires_grad_()
    answer = layer(values)
    (answer * towards).sum().backward()
    named = {name: weight.grad for name, weight in layer.named_parameters() if weight.grad is not None}
    assert values.grad is not None
    return {"answer": answer.detach(), "values": values.grad, **named}


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(INPUTS,), (4, INPUTS), (2, 3, INPUTS), (2, 2, 3, INPUTS)])
@pytest.mark.parametrize("make", [frozen, adapted])
def test_answer_and_gradients_are_those_of_double_precision(
    make: Callable[[bool], nn.Module], shape: tuple[int, ...], bias: bool
) -> None:
    values, towards = torch.randn(shape), torch.randn((*shape[:-1], OUTPUTS))
    layer, oracle = nn.Sequential(make(bias)), nn.Sequential(make(bias))
    oracle.load_state_dict(layer.state_dict())
    speed_up_linear_layers(layer)
    expected = gradients(oracle.double(), values.double(), towards.double())
    answered = gradients(layer, values, towards)
    assert answered.keys() == expected.keys()
    assert len(answered) == (4 if make is adapted else 2)
    for name, tensor in answered.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("large")
def test_values_and_gradients_may_lie_in_memory_as_they_like() -> None:
    """Transposed values, as attention makes them, and the expanded gradient of a sum."""
    for make in (frozen, adapted):
        layer = nn.Sequential(make())
        values = torch.randn(INPUTS, 4).t()
        expected = gradients(layer, values, torch.ones(()))
        speed_up_linear_layers(layer)
        layer.zero_grad()
        for name, tensor in gradients(layer, values, torch.ones(())).items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_only_large_products_go_to_one_dnn(calls: list[tuple[int, ...]]) -> None:
    layer = nn.Sequential(nn.Linear(64, 128).requires_grad_(False))
    speed_up_linear_layers(layer)
    with torch.no_grad():
        layer(torch.ones(127, 64))
        assert calls == []
        layer(torch.ones(128, 64))
    assert calls == [(128, 64)]


def test_weights_without_gradients_get_none(large: int, calls: list[tuple[int, ...]]) -> None:
    """As when the text encoder's adapter has been trained enough: nothing is computed for it."""
    layer = nn.Sequential(adapted())
    speed_up_linear_layers(layer)
    layer.requires_grad_(False)
    answered = gradients(layer, torch.randn(4, INPUTS), torch.ones(OUTPUTS))
    assert answered.keys() == {"answer", "values"}
    assert len(calls) == (4 if large == 0 else 0)  # A and W there and back; B's products are added in place
    with torch.no_grad():
        assert torch.equal(layer(torch.ones(1, INPUTS)), layer(torch.ones(1, INPUTS)))


def test_other_kinds_of_layers_are_left_alone() -> None:
    others = {
        "dropout": adapted(lora_dropout=0.5),
        "variant": adapted(use_dora=True),
        "bias": adapted(lora_bias=True),
        "trained": nn.Linear(2, 2),
        "attention": nn.MultiheadAttention(4, 2).requires_grad_(False),
    }
    module = nn.ModuleDict({**others, "frozen": frozen(), "plain": adapted()})
    before = {name: type(layer) for name, layer in others.items()}
    speed_up_linear_layers(module)
    assert {name: type(layer) for name, layer in others.items()} == before
    assert type(module["frozen"]) is FrozenLinear
    assert type(module["plain"]) is FrozenLoraLinear
    assert type(module["plain"].base_layer) is FrozenLinear
    assert type(module["plain"].lora_A["own"]) is nn.Linear
    assert others["attention"].out_proj.__class__ is not FrozenLinear


@pytest.mark.parametrize("make", [frozen, adapted])
def test_in_other_formats_they_are_pytorch_s_and_peft_s_own(
    make: Callable[[], nn.Module], calls: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear_layers, "LARGE", 0)
    layer, oracle = nn.Sequential(make()), nn.Sequential(make())
    speed_up_linear_layers(layer)
    values = torch.randn(4, INPUTS)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(values), oracle(values))
        assert layer(values).dtype == torch.bfloat16
    for number in (torch.float64, torch.bfloat16):
        assert torch.equal(layer.to(number)(values.to(number)), oracle.to(number)(values.to(number)))
    assert calls == []


def test_an_adapter_may_be_switched_off_and_merged() -> None:
    layer, values = adapted(), torch.randn(4, INPUTS)
    base, both = layer.base_layer(values), layer(values)
    speed_up_linear_layers(nn.Sequential(layer))
    layer.enable_adapters(False)
    assert torch.equal(layer(values), base)
    layer.enable_adapters(True)
    layer.merge()
    torch.testing.assert_close(layer(values), both)


def test_a_job_learns_what_it_learns_with_peft_s_layers(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both parts of the model, through oneDNN wherever it can be, against neither kind of layer."""

    def learnt() -> tuple[list[float], int]:
        with TrainingJob(base, cache, make_config()) as job:
            layers = [module for part in base.parts for module in base.module(part).modules()]
            return [job.step().loss for _ in range(3)], sum(type(layer) is FrozenLoraLinear for layer in layers)

    monkeypatch.setattr(linear_layers, "LARGE", 0)
    losses, quick_layers = learnt()
    monkeypatch.setattr(linear_layers, "LARGE", 2**62)
    monkeypatch.setattr(adapter, "speed_up_linear_layers", lambda module: None)
    expected, others = learnt()
    assert losses == pytest.approx(expected, rel=1e-5)
    attentions = 2 * 7  # of seven transformer blocks in the UNet, beside the text encoder's two layers
    assert (quick_layers, others) == (4 * (attentions + 2), 0)
