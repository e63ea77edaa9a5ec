"""The exact state of a job on disk: safetensors and JSON, no pickle, in one folder that is whole or not there."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from trainer.adapters.adapter import Adapter
from trainer.adapters.adapter_files import WEIGHTS_FILE, read_adapter_file, save_adapter, weights_of_part
from trainer.adapters.average import AveragedWeights
from trainer.data.cache import tensor_digest
from trainer.files import written_folder
from trainer.job.identity import JobIdentity
from trainer.job.optimizer import OptimizerState, read_state, write_state

VERSION = 3
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "training_state.json"
TRAINED_FILE = "trained_weights.safetensors"
"""Only of a job that averages its weights: the adapter's own file then holds the average."""
DIGEST = "sha256"
"""Name in the JSON file of the digest of all that it holds beside it."""


class OtherJobError(ValueError):
    """A whole state, but that of another job; the message names what differs."""


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
    identity: JobIdentity


def save(state: JobState, folder: Path) -> None:
    """Writes `folder` atomically: pytorch_lora_weights.safetensors, optimizer.safetensors, training_state.json.

    Where weights are averaged, trained_weights.safetensors beside them. The JSON file holds digests of the others and
    of itself.
    """
    optimizer = read_state(state.optimizer, named_weights(state.adapter))
    with written_folder(Path(folder)) as temporary:
        with state.average.applied() if state.average is not None else nullcontext():
            save_adapter(state.adapter, temporary)
            if state.average is not None:
                trained = {name: value.detach().cpu().contiguous() for name, value in state.average.trained.items()}
                save_file(trained, temporary / TRAINED_FILE)
        save_file(optimizer.tensors, temporary / OPTIMIZER_FILE)
        numbers = {
            "version": VERSION,
            "step": state.step,
            "job": state.identity.as_json(),
            "optimizer": optimizer.numbers,
            "parameter_groups": optimizer.groups,
            "lr_scheduler": {
                name: value for name, value in state.lr_scheduler.state_dict().items() if name != "lr_lambdas"
            },
            "scaler": state.scaler.state_dict() if state.scaler is not None else None,
            "files": {path.name: _digest_of(path) for path in sorted(temporary.glob("*.safetensors"))},
        }
        content = {**numbers, DIGEST: _digest(numbers)}
        (temporary / STATE_FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")


def restore(state: JobState, folder: Path) -> int:
    """Puts the checkpoint in `folder` into the live objects and returns its step.

    Everything is read and checked before the first of them is changed, so after an error they are as before.

    Raises:
        OtherJobError: the checkpoint is another job's.
        ValueError: the checkpoint is missing or damaged, or its weights are not finite.
    """
    folder = Path(folder)
    numbers = _read_numbers(folder)
    try:
        return _restore(state, numbers, folder)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / STATE_FILE} is missing or damaged ({error!r}); use another checkpoint") from error


def _restore(state: JobState, numbers: dict[str, Any], folder: Path) -> int:
    if differing := state.identity.differences(numbers["job"]):
        raise OtherJobError(
            f"the checkpoint {folder} belongs to another job: {', '.join(differing)}; resume with what it was started "
            "with"
        )
    adapter_weights = _read_tensors(folder / WEIGHTS_FILE, numbers)
    moments = _read_tensors(folder / OPTIMIZER_FILE, numbers)
    parts = {part: weights_of_part(state.adapter, part, adapter_weights) for part in state.adapter.parts}
    for part, weights in parts.items():
        _check_weights(folder / WEIGHTS_FILE, weights, state.adapter.state_dict(part))
    trained: dict[str, Tensor] = {}
    if state.average is not None:
        trained = _read_tensors(folder / TRAINED_FILE, numbers)
        _check_weights(folder / TRAINED_FILE, trained, state.average.trained)
    optimizer = OptimizerState(tensors=moments, numbers=numbers["optimizer"], groups=numbers["parameter_groups"])
    names = named_weights(state.adapter)
    remembered = {key.rsplit(".", 1)[0] for key in moments} | optimizer.numbers.keys()
    if not remembered <= names.keys() or len(optimizer.groups) != len(state.optimizer.param_groups):
        raise ValueError(f"{folder / OPTIMIZER_FILE} does not fit the job; use another checkpoint")
    scheduler, step = dict(numbers["lr_scheduler"]), int(numbers["step"])
    scaler = numbers["scaler"]

    write_state(state.optimizer, names, optimizer)
    for part, weights in parts.items():
        state.adapter.load_state_dict(part, weights)
    if state.average is not None:
        state.average.restore(trained)
    state.lr_scheduler.load_state_dict({**scheduler, "lr_lambdas": [None] * len(state.adapter.parts)})
    if state.scaler is not None and scaler:
        state.scaler.load_state_dict(scaler)
    return step


def _read_numbers(folder: Path) -> dict[str, Any]:
    path = folder / STATE_FILE
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(numbers, dict):
            raise ValueError("it holds no settings")
        version = numbers.get("version")
        if version == VERSION and numbers.pop(DIGEST, None) != _digest(numbers):
            raise ValueError("it is not as it was written")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is missing or damaged ({error}); use another checkpoint") from error
    if version != VERSION:
        raise ValueError(f"{folder} has checkpoint version {version}, not {VERSION}; start the job afresh")
    return numbers


def _read_tensors(path: Path, numbers: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors, texts = read_adapter_file(path)
    if _file_digest(tensors, texts) != numbers["files"][path.name]:
        raise ValueError(f"{path} is missing or damaged (it is not as it was written); use another checkpoint")
    return tensors


def _check_weights(path: Path, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    if {name: value.shape for name, value in weights.items()} != {name: value.shape for name, value in own.items()}:
        raise ValueError(f"the weights in {path} do not fit the job's adapter; use another checkpoint")
    if not all(value.isfinite().all() for value in weights.values()):
        raise ValueError(f"the weights in {path} are not finite; use another checkpoint")


def _digest_of(path: Path) -> str:
    return _file_digest(*read_adapter_file(path))


def _file_digest(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """Over the contents, not the bytes: safetensors leaves the order of texts in the header to chance."""
    return _digest([tensor_digest(tensors), texts])


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def named_weights(adapter: Adapter) -> dict[str, torch.nn.Parameter]:
    """All weights of an adapter by part and name."""
    return {
        f"{part}.{name}": weight for part in adapter.parts for name, weight in adapter.named_parameters(part).items()
    }
