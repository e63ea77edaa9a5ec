"""The exact state of a job on disk: safetensors and JSON, no pickle, in one folder that is whole or not there."""

import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from trainer.adapters.adapter import Adapter
from trainer.adapters.adapter_files import WEIGHTS_FILE, read_adapter_file, save_adapter, weights_of_part
from trainer.adapters.average import AveragedWeights
from trainer.config import TrainingConfig
from trainer.files import written_folder
from trainer.job.optimizer import OptimizerState, read_state, write_state

VERSION = 2
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "training_state.json"
TRAINED_FILE = "trained_weights.safetensors"
"""Only of a job that averages its weights: the adapter's own file then holds the average."""


@dataclass(frozen=True, eq=False, kw_only=True)
class JobState:
    """The live objects that a checkpoint is taken from, or put into."""

    adapter: Adapter
    average: AveragedWeights | None
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler | None
    """Loss scaling of float16 jobs."""
    step: int
    config: TrainingConfig
    base_sha256: str
    cache_sha256: str
    prior_sha256: str | None = None
    """Of the class images; None where none are learnt."""

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to continue this job."""
        prior = {"class images": self.prior_sha256} if self.prior_sha256 is not None else {}
        return {**asdict(self.config), "base model": self.base_sha256, "photos": self.cache_sha256, **prior}


def save(state: JobState, folder: Path) -> None:
    """Writes `folder` atomically: pytorch_lora_weights.safetensors, optimizer.safetensors, training_state.json.

    Where weights are averaged, trained_weights.safetensors beside them.
    """
    optimizer = read_state(state.optimizer, named_weights(state.adapter))
    numbers = {
        "version": VERSION,
        "step": state.step,
        "job": state.identity,
        "optimizer": optimizer.numbers,
        "parameter_groups": optimizer.groups,
        "lr_scheduler": {
            name: value for name, value in state.lr_scheduler.state_dict().items() if name != "lr_lambdas"
        },
        "scaler": state.scaler.state_dict() if state.scaler is not None else None,
    }
    with written_folder(Path(folder)) as temporary:
        with state.average.applied() if state.average is not None else nullcontext():
            save_adapter(state.adapter, temporary)
            if state.average is not None:
                trained = {name: value.detach().cpu().contiguous() for name, value in state.average.trained.items()}
                save_file(trained, temporary / TRAINED_FILE)
        save_file(optimizer.tensors, temporary / OPTIMIZER_FILE)
        (temporary / STATE_FILE).write_text(json.dumps(numbers, indent=1), encoding="utf-8")


def restore(state: JobState, folder: Path) -> int:
    """Puts the checkpoint in `folder` into the live objects and returns its step.

    Raises:
        ValueError: the checkpoint is missing, damaged or another job's.
    """
    folder = Path(folder)
    try:
        numbers = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / STATE_FILE} is missing or damaged ({error}); use another checkpoint") from error
    _check_identity(state, numbers, folder)
    adapter_weights, _ = read_adapter_file(folder / WEIGHTS_FILE)
    moments, _ = read_adapter_file(folder / OPTIMIZER_FILE)
    for part in state.adapter.parts:
        state.adapter.load_state_dict(part, weights_of_part(state.adapter, part, adapter_weights))
    if state.average is not None:
        trained, _ = read_adapter_file(folder / TRAINED_FILE)
        state.average.restore(trained)
    write_state(
        state.optimizer,
        named_weights(state.adapter),
        OptimizerState(tensors=moments, numbers=numbers["optimizer"], groups=numbers["parameter_groups"]),
    )
    state.lr_scheduler.load_state_dict({**numbers["lr_scheduler"], "lr_lambdas": [None] * len(state.adapter.parts)})
    if state.scaler is not None:
        state.scaler.load_state_dict(numbers["scaler"])
    return int(numbers["step"])


def _check_identity(state: JobState, numbers: dict[str, Any], folder: Path) -> None:
    if numbers.get("version") != VERSION:
        raise ValueError(
            f"{folder} has checkpoint version {numbers.get('version')}, not {VERSION}; start the job afresh"
        )
    saved, own = numbers["job"], state.identity
    differing = sorted(name for name in saved.keys() | own.keys() if saved.get(name) != own.get(name))
    if differing:
        listed = ", ".join(f"{name} ({saved.get(name)!r} there, {own.get(name)!r} here)" for name in differing)
        raise ValueError(
            f"the checkpoint {folder} belongs to another job: {listed}; resume with what it was started with"
        )


def named_weights(adapter: Adapter) -> dict[str, torch.nn.Parameter]:
    """All weights of an adapter by part and name."""
    return {
        f"{part}.{name}": weight for part in adapter.parts for name, weight in adapter.named_parameters(part).items()
    }
