"""Checkpoints of a training job: resumed bit for bit, or refused by what differs."""

import json
import math
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.support.job_state import assert_same, rewrite_numbers, state_of, weights_of
from tests.trainer.conftest import RESOLUTION, MakeConfig
from trainer.adapters.adapter_files import WEIGHTS_FILE, read_adapter_file, save_adapter
from trainer.config import TrainingConfig
from trainer.data.cache import DataCache
from trainer.job.job import TrainingDiverged, TrainingJob
from trainer.job.state import OtherJobError
from trainer.models.loading import BaseModel

FILES = {WEIGHTS_FILE, "optimizer.safetensors", "training_state.json"}


def run(job: TrainingJob, steps: int) -> list[tuple[float, dict[str, float]]]:
    reports = [job.step() for _ in range(steps)]
    return [(report.loss, report.learning_rates) for report in reports]


def optimizer_state(job: TrainingJob) -> list[dict[str, Tensor]]:
    return [
        {name: torch.as_tensor(value).clone() for name, value in job._optimizer_step.optimizer.state[weight].items()}
        for part in job.adapter.parts
        for weight in job.adapter.parameters(part)
    ]


def groups_of(job: TrainingJob) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in job._optimizer_step.optimizer.param_groups
    ]


def evaluated_weights(job: TrainingJob) -> dict[str, Tensor]:
    with job.evaluation_mode():
        return weights_of(job)


@dataclass(frozen=True)
class Uninterrupted:
    """A job that ran from start to end."""

    reports: list[tuple[float, dict[str, float]]]
    weights: dict[str, Tensor]
    moments: list[dict[str, Tensor]]
    groups: list[dict[str, Any]]
    evaluated: dict[str, Tensor]


METHODS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "adafactor": {"optimizer": "adafactor"},
    "prodigy": {"optimizer": "prodigy", "learning_rate": 1.0},
    "dora": {"adapter": "dora", "text_encoder_steps": 5},
    "lokr": {"adapter": "lokr", "dropout": 0.0},
    "loha": {"adapter": "loha", "dropout": 0.0},
    "averaged": {"ema_decay": 0.9, "loss": "huber", "noise_offset": 0.1, "gradient_checkpointing": True},
}


@pytest.fixture(scope="module", params=METHODS)
def restarting(request: pytest.FixtureRequest) -> TrainingConfig:
    """Two warm-up steps and two cycles of four; dropout, accumulation, both parts."""
    config = TrainingConfig(
        rank=4,
        alpha=10,
        steps=10,
        lr_scheduler="cosine_with_restarts",
        lr_cycles=2,
        lr_warmup_steps=2,
        learning_rate=1e-3,
        dropout=0.2,
        gradient_accumulation_steps=2,
        batch_size=1,
        resolution=RESOLUTION,
    )
    return replace(config, **METHODS[request.param])


@pytest.fixture(scope="module")
def uninterrupted(loaded_base: BaseModel, cache: DataCache, restarting: TrainingConfig) -> Uninterrupted:
    with TrainingJob(loaded_base, cache, restarting) as job:
        reports = run(job, 10)
        return Uninterrupted(
            reports=reports,
            weights=weights_of(job),
            moments=optimizer_state(job),
            groups=groups_of(job),
            evaluated=evaluated_weights(job),
        )


@pytest.mark.parametrize("kill", [1, 6, 9])
def test_a_resumed_job_equals_the_uninterrupted_one_bit_for_bit(
    base: BaseModel,
    cache: DataCache,
    restarting: TrainingConfig,
    uninterrupted: Uninterrupted,
    tmp_path: Path,
    kill: int,
) -> None:
    with TrainingJob(base, cache, restarting) as job:
        first = run(job, kill)
        job.save(tmp_path / "checkpoint")
        job.step()  # what came after the checkpoint is lost
    torch.manual_seed(999)
    with TrainingJob(base, cache, restarting) as job:
        job.restore(tmp_path / "checkpoint")
        assert job.step_count == kill
        rest = run(job, 10 - kill)
        assert job.finished
        assert first + rest == uninterrupted.reports
        weights = weights_of(job)
        assert weights.keys() == uninterrupted.weights.keys()
        assert all(torch.equal(uninterrupted.weights[name], weights[name]) for name in weights)
        for one, other in zip(optimizer_state(job), uninterrupted.moments, strict=True):
            assert one.keys() == other.keys()
            assert all(torch.equal(one[name], other[name]) for name in one)
        assert groups_of(job) == uninterrupted.groups
        evaluated = evaluated_weights(job)
        assert all(torch.equal(uninterrupted.evaluated[name], evaluated[name]) for name in weights)


def test_the_rate_restarts_within_the_run(restarting: TrainingConfig, uninterrupted: Uninterrupted) -> None:
    """So that the resumed runs above cross a restart, and none is stuck at 0."""
    rates = [rate["unet"] / restarting.learning_rate for _, rate in uninterrupted.reports]
    assert rates == pytest.approx([0, 0.5, 1, 0.85355, 0.5, 0.14645, 1, 0.85355, 0.5, 0.14645], rel=1e-4)


def test_a_job_can_go_back_to_its_own_checkpoint(
    base: BaseModel, cache: DataCache, restarting: TrainingConfig, tmp_path: Path
) -> None:
    with TrainingJob(base, cache, restarting) as job:
        run(job, 3)
        job.save(tmp_path / "checkpoint")
        expected = run(job, 3)
        job.restore(tmp_path / "checkpoint")
        assert run(job, 3) == expected


def test_a_checkpoint_is_three_files_without_pickle(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> Any:
        raise AssertionError("pickle was used")

    for module, name in (
        (pickle, "dump"),
        (pickle, "dumps"),
        (pickle, "load"),
        (pickle, "loads"),
        (torch, "save"),
        (torch, "load"),
    ):
        monkeypatch.setattr(module, name, fail)
    with TrainingJob(base, cache, make_config()) as job:
        job.step()
        for _ in range(2):
            job.save(tmp_path / "checkpoint")
        job.restore(tmp_path / "checkpoint")
        count = len(weights_of(job))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert {path.name for path in (tmp_path / "checkpoint").iterdir()} == FILES
    numbers = json.loads((tmp_path / "checkpoint" / "training_state.json").read_text())
    assert numbers["step"] == 1
    assert len(read_adapter_file(tmp_path / "checkpoint" / WEIGHTS_FILE)[0]) == count
    assert len(read_adapter_file(tmp_path / "checkpoint" / "optimizer.safetensors")[0]) == 3 * count


def test_a_checkpoint_before_the_first_step_resumes_too(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    with TrainingJob(base, cache, make_config()) as job:
        job.save(tmp_path / "checkpoint")
        expected = run(job, 2)
    with TrainingJob(base, cache, make_config()) as job:
        job.restore(tmp_path / "checkpoint")
        assert run(job, 2) == expected


@pytest.mark.parametrize("changes", [{"rank": 8}, {"seed": 1}, {"steps": 7}, {"text_encoder_learning_rate": 0.0}])
def test_another_job_s_checkpoint_is_refused_by_what_differs(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path, changes: dict[str, float]
) -> None:
    with TrainingJob(base, cache, make_config()) as job:
        job.save(tmp_path / "checkpoint")
    with TrainingJob(base, cache, make_config(**changes)) as job:
        before = weights_of(job)
        ((name, value),) = changes.items()
        with pytest.raises(ValueError, match=rf"belongs to another job: {name} \(.* there, {value} here\);"):
            job.restore(tmp_path / "checkpoint")
        assert job.step_count == 0
        assert all(torch.equal(before[name], weight) for name, weight in weights_of(job).items())


def test_a_checkpoint_of_other_photos_is_refused(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    with TrainingJob(base, cache, make_config()) as job:
        job.save(tmp_path / "checkpoint")
    fewer = replace(cache.rows(torch.arange(1, 5), torch.device("cpu")), inputs=())
    with TrainingJob(base, fewer, make_config()) as job, pytest.raises(ValueError, match=r"another job: photos \("):
        job.restore(tmp_path / "checkpoint")


def test_the_same_photos_encoded_elsewhere_continue_the_job(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Another machine or number of threads changes latents in their last bits. A caption that was edited is told."""
    with TrainingJob(base, cache, make_config()) as job:
        job.save(tmp_path / "checkpoint")
    elsewhere = replace(cache, latent_mean=cache.latent_mean + 1e-6)
    with TrainingJob(base, elsewhere, make_config()) as job:
        job.restore(tmp_path / "checkpoint")
    edited = replace(cache.inputs[2], caption="a man in a boat")
    other = replace(cache, inputs=(*cache.inputs[:2], edited, *cache.inputs[3:]))
    told = "another job: caption of photo2.png ('a man with a hat, number 2' there, 'a man in a boat' here); resume"
    with TrainingJob(base, other, make_config()) as job, pytest.raises(OtherJobError, match=re.escape(told)):
        job.restore(tmp_path / "checkpoint")


def test_the_remedy_for_too_little_memory_throws_no_step_away(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    with TrainingJob(base, cache, make_config()) as job:
        run(job, 2)
        job.save(tmp_path / "checkpoint")
        expected = run(job, 2)
    with TrainingJob(base, cache, make_config(gradient_checkpointing=True)) as job:
        job.restore(tmp_path / "checkpoint")
        assert run(job, 2) == expected


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    at = content.index(b'"step": 1') + 8 if path.suffix == ".json" else len(content) - 6
    content[at] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("damage", [Path.unlink, cut_short, flip_a_bit])
def test_a_damaged_checkpoint_is_a_named_error_and_the_job_as_it_was(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    with TrainingJob(base, cache, make_config(ema_decay=0.9)) as job:
        job.step()
        job.save(tmp_path / "whole")
        job.step()
        before = state_of(job)
        for name in sorted({*FILES, "trained_weights.safetensors"}):
            shutil.copytree(tmp_path / "whole", tmp_path / name)
            damage(tmp_path / name / name)
            with pytest.raises(ValueError, match=f"{name} is missing or damaged .* use another checkpoint"):
                job.restore(tmp_path / name)
            assert job.step_count == 2
            assert_same(state_of(job), before)


@pytest.mark.parametrize("name", ["lr_scheduler", "optimizer", "parameter_groups", "scaler", "step", "job", "files"])
def test_a_state_that_lacks_something_is_a_named_error_and_the_job_as_it_was(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path, name: str
) -> None:
    with TrainingJob(base, cache, make_config()) as job:
        job.step()
        job.save(tmp_path)
        before = state_of(job)
        rewrite_numbers(tmp_path, name)
        with pytest.raises(ValueError, match=r"training_state\.json is missing or damaged"):
            job.restore(tmp_path)
        assert_same(state_of(job), before)


def test_weights_that_are_not_finite_are_passed_over_and_never_written(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    with TrainingJob(base, cache, make_config()) as job:
        job.step()
        job.save(tmp_path / "state")
        tensors, texts = read_adapter_file(tmp_path / "state" / WEIGHTS_FILE)
        next(iter(tensors.values())).flatten()[0] = math.nan
        save_file(tensors, tmp_path / "state" / WEIGHTS_FILE, metadata=texts)
        rewrite_numbers(tmp_path / "state")
        with pytest.raises(ValueError, match="are not finite; use another checkpoint"):
            job.restore(tmp_path / "state")
        with torch.no_grad():
            job.adapter.parameters("unet")[3].view(-1)[0] = math.inf
        with pytest.raises(TrainingDiverged, match="the adapter is not finite at step 1; use a lower"):
            job.save(tmp_path / "other")
        with pytest.raises(ValueError, match="weights that are not finite; use a lower learning rate"):
            save_adapter(job.adapter, tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_save_that_fails_leaves_the_last_checkpoint_whole(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise OSError("no space left on device")

    with TrainingJob(base, cache, make_config()) as job:
        job.step()
        job.save(tmp_path / "checkpoint")
        expected = run(job, 1)
        with monkeypatch.context() as patch:
            patch.setattr("trainer.job.state.save_file", fail)
            with pytest.raises(OSError, match="no space left"):
                job.save(tmp_path / "checkpoint")
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
        job.restore(tmp_path / "checkpoint")
        assert run(job, 1) == expected
