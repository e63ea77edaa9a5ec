"""The guard against a lack of memory, which knows the errors of allocators, and the peak that is measured."""

import weakref

import pytest
import torch

from evaluation.memory import is_out_of_memory as judging_is_out_of_memory
from tests.support.small_memory import lack
from trainer.job.memory import PeakMemory
from trainer.out_of_memory import OutOfMemoryGuard, half, halved, is_out_of_memory, speaks_of_memory


def test_the_errors_of_allocators_are_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**47)
    assert is_out_of_memory(caught.value), "the CPU's own words"
    for error in (
        torch.OutOfMemoryError("CUDA out of memory."),
        torch.OutOfMemoryError("HIP out of memory, in words that nobody listed"),
        RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
        MemoryError(),
    ):
        with OutOfMemoryGuard() as guard:
            raise error
        assert guard
        assert guard.reason
    for other in (
        RuntimeError("CUDA error: invalid argument"),
        ValueError("DefaultCPUAllocator: can't allocate memory"),
    ):
        with pytest.raises(type(other)), OutOfMemoryGuard():
            raise other
    for wrapped in (is_out_of_memory, judging_is_out_of_memory):
        failure = ValueError("the recognizer failed")
        assert not wrapped(failure)
        failure.__cause__ = RuntimeError("CUDA error: out of memory")
        assert wrapped(failure)
    with OutOfMemoryGuard() as enough:
        pass
    assert not enough
    assert [half(size) for size in (2, 3, 4, 5, 9)] == [1, 2, 2, 3, 5]
    assert [halved(8, times) for times in range(5)] == [8, 4, 2, 1, 1]


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "GET was unable to find an engine to execute this computation",
        "unable to find an engine to execute this computation",
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
        "CUDA driver error: out of memory",
        "CUDA_ERROR_OUT_OF_MEMORY",
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 B",
    ],
)
def test_every_way_in_which_a_full_card_speaks_is_known(words: str) -> None:
    """To training and to judging, which do not know each other."""
    assert is_out_of_memory(RuntimeError(words))
    assert judging_is_out_of_memory(RuntimeError(words))
    assert speaks_of_memory(f"process 0: AcceleratorError: {words}")
    with OutOfMemoryGuard() as guard:
        raise RuntimeError(words)
    assert guard.reason == words.splitlines()[0]


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: device-side assert triggered",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: no kernel image is available for execution on the device",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`",
        "Expected all tensors to be on the same device",
    ],
)
def test_other_errors_of_a_card_are_not_taken_for_it(words: str) -> None:
    assert not is_out_of_memory(RuntimeError(words))
    assert not judging_is_out_of_memory(RuntimeError(words))
    assert not speaks_of_memory(words)


def test_what_kills_a_process_for_its_memory_is_known() -> None:
    assert speaks_of_memory("ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.")
    assert speaks_of_memory("The worker died. Worker exit type: NODE_OUT_OF_MEMORY")
    assert not speaks_of_memory("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR")


def test_the_guard_lets_go_of_what_its_block_held() -> None:
    class Held:
        pass

    references = []

    def block() -> None:
        held = Held()
        references.append(weakref.ref(held))
        lack()

    with OutOfMemoryGuard() as guard:
        block()
    assert guard
    assert references[0]() is None, "its traceback would hold a forward pass's activations"


def test_the_peak_of_training_leaves_out_what_is_not_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's allocator, played: training holds 5 bytes, then an evaluation 9, then training 7."""
    held = {"peak": 0}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: held.update(peak=0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: held["peak"])
    peak = PeakMemory(torch.device("cuda"))
    for training, evaluation in ((5, 9), (7, 9), (6, 9)):
        peak.begin()
        held["peak"] = training
        peak.pause()
        held["peak"] = evaluation
    assert peak.bytes == 7
    elsewhere = PeakMemory(torch.device("cpu"))
    elsewhere.begin()
    elsewhere.pause()
    assert elsewhere.bytes is None
