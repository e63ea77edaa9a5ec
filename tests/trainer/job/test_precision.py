"""The precision of a training job: what is computed in half of it, and what a device lacks."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.support.job_state import watch_gradients, weights_of
from tests.trainer.conftest import DEMO_BASE, MakeConfig
from trainer.config import MixedPrecision
from trainer.data.cache import DataCache
from trainer.job.acceleration import choose_precision
from trainer.job.job import TrainingJob
from trainer.models.loading import load_base_model


@pytest.mark.parametrize("half_precision_base", [False, True])
def test_adapter_weights_and_moments_stay_float32_under_autocast(
    cache: DataCache, make_config: MakeConfig, half_precision_base: bool
) -> None:
    base = load_base_model(DEMO_BASE, device="cpu")
    if half_precision_base:
        for module in (base.denoiser, base.text_encoder):
            nn.Module.to(module, torch.bfloat16)
        base = replace(base, dtype=torch.bfloat16)
    kinds = []

    def watch(module: nn.Module, arguments: object, answer: Tensor) -> None:
        kinds.append(answer.dtype)

    base.denoiser.conv_in.register_forward_hook(watch)
    with TrainingJob(base, cache, make_config(mixed_precision="bf16")) as job:
        seen = watch_gradients(job)
        before = weights_of(job)
        assert math.isfinite(job.step().loss)
        after = weights_of(job)
        moments = {value.dtype for state in job._optimizer_step.optimizer.state.values() for value in state.values()}
    assert kinds == [torch.bfloat16]
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    assert {gradient.dtype for gradient in seen[0].values()} == {torch.float32}
    assert moments == {torch.float32}
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("requested", "device", "dtype", "expected"),
    [
        ("auto", "cpu", torch.float32, "no"),
        ("bf16", "cpu", torch.float32, "bf16"),
        ("auto", "cuda", torch.bfloat16, "bf16"),
        ("no", "cuda", torch.bfloat16, "no"),
        ("auto", "cuda", torch.float16, "fp16"),
    ],
)
def test_precision_follows_the_device(
    requested: MixedPrecision, device: str, dtype: torch.dtype, expected: str
) -> None:
    assert choose_precision(requested, torch.device(device), dtype) == expected


@pytest.mark.parametrize("requested", ["no", "bf16"])
def test_precision_that_the_device_lacks_is_refused(requested: MixedPrecision) -> None:
    with pytest.raises(ValueError, match=f"mixed_precision is '{requested}', but cuda has no bfloat16"):
        choose_precision(requested, torch.device("cuda"), torch.float16)
