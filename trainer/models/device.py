"""The device of a process: a GPU that torch can really use, or the CPU where none was asked for."""

import os
import re
from pathlib import Path

import torch

DRIVER_FILE = Path("/proc/driver/nvidia/version")
"""Where NVIDIA's driver tells its version, in containers, too."""

ALLOCATOR = "PYTORCH_CUDA_ALLOC_CONF"
"""The environment variable that CUDA's allocator reads when it begins."""


class UnusableGpuError(RuntimeError):
    """There is a GPU, but it cannot do what is asked; the message names driver and wheel, or the setting."""


def usable_gpus() -> int:
    """How many GPUs torch can use here. Its own count alone is NVML's, which has those that it cannot use, too."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def reserved_gpu() -> torch.device:
    """The GPU that was reserved for this process, once a kernel has run on it.

    Raises:
        UnusableGpuError: torch cannot use it. The CPU is no substitute: a training would take days there.
    """
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        device = torch.device("cuda", torch.cuda.current_device())
        torch.ones(1, device=device).add_(1).item()
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without CUDA
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UnusableGpuError(
            f"a GPU was reserved for this process, but torch cannot use it: {reason} ({gpu_versions()}); {_remedy()}"
        ) from error
    return device


def allocator_environment() -> dict[str, str]:
    """Environment variables to start a process with that trains on a GPU for hours, in batches of ever other sizes.

    Segments that can grow leave no gaps which are too small for the next job. A setting of the user's own wins.
    """
    return {ALLOCATOR: os.environ.get(ALLOCATOR, "expandable_segments:True")}


def allow_fast_arithmetic(device: torch.device) -> None:
    """On a GPU, for this process: matrix products of float32 in TF32 (CLIP's), and for each shape the fastest
    convolution, which is looked for once."""
    if device.type != "cuda":
        return
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True


def gpu_versions() -> str:
    """Those of NVIDIA's driver and of torch's wheel on this machine, in words."""
    wheel = f"torch {torch.__version__} for CUDA {torch.version.cuda}" if torch.version.cuda else _cpu_wheel()
    return f"{_driver()}, {wheel}"


def device_in_words(device: torch.device, dtype: torch.dtype) -> str:
    """`cuda:0 (NVIDIA H100 80GB HBM3), weights in bfloat16`."""
    name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "the CPU"
    return f"{name}, weights in {str(dtype).removeprefix('torch.')}"


def _driver() -> str:
    try:
        found = re.search(r"Module.*?\s(\d+\.[\d.]+)", DRIVER_FILE.read_text("utf-8"))
    except OSError:
        return "no NVIDIA driver found"
    return f"NVIDIA driver {found.group(1)}" if found else "an NVIDIA driver that does not say its version"


def _cpu_wheel() -> str:
    return f"torch {torch.__version__}, whose wheel has no CUDA"


def _remedy() -> str:
    if torch.version.cuda is None:
        return "install torch's CUDA wheel, or hide the GPU with CUDA_VISIBLE_DEVICES= to search on CPUs"
    return (
        "install a driver and a wheel that go together and know this card (docs/cluster.md says which), see that no "
        "other program holds it, or hide it with CUDA_VISIBLE_DEVICES="
    )
