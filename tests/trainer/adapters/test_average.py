"""The running average of an adapter's weights."""

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from tests.support.job_state import weights_of
from tests.trainer.conftest import MakeConfig
from trainer.adapters.adapter_files import WEIGHTS_FILE, read_adapter_file, weights_of_part
from trainer.adapters.average import AveragedWeights
from trainer.data.cache import DataCache
from trainer.job.job import TrainingJob
from trainer.job.state import TRAINED_FILE
from trainer.models.loading import BaseModel


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_is_diffusers(decay: float) -> None:
    """Over both phases: early, where the decay grows with the steps, and at the decay itself."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(5, generator=generator))
    average = AveragedWeights({"weight": weight}, decay)
    oracle = EMAModel([weight], decay=decay)
    for step in range(1, 13):
        weight.data += torch.randn(5, generator=generator)
        average.update(step)
        oracle.step([weight])
        torch.testing.assert_close(average.average["weight"], oracle.shadow_params[0], rtol=0, atol=1e-6)
    assert oracle.cur_decay_value == min(decay, 12 / 21)


def test_weights_and_average_change_places_once() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    average = AveragedWeights({"weight": weight}, 0.9)
    weight.data.fill_(4.0)
    with average.applied(), average.applied():
        assert (weight.item(), average.average["weight"].item(), average.trained["weight"].item()) == (1, 1, 4)
    assert (weight.item(), average.average["weight"].item(), average.trained["weight"].item()) == (4, 1, 4)
    with pytest.raises(RuntimeError, match="no image"), average.applied():
        raise RuntimeError("no image")
    assert weight.item() == 4


def test_another_adapter_s_weights_are_refused() -> None:
    average = AveragedWeights({"weight": nn.Parameter(torch.zeros(2))}, 0.9)
    with pytest.raises(ValueError, match="do not fit the adapter's; use another checkpoint"):
        average.restore({"weight": torch.zeros(3)})


def test_a_job_evaluates_and_saves_the_average(
    base: BaseModel, cache: DataCache, make_config: MakeConfig, tmp_path: object
) -> None:
    folder = tmp_path / "checkpoint"  # type: ignore[operator]
    with TrainingJob(base, cache, make_config(ema_decay=0.5)) as job:
        parameters = [weight for part in job.adapter.parts for weight in job.adapter.parameters(part)]
        oracle = EMAModel(parameters, decay=0.5)
        for _ in range(4):
            job.step()
            oracle.step(parameters)
        trained = weights_of(job)
        with job.evaluation_mode():
            evaluated = weights_of(job)
        job.save(folder)
        assert same(weights_of(job), trained)
        for weight, expected in zip(evaluated.values(), oracle.shadow_params, strict=True):
            torch.testing.assert_close(weight, expected, rtol=0, atol=1e-7)
        assert not same(evaluated, trained)
        tensors, _ = read_adapter_file(folder / WEIGHTS_FILE)
        saved = [
            weight for part in job.adapter.parts for weight in weights_of_part(job.adapter, part, tensors).values()
        ]
        kept, _ = read_adapter_file(folder / TRAINED_FILE)
    assert sorted(weight.double().sum().item() for weight in saved) == sorted(
        weight.double().sum().item() for weight in evaluated.values()
    )
    assert same(kept, trained)


def test_the_average_moves_no_weight_of_the_training(
    base: BaseModel, cache: DataCache, make_config: MakeConfig
) -> None:
    runs = []
    for decay in (0.0, 0.9):
        with TrainingJob(base, cache, make_config(ema_decay=decay)) as job:
            losses = [job.step().loss]
            job.validation_loss(cache)
            losses += [job.step().loss for _ in range(2)]
            runs.append((losses, weights_of(job)))
    assert runs[0][0] == runs[1][0]
    assert same(runs[0][1], runs[1][1])


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
