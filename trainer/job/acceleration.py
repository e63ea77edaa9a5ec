"""One accelerate.Accelerator per job, free of what earlier jobs or the process's launcher left behind.

It compiles nothing, on any device. On a CPU torch.compile of the UNet made a step of the demo's model 1.1 times as
fast (52 to 47 ms), after 84 s, or 7 s where its cache was filled, and that anew for every rank, choice of targets and
size of a batch, those of validation and of the images included: in a trial of 300 steps it costs more than it saves. On
a GPU nothing has been measured; there, too, the trials of a search would each compile their own rank.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from accelerate.state import AcceleratorState, GradientState  # type: ignore[import-untyped]

from trainer.config import MixedPrecision

Precision = Literal["no", "bf16", "fp16"]
LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


def choose_precision(requested: MixedPrecision, device: torch.device, dtype: torch.dtype) -> Precision:
    """Autocast format of a job whose frozen weights are `dtype` on `device`.

    "auto" is "no" on a CPU (bf16 was 0.87 times as fast at batch 2), else the format of the weights; float16 comes with
    dynamic loss scaling.

    Raises:
        ValueError: the device cannot do what is asked for.
    """
    if dtype == torch.float16:
        if requested == "auto":
            return "fp16"
        raise ValueError(f"mixed_precision is {requested!r}, but {device} has no bfloat16; set it to 'auto'")
    if requested == "auto":
        return "bf16" if device.type == "cuda" and dtype == torch.bfloat16 else "no"
    return requested


def make_accelerator(device: torch.device, precision: Precision, gradient_accumulation_steps: int) -> Accelerator:
    """An accelerator for one job, which replaces the previous job's: only one job of a process may step at a time.

    Accelerate keeps precision, device and accumulation in process-wide state and refuses to change them, so that state
    is cleared first. It also must not act on a launcher's variables (it would set thread counts, devices and a process
    group, which belong to the launcher): the job averages its own gradients over its processes.
    """
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    with _environment_without_launcher(device):
        return Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=precision,
            gradient_accumulation_steps=gradient_accumulation_steps,
            device_placement=False,
        )


@contextmanager
def _environment_without_launcher(device: torch.device) -> Iterator[None]:
    names = (*LAUNCHER_VARIABLES, "ACCELERATE_TORCH_DEVICE")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    try:
        yield
    finally:
        del os.environ["ACCELERATE_TORCH_DEVICE"]
        os.environ.update(before)
