"""A GPU that was reserved is used or refused, never replaced by the CPU. No GPU is here: its answers are played."""

from pathlib import Path

import pytest
import torch

from trainer.models import device
from trainer.models.device import (
    UnusableGpuError,
    allocator_environment,
    allow_fast_arithmetic,
    device_in_words,
    gpu_versions,
    reserved_gpu,
    usable_gpus,
)

OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 12080). Please update your GPU driver\n"
    "or install a PyTorch version that has been compiled with your version of the CUDA driver."
)
PROC = {
    "closed": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 03:52:31 UTC 2025\nGCC version:",
    "open": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22)\n",
}


@pytest.fixture
def driver_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "version"
    monkeypatch.setattr(device, "DRIVER_FILE", path)
    return path


def refusal() -> str:
    with pytest.raises(UnusableGpuError) as caught:
        reserved_gpu()
    return str(caught.value)


@pytest.mark.skipif(torch.version.cuda is not None, reason="the wheel has CUDA")
def test_a_wheel_without_cuda_refuses_the_gpu(driver_file: Path) -> None:
    """As it really is here: a CPU wheel satisfies the pin of the version, too."""
    driver_file.write_text(PROC["closed"])
    assert refusal() == (
        "a GPU was reserved for this process, but torch cannot use it: Torch not compiled with CUDA enabled (NVIDIA "
        f"driver 570.86.15, torch {torch.__version__}, whose wheel has no CUDA); install torch's CUDA wheel, or hide "
        "the GPU with CUDA_VISIBLE_DEVICES= to search on CPUs"
    )


def test_an_old_driver_is_refused_with_its_version_and_the_wheels(
    driver_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise RuntimeError(OLD_DRIVER)

    driver_file.write_text(PROC["open"])
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert refusal() == (
        "a GPU was reserved for this process, but torch cannot use it: The NVIDIA driver on your system is too old "
        f"(found version 12080). Please update your GPU driver (NVIDIA driver 580.65.06, torch {torch.__version__} for "
        "CUDA 13.0); install a driver and a wheel that go together and know this card (docs/cluster.md says which), "
        "see that no other program holds it, or hide it with CUDA_VISIBLE_DEVICES="
    )


@pytest.mark.parametrize(
    "words",
    ["CUDA error: no kernel image is available for execution on the device", "CUDA error: out of memory"],
)
def test_a_card_on_which_no_kernel_runs_is_refused(
    words: str, driver_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A V100 under a wheel for CUDA 13, and a card that others have filled."""

    def ones(*arguments: object, **options: object) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch, "ones", ones)
    assert f"torch cannot use it: {words} (no NVIDIA driver found, torch " in refusal()


def test_gpus_are_counted_that_torch_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own count comes from NVML: it is 2 although the driver is too old for either."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert usable_gpus() == 0
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert usable_gpus() == 2


def test_a_device_is_told_with_card_and_number_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    assert device_in_words(torch.device("cuda", 1), torch.bfloat16) == "cuda:1 (NVIDIA L4), weights in bfloat16"
    assert device_in_words(torch.device("cpu"), torch.float32) == "the CPU, weights in float32"


def test_a_driver_that_does_not_say_its_version_is_told_as_such(driver_file: Path) -> None:
    driver_file.write_text("something else")
    assert gpu_versions().startswith("an NVIDIA driver that does not say its version, torch ")


def test_the_allocators_segments_can_grow_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF", raising=False)
    assert allocator_environment() == {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:512")
    assert allocator_environment() == {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512"}


def test_arithmetic_is_fast_on_a_gpu_and_exact_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    precisions: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", precisions.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    allow_fast_arithmetic(torch.device("cpu"))
    assert (precisions, torch.backends.cudnn.benchmark) == ([], False)
    allow_fast_arithmetic(torch.device("cuda"))
    assert (precisions, torch.backends.cudnn.benchmark) == (["high"], True)
