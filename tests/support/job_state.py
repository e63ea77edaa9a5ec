"""What a training job holds: its weights, its gradients, and the state that its next step depends on."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.job import state
from trainer.job.job import TrainingJob


def weights_of(job: TrainingJob) -> dict[str, Tensor]:
    return {
        f"{part}.{name}": weight.detach().clone()
        for part in job.adapter.parts
        for name, weight in job.adapter.named_parameters(part).items()
    }


def watch_gradients(job: TrainingJob) -> list[dict[str, Tensor]]:
    """Filled with the gradients that the optimizer is given, at every optimizer step."""
    seen: list[dict[str, Tensor]] = []

    def record(*arguments: object) -> None:
        named = {
            name: weight for part in job.adapter.parts for name, weight in job.adapter.named_parameters(part).items()
        }
        seen.append({name: weight.grad.clone() for name, weight in named.items() if weight.grad is not None})

    job._optimizer_step.optimizer.register_step_pre_hook(record)
    return seen


def state_of(job: TrainingJob) -> dict[str, Any]:
    """Weights, moments and everything else that the next step depends on."""
    named = {
        f"{part}.{name}": weight
        for part in job.adapter.parts
        for name, weight in job.adapter.named_parameters(part).items()
    }
    moments = {
        f"{name}.{moment}": torch.as_tensor(value).detach().clone()
        for name, weight in named.items()
        for moment, value in job._optimizer_step.optimizer.state.get(weight, {}).items()
    }
    return {
        **{name: weight.detach().clone() for name, weight in named.items()},
        **moments,
        "groups": [
            {key: value for key, value in group.items() if key != "params"}
            for group in job._optimizer_step.optimizer.param_groups
        ],
        "counter": job._accelerator.step,
    }


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]) if isinstance(value, Tensor) else value == other[name], name


def rewrite_numbers(folder: Path, *without: str) -> None:
    """Writes the JSON file of a saved state again, with the digests of what is there: as if a job had written it so.

    Args:
        folder: of the state.
        without: keys that are left out.
    """
    path = folder / state.STATE_FILE
    numbers = json.loads(path.read_text("utf-8"))
    numbers["files"] = {each.name: state._digest_of(each) for each in folder.glob("*.safetensors")}
    kept = {name: value for name, value in numbers.items() if name not in (*without, state.DIGEST)}
    path.write_text(json.dumps({**kept, state.DIGEST: state._digest(kept)}), "utf-8")
