"""A small training loop that can be killed at any moment: AdamW, cosine schedule, moving average of the weights.

The state is written every minute as one safetensors file; a run that is started again goes on from there. What step
`k` draws depends on the seed and on `k` alone, so that no generator has to be stored.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a stage trains and how fast it learns."""

    minutes: float
    """Training time in minutes, summed over restarts; the learning rate falls to zero along it."""
    learning_rate: float
    """Peak learning rate of AdamW."""
    warmup_steps: int = 100
    """Steps over which the learning rate rises from zero."""
    average_decay: float = 0.998
    """Decay of the moving average of the weights, a step."""


def write_safetensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a temporary file, flushes it to disk and renames it: readers of `path` see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(
        {name: value.contiguous() for name, value in tensors.items()}, temporary, dict(metadata or {"format": "pt"})
    )
    temporary.chmod(0o644)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def step_generator(seed: int, step: int) -> torch.Generator:
    """The generator of everything that one step draws."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)


class TrainingRun:
    """Weights in training, their moving average and the optimizer, as one thing that can be saved and restored.

    Args:
        modules: what is trained, by name; only parameters that require gradients are.
        budget: time and learning rate.
        state_file: where the state is kept.
        seed: of everything that is drawn.
    """

    def __init__(self, modules: Mapping[str, nn.Module], budget: Budget, state_file: Path, seed: int) -> None:
        self.modules = dict(modules)
        self.budget = budget
        self.state_file = state_file
        self.seed = seed
        self.step = 0
        self.seconds = 0.0
        self._parameters = {
            f"{part}.{name}": parameter
            for part, module in self.modules.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self._optimizer = torch.optim.AdamW(
            list(self._parameters.values()), lr=budget.learning_rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True
        )
        self._average = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        if state_file.exists():
            self._restore()

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, from 0."""
        return self.seconds / (60 * self.budget.minutes)

    @property
    def finished(self) -> bool:
        """Whether the budget is spent."""
        return self.progress >= 1

    def _learning_rate(self) -> float:
        warmup = min(1.0, (self.step + 1) / self.budget.warmup_steps)
        return self.budget.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, self.progress)))

    def train(
        self,
        loss_of_step: Callable[[torch.Generator], Tensor],
        *,
        every_minutes: float = 10.0,
        export: Callable[["TrainingRun"], None] | None = None,
    ) -> None:
        """Trains until the budget is spent; calls `export` every so many minutes of training and at the end."""
        started, before = time.monotonic(), self.seconds
        next_save, next_export = self.seconds + 60, self.seconds + 60 * every_minutes
        losses: list[float] = []
        while not self.finished:
            learning_rate = self._learning_rate()
            for group in self._optimizer.param_groups:
                group["lr"] = learning_rate
            loss = loss_of_step(step_generator(self.seed, self.step))
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._parameters.values(), 1.0)
            self._optimizer.step()
            self.step += 1
            decay = min(self.budget.average_decay, (1 + self.step) / (10 + self.step))
            with torch.no_grad():
                torch._foreach_lerp_(list(self._average.values()), list(self._parameters.values()), 1 - decay)
            losses.append(loss.item())
            self.seconds = before + time.monotonic() - started
            if self.seconds >= next_save or self.finished:
                spent = f"{self.seconds / 60:.1f} of {self.budget.minutes:g} minutes"
                mean_loss = sum(losses) / len(losses)
                print(f"{self.state_file.stem}: step {self.step}, {spent}, loss {mean_loss:.4f}", flush=True)
                losses.clear()
                self.save()
                next_save = self.seconds + 60
            if export is not None and (self.seconds >= next_export or self.finished):
                export(self)
                next_export = self.seconds + 60 * every_minutes

    def averaged(self, part: str) -> dict[str, Tensor]:
        """The state dict of one module with the moving average in place of what was trained."""
        state = dict(self.modules[part].state_dict())
        for name, value in self._average.items():
            if name.startswith(f"{part}."):
                state[name.removeprefix(f"{part}.")] = value
        return state

    def save(self) -> None:
        """Writes weights, averages and optimizer state."""
        tensors = {f"weight/{name}": parameter.detach() for name, parameter in self._parameters.items()}
        tensors |= {f"average/{name}": value for name, value in self._average.items()}
        for name, parameter in self._parameters.items():
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = value
        write_safetensors(
            tensors, self.state_file, {"progress": json.dumps({"step": self.step, "seconds": self.seconds})}
        )

    def _restore(self) -> None:
        with safe_open(self.state_file, framework="pt") as file:
            progress = json.loads(file.metadata()["progress"])
            self.step, self.seconds = int(progress["step"]), float(progress["seconds"])
            for name, parameter in self._parameters.items():
                with torch.no_grad():
                    parameter.copy_(file.get_tensor(f"weight/{name}"))
                self._average[name] = file.get_tensor(f"average/{name}")
                self._optimizer.state[parameter] = {
                    key: file.get_tensor(f"{key}/{name}") for key in ("step", "exp_avg", "exp_avg_sq")
                }


def averaged_weights(state_file: Path, part: str) -> dict[str, Tensor]:
    """The moving averages of one module out of a saved state.

    Raises:
        ValueError: there is no such state.
    """
    if not state_file.exists():
        raise ValueError(f"{state_file} does not exist; train it first with `python -m demo.build`")
    prefix = f"average/{part}."
    with safe_open(state_file, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - the file is no dict
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
