"""What a job makes of the methods that its config names."""

import pytest
import torch

from trainer.adapter import PARTS
from trainer.cache import DataCache
from trainer.loop import TrainingJob
from trainer.model import BaseModel

from .conftest import MakeConfig
from .test_training_job import weights_of


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "prodigy"])
def test_the_text_encoder_stops_where_it_is_told_to(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, optimizer: str
) -> None:
    config = make_config(
        text_encoder_steps=2, optimizer=optimizer, text_encoder_learning_rate=None, lr_scheduler="constant"
    )
    moved, rates = [], []
    with TrainingJob(base, cache, config) as job:
        for _ in range(4):
            before = weights_of(job)
            rates.append(job.step().learning_rates)
            after = weights_of(job)
            changed = {name for name in before if not torch.equal(before[name], after[name])}
            moved.append({part for part in PARTS if any(name.startswith(f"{part}.") for name in changed)})
    assert moved == [set(PARTS), set(PARTS), {"unet"}, {"unet"}]
    assert rates == [{"unet": 1e-3, "text_encoder": 1e-3}] * 2 + [{"unet": 1e-3, "text_encoder": 0.0}] * 2
