"""Linear layers through oneDNN: the same numbers, and only where its operator may be used."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import linear

from evaluation.one_dnn import OneDnnLinear

GENERATOR = torch.Generator().manual_seed(1)
WEIGHT, BIAS = torch.randn(5, 7, generator=GENERATOR), torch.randn(5, generator=GENERATOR)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes that reached oneDNN's operator."""
    shapes: list[tuple[int, ...]] = []
    operator: Callable[..., Any] = torch.ops.mkldnn._linear_pointwise

    def noted(values: torch.Tensor, *arguments: Any) -> Any:
        shapes.append(tuple(values.shape))
        return operator(values, *arguments)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", noted)
    return shapes


@pytest.mark.parametrize("bias", [BIAS, None])
@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 3, 7), (2, 3, 4, 7)])
def test_numbers_are_those_of_a_product_in_double_precision(
    calls: list[tuple[int, ...]], shape: tuple[int, ...], bias: torch.Tensor | None
) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), OneDnnLinear():
        answer = linear(values, WEIGHT, bias)
    expected = values.double() @ WEIGHT.double().T + (0 if bias is None else bias.double())
    torch.testing.assert_close(answer.double(), expected, rtol=1e-5, atol=1e-6)
    assert calls == [shape]


def test_layers_that_are_called_as_modules_go_there_too(calls: list[tuple[int, ...]]) -> None:
    layer = torch.nn.Linear(7, 5)
    with torch.inference_mode(), OneDnnLinear():
        layer(torch.ones(3, 7).transpose(0, 1).contiguous().transpose(0, 1))
    assert calls == [(3, 7)]


def test_gradients_and_other_number_formats_stay_with_pytorch(calls: list[tuple[int, ...]]) -> None:
    weight = WEIGHT.clone().requires_grad_()
    with OneDnnLinear():
        linear(torch.ones(3, 7), weight).sum().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        assert torch.equal(weight.grad, torch.full((5, 7), 3.0))
        with torch.no_grad():
            assert linear(torch.ones(3, 7, dtype=torch.double), WEIGHT.double()).dtype == torch.double
            assert linear(torch.ones(3, 7).bfloat16(), WEIGHT.bfloat16()).dtype == torch.bfloat16
            assert linear(torch.empty(0, 7), WEIGHT).shape == (0, 5)
    assert calls == []
