"""The guard against a lack of memory, which knows the errors of allocators, and the peak that is measured."""

import weakref

import pytest
import torch

from tests.support.small_memory import lack
from trainer.job.memory import OutOfMemoryGuard, PeakMemory, half, is_out_of_memory


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
    with OutOfMemoryGuard() as enough:
        pass
    assert not enough
    assert [half(size) for size in (2, 3, 4, 5, 9)] == [1, 2, 2, 3, 5]


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
