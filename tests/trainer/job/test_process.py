"""The process of a training job, in which it leaves nothing behind."""

import gc
import os
import weakref

import pytest
import torch
import torch.distributed
from torch import nn

from tests.support.job_state import watch_gradients
from tests.trainer.conftest import DEMO_BASE, FULL, MakeConfig, UnetOutput
from trainer.data.cache import DataCache
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel, load_base_model


def test_ten_jobs_in_one_process_leave_no_trace(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, unet_output: UnetOutput
) -> None:
    def shape_of(module: nn.Module) -> list[tuple[str, str, bool]]:
        return [(name, type(part).__name__, part.training) for name, part in module.named_modules()]

    modules = (base.denoiser, base.text_encoder)
    before, answer = [shape_of(module) for module in modules], unet_output(base)
    attributes = [set(vars(module)) for module in modules]
    kept = []
    for number in range(10):
        config = make_config(
            rank=2 + number,
            alpha=1.0 + number,
            targets=FULL if number % 3 == 0 else "attention",
            text_encoder_learning_rate=1e-4 * (number % 2),
            gradient_accumulation_steps=1 + number % 3,
            batch_size=1 + number % 2,
            mixed_precision="bf16" if number % 4 == 1 else "no",
            dropout=0.1 * (number % 2),
            seed=9,
        )
        job = TrainingJob(base, cache, config)
        seen = watch_gradients(job)
        losses = [job.step().loss, job.step().loss]
        assert len(seen) == 2
        kept.append(weakref.ref(job.adapter.parameters("unet")[0]))
        job.close()
        job.close()
        with pytest.raises(RuntimeError, match="closed at step 2"):
            job.step()
        del job, seen
    gc.collect()
    assert [reference() for reference in kept] == [None] * 10
    assert [shape_of(module) for module in modules] == before
    assert [set(vars(module)) - {"_hf_peft_config_loaded"} for module in modules] == [
        names - {"_hf_peft_config_loaded"} for names in attributes
    ]
    assert torch.equal(unet_output(base), answer)
    with TrainingJob(load_base_model(DEMO_BASE, device="cpu"), cache, config) as alone:
        assert [alone.step().loss, alone.step().loss] == losses


def test_a_job_that_cannot_start_leaves_no_adapter(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise MemoryError("no memory for the optimizer")

    monkeypatch.setattr(torch.optim, "AdamW", fail)
    with pytest.raises(MemoryError):
        TrainingJob(base, cache, make_config())


def test_a_launcher_s_environment_is_left_alone(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accelerate, left to itself, would join a process group of two and set thread counts here."""
    launcher = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    environment, threads = dict(os.environ), torch.get_num_threads()
    with TrainingJob(base, cache, make_config()) as job:
        job.step()
    assert dict(os.environ) == environment
    assert torch.get_num_threads() == threads
    assert not torch.distributed.is_initialized()
