"""Steps that run out of memory, by allocators that refuse more than so many photos at a time."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.support.job_state import assert_same, state_of
from tests.support.ranks import run_two_ranks
from tests.support.small_memory import MESSAGE, backward_holds, forward_holds, lack, optimizer_holds
from tests.trainer.conftest import MakeConfig
from trainer.data.cache import DataCache
from trainer.job.job import TrainingJob
from trainer.job.memory import StepOutOfMemory
from trainer.job.optimizer_step import StepStart
from trainer.models.loading import BaseModel

POINTS = [("forward", "adamw"), ("backward", "adamw")] + [
    ("optimizer", name) for name in ("adamw", "prodigy", "adafactor")
]


@pytest.mark.parametrize(("point", "optimizer"), POINTS)
def test_a_step_that_ran_out_of_memory_is_as_one_told_to_take_fewer_photos(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, point: str, optimizer: str
) -> None:
    """Bit for bit: losses, weights, moments, groups, counters; with dropout and two accumulated passes of 3 photos."""
    config = make_config(
        batch_size=3,
        gradient_accumulation_steps=2,
        dropout=0.3,
        optimizer=optimizer,
        text_encoder_learning_rate=1e-3,
    )
    with TrainingJob(base, cache, config, micro_batch=1) as told:
        losses = [told.step().loss for _ in range(2)]
        expected = state_of(told)
        assert told.remarks == ()
    with TrainingJob(base, cache, config) as job:
        holds: dict[str, Callable[[], AbstractContextManager[None]]] = {
            "forward": lambda: forward_holds(base, 1),
            "backward": lambda: backward_holds(base, 1),
            "optimizer": lambda: optimizer_holds(job, 1),
        }
        with holds[point]():
            assert [job.step().loss for _ in range(2)] == losses
        assert_same(state_of(job), expected)
        assert job.micro_batch == 1
        assert job.remarks == (
            "out of memory at step 1 with 3 photos in a forward pass: from there on 2 at a time, gradients accumulated",
            "out of memory at step 1 with 2 photos in a forward pass: from there on 1 at a time, gradients accumulated",
        )


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_memory_that_runs_out_later_undoes_that_step_only(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, optimizer: str
) -> None:
    config = make_config(batch_size=4, optimizer=optimizer, ema_decay=0.9)
    with TrainingJob(base, cache, config) as told:
        losses = [told.step().loss]
        told._micro_batch.size = 2
        losses.append(told.step().loss)
        expected = state_of(told)
        average = {name: weight.clone() for name, weight in (told._average.average if told._average else {}).items()}
    with TrainingJob(base, cache, config) as job:
        assert job.step().loss == losses[0]
        with backward_holds(base, 2):
            assert job.step().loss == losses[1]
        assert_same(state_of(job), expected)
        assert job._average is not None
        assert all(torch.equal(weight, average[name]) for name, weight in job._average.average.items())
        assert (job.micro_batch, len(job.remarks)) == (2, 1)


def test_fewer_photos_at_a_time_learn_the_same(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    """The gradient of 3 photos is 2/3 that of the first two and 1/3 that of the last, up to rounding."""
    gradients, losses = [], []
    for size in (3, 2, 1):
        with TrainingJob(base, cache, make_config(batch_size=3, max_grad_norm=1e9), micro_batch=size) as job:
            seen: list[Tensor] = []
            job._optimizer_step.optimizer.register_step_pre_hook(
                lambda *arguments, job=job, seen=seen: seen.extend(
                    weight.grad.clone() for weight in job._optimizer_step.weights if weight.grad is not None
                )
            )
            losses.append(job.step().loss)
            gradients.append(torch.cat([gradient.flatten() for gradient in seen]))
    whole, *split = gradients
    assert whole.norm() > 0
    for gradient in split:
        assert (gradient - whole).norm() < 1e-5 * whole.norm()
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)


def test_when_not_one_photo_fits_the_job_gives_up_and_names_the_remedies(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    """What was learnt before is still there to be saved, and goes on elsewhere as if nothing had been."""
    config = make_config(batch_size=2)
    with TrainingJob(base, cache, config) as whole:
        losses = [whole.step().loss for _ in range(2)]
        expected = state_of(whole)
    with TrainingJob(base, cache, config) as job:
        job.step()
        before = state_of(job)
        with forward_holds(base, 0), pytest.raises(StepOutOfMemory) as caught:
            job.step()
        assert str(caught.value) == (
            "out of memory at step 2 with a single photo in a forward pass (CUDA out of memory. Tried to allocate 2.00 "
            "GiB.); set training.gradient_checkpointing to true, or lower training.resolution (32) or rank (4), or let "
            "fewer seats share a GPU (seats.count, seats.gpus_per_worker)"
        )
        assert caught.value.step == 2
        assert (job.step_count, job.micro_batch) == (1, 1)
        assert_same(state_of(job), before)
        job.save(tmp_path / "state")
    with TrainingJob(base, cache, config) as bigger:
        bigger.restore(tmp_path / "state")
        assert bigger.micro_batch == 2, "a checkpoint knows nothing of the split"
        assert bigger.step().loss == losses[1]
        assert_same({**state_of(bigger), "counter": 0}, {**expected, "counter": 0})
    assert "gradient_checkpointing" not in str(StepOutOfMemory(1, "", replace(config, gradient_checkpointing=True)))


def test_other_errors_go_through(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("device-side assert triggered")

    with TrainingJob(base, cache, make_config(batch_size=2)) as job:
        hook = base.denoiser.register_forward_pre_hook(fail)
        try:
            with pytest.raises(RuntimeError, match="device-side assert"):
                job.step()
        finally:
            hook.remove()
        assert (job.micro_batch, job.remarks) == (2, ())


def test_a_micro_batch_holds_at_least_one_photo(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match="micro_batch is 0; at least one photo"):
        TrainingJob(base, cache, make_config(), micro_batch=0)


def test_validation_takes_two_rows_a_photo_and_fewer_when_memory_runs_out(
    base: BaseModel, cache: DataCache, make_config: MakeConfig
) -> None:
    """Ten rows: at micro-batch 2 in fours; where three are too many, in twos from the start."""
    rows: list[int] = []

    def check(module: Any, arguments: tuple[Any, ...]) -> None:
        rows.append(len(arguments[0]))
        if len(arguments[0]) > most:
            lack()

    with TrainingJob(base, cache, make_config(batch_size=2)) as job:
        hook = base.denoiser.register_forward_pre_hook(check)
        try:
            most = 4
            value = job.validation_loss(cache)
            assert rows == [4] * 10
            rows.clear()
            most = 2
            assert job.validation_loss(cache) == pytest.approx(value, rel=1e-6)
            assert rows == [4] + [2] * 20
            most = 0
            with pytest.raises(torch.OutOfMemoryError, match="one row at a time in validation"):
                job.validation_loss(cache)
        finally:
            hook.remove()


def test_float16_scaling_can_begin_again(base: BaseModel, cache: DataCache, make_config: MakeConfig) -> None:
    """A step undone between unscaling and the optimizer's step: the scaler neither refuses nor grows."""
    with TrainingJob(base, cache, make_config(optimizer="adafactor")) as job:
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=1)
        job._accelerator.scaler = scaler
        optimizer, weights = job._optimizer_step.optimizer, job._optimizer_step.weights
        for _ in range(2):
            start = StepStart(job._accelerator, optimizer, weights)
            before = state_of(job)
            for weight in weights:
                weight.grad = torch.ones_like(weight)
            scaler.scale(torch.ones(()))
            start.keep(copies=True)
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            assert scaler.get_scale() == 128.0
            start.undo()
            assert scaler.get_scale() == 64.0
            assert_same(state_of(job), before)


def test_two_ranks_agree_when_memory_runs_out_in_one_of_them(
    cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    """In the first step in the second rank's forward pass, in the next after its optimizer's step, when the first has
    done its own; at last in the first rank for good. Neither waits for the other for ever."""
    config = make_config(batch_size=8, text_encoder_learning_rate=0.0)
    run_two_ranks("memory_rank.py", tmp_path, config, cache)
    told = [json.loads((tmp_path / f"told-{rank}.json").read_text()) for rank in range(2)]
    assert [each["micro_batches"] for each in told] == [[2, 1]] * 2
    assert told[0]["losses"] == told[1]["losses"]
    assert told[0]["losses"] == told[0]["expected_losses"]
    assert told[0]["remarks"] == told[1]["remarks"]
    assert [each["failure"].split(";")[0] for each in told] == [
        f"out of memory at step 3 with a single photo in a forward pass ({words})"
        for words in (MESSAGE.splitlines()[0], "in another process")
    ]
    weights = [
        load_file(tmp_path / f"{name}-{rank}.safetensors") for name in ("weights", "expected") for rank in range(2)
    ]
    for other in weights[1:]:
        assert_same(weights[0], other)
