"""A training job in two processes learns what it learns in one."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.ranks import run_two_ranks
from tests.trainer.conftest import MakeConfig
from trainer.data.cache import DataCache
from trainer.job.job import TrainingJob
from trainer.models.loading import BaseModel


def test_two_ranks_learn_what_one_learns(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: Path
) -> None:
    """The photos stand in for class images, too: each rank takes its share of both."""
    config = make_config(batch_size=4, gradient_accumulation_steps=2, prior_loss_weight=0.5)
    run_two_ranks("rank_process.py", tmp_path, config, cache)
    with TrainingJob(base, cache, config, prior=cache) as job:
        losses = [job.step().loss for _ in range(3)]
        alone = {name: weight.detach().clone() for name, weight in job.adapter.named_parameters("unet").items()}
    first, second = (load_file(tmp_path / str(rank) / "weights.safetensors") for rank in range(2))
    assert first.keys() == second.keys() == alone.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    for rank in range(2):
        assert json.loads((tmp_path / str(rank) / "losses.json").read_text()) == pytest.approx(losses, rel=1e-4)
        assert (tmp_path / str(rank) / "error.txt").read_text() == (
            "batch_size is 3, which 2 processes cannot share evenly; make it a multiple of 2"
        )
    # Adam divides a gradient by its own size, so where it is almost 0, rounding moves a weight by up to a whole step.
    difference = torch.cat([(first[name] - alone[name]).abs().flatten() for name in alone])
    assert difference.median() < 1e-7
    assert (difference > 1e-5).float().mean() < 0.01
    assert (tmp_path / "0" / "checkpoint" / "training_state.json").is_file()
    assert not (tmp_path / "1" / "checkpoint").exists()
