"""Gradients that are not finite: noticed in the step that has them, whatever the loss; and what a step copies."""

import math
from pathlib import Path

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer  # type: ignore[import-untyped]
from torch import Tensor

from tests.support.job_state import assert_same, state_of
from tests.trainer.conftest import MakeConfig
from trainer.data.cache import DataCache
from trainer.job.job import TrainingDiverged, TrainingJob
from trainer.job.optimizer_step import StepStart
from trainer.models.loading import BaseModel


def infinite_once(weight: Tensor, step: int) -> None:
    """The gradient of one weight is infinite in one step, from 1; the loss stays finite."""
    steps = iter(range(1, 1000))

    def spoil(gradient: Tensor) -> Tensor:
        return gradient + math.inf if next(steps) == step else gradient

    weight.register_hook(spoil)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("limit", [1.0, math.inf])
def test_a_gradient_that_is_not_finite_ends_the_job_and_is_not_saved(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path, limit: float
) -> None:
    with TrainingJob(base, cache, make_config(max_grad_norm=limit)) as job:
        infinite_once(job.adapter.parameters("unet")[1], 2)
        job.step()
        job.save(tmp_path / "step-1")
        with pytest.raises(TrainingDiverged, match="the gradient is not finite at step 2; use a lower") as caught:
            job.step()
        assert caught.value.step == 2
        with pytest.raises(TrainingDiverged):
            job.save(tmp_path / "step-2")
        job.restore(tmp_path / "step-1")
        assert math.isfinite(job.step().loss), "the state before is whole"
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_a_scaler_leaves_the_step_out_and_the_job_goes_on(
    base: BaseModel, cache: DataCache, make_config: MakeConfig
) -> None:
    """As a float16 job has it: the scale was too large, and is halved."""
    with TrainingJob(base, cache, make_config(optimizer="adafactor")) as job:
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        job._accelerator.scaler = scaler
        optimizer = job._optimizer_step.optimizer
        job._optimizer_step._prepared = AcceleratedOptimizer(optimizer, device_placement=False, scaler=scaler)
        infinite_once(job.adapter.parameters("unet")[1], 2)
        job.step()
        before = {name: value for name, value in state_of(job).items() if name.startswith("unet")}
        job.step()
        assert_same({name: state_of(job)[name] for name in before}, before)
        assert scaler.get_scale() == 32.0
        job.step()
        moved = state_of(job)
        assert any(not torch.equal(moved[name], value) for name, value in before.items())


def test_what_never_gets_a_gradient_makes_no_step_copy_everything(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights and moments are copied before the first step, which makes the moments, and never again."""
    copied: list[int] = []
    keep = StepStart.keep

    def noted(start: StepStart, *, copies: bool) -> None:
        keep(start, copies=copies)
        copied.append(len(start._weights))

    monkeypatch.setattr(StepStart, "keep", noted)
    with TrainingJob(base, cache, make_config()) as job:
        job.adapter.parameters("text_encoder")[0].requires_grad_(False)
        for _ in range(3):
            job.step()
        assert len(job._optimizer_step.optimizer.state) == len(job._optimizer_step.weights) - 1
        assert copied == [len(job._optimizer_step.weights), 0, 0]
