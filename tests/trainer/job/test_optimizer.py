"""Each optimizer against its formula; that its state survives bit for bit is in test_resume."""

import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.config import OptimizerName
from trainer.job.optimizer import make_optimizer

CPU = torch.device("cpu")


def moved(name: OptimizerName, start: Tensor, gradient: Tensor, rate: float, decay: float) -> Tensor:
    """The weight after one step."""
    weight = nn.Parameter(start.clone())
    optimizer = make_optimizer(name, [([weight], rate)], weight_decay=decay, device=CPU)
    weight.grad = gradient.clone()
    optimizer.step()
    return weight.detach()


def start_and_gradient() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)


def test_adamw_s_first_step_is_the_rate_against_the_gradient_s_sign() -> None:
    start, gradient = start_and_gradient()
    expected = start * (1 - 0.01 * 0.1) - 0.01 * gradient.sign()
    torch.testing.assert_close(moved("adamw", start, gradient, 0.01, 0.1), expected, rtol=0, atol=1e-6)


def test_adafactor_s_first_step_from_rows_and_columns_at_the_given_rate() -> None:
    """The first step forgets the start (its decay is 1 - 1 ** -0.8 = 0); the update's root mean square is cut to 1."""
    start, gradient = start_and_gradient()
    squares = gradient**2 + 1e-30
    rows, columns = squares.mean(1, keepdim=True), squares.mean(0, keepdim=True)
    update = gradient / (rows * columns / rows.mean()).sqrt()
    update /= max(1.0, update.square().mean().sqrt().item())
    expected = start * (1 - 0.01 * 0.1) - 0.01 * update
    torch.testing.assert_close(moved("adafactor", start, gradient, 0.01, 0.1), expected, rtol=0, atol=1e-6)


def test_prodigy_s_first_step_is_its_first_estimate_times_the_rate() -> None:
    """No distance is known yet: d = 1e-6. Decay and step share the bias correction sqrt(0.001) / 0.1."""
    start, gradient = start_and_gradient()
    start, gradient = start.double(), gradient.double()
    correction = 0.001**0.5 / 0.1
    expected = start * (1 - 0.1 * 1e-6 * 0.5 * correction) - 0.5e-6 * gradient.sign()
    torch.testing.assert_close(moved("prodigy", start, gradient, 0.5, 0.1), expected, rtol=0, atol=1e-11)


def test_prodigy_finds_the_size_of_its_steps() -> None:
    """From 1e-6 at the start to the order of the distance, 3, over both groups together."""
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    optimizer = make_optimizer("prodigy", [([weight], 1.0) for weight in weights], weight_decay=0, device=CPU)
    for _ in range(200):
        optimizer.zero_grad()
        sum((weight - 3).abs().sum() for weight in weights).backward()  # type: ignore[union-attr]
        optimizer.step()
    first, second = (group["d"] for group in optimizer.param_groups)
    assert first == second
    assert 0.01 < first < 3
    assert all(abs(weight.item() - 3) < 0.5 for weight in weights)


def test_adamw_in_eight_bits_needs_a_gpu() -> None:
    with pytest.raises(ValueError, match="optimizer is 'adamw_8bit', which needs a CUDA device, not cpu"):
        make_optimizer("adamw_8bit", [([nn.Parameter(torch.zeros(1))], 1e-3)], weight_decay=0, device=CPU)


def test_adamw_in_eight_bits_needs_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [([nn.Parameter(torch.zeros(1))], 1e-3)]
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ValueError, match=r"needs bitsandbytes; install likeness\[gpu\]"):
        make_optimizer("adamw_8bit", weights, weight_decay=0, device=torch.device("cuda"))


def test_adamw_in_eight_bits_is_bitsandbytes_over_the_same_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("bitsandbytes")
    module: Any = types.ModuleType("bitsandbytes.optim")
    module.AdamW8bit = torch.optim.AdamW
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", module)
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    optimizer = make_optimizer(
        "adamw_8bit", [([weights[0]], 1e-3), ([weights[1]], 1e-4)], weight_decay=0.2, device=torch.device("cuda")
    )
    groups = [(group["params"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert groups == [([weights[0]], 1e-3, 0.2), ([weights[1]], 1e-4, 0.2)]
