"""Work that runs out of memory is done in halves, in order, down to single items."""

from collections.abc import Sequence

import pytest
import torch

from evaluation.memory import in_halves, is_out_of_memory


def test_what_does_not_fit_is_halved_and_stays_in_order() -> None:
    sizes: list[int] = []

    def work(items: Sequence[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 3:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return [10 * item for item in items]

    assert in_halves(range(10), work) == [10 * item for item in range(10)]
    assert sizes == [10, 5, 3, 2, 5, 3, 2]
    assert in_halves([], work) == []


def test_a_single_item_that_does_not_fit_and_every_other_error_go_through() -> None:
    def full(items: Sequence[int]) -> list[int]:
        raise torch.OutOfMemoryError("HIP out of it, in words that nobody listed")

    def broken(items: Sequence[int]) -> list[int]:
        calls.append(len(items))
        raise RuntimeError("device-side assert triggered")

    calls: list[int] = []
    with pytest.raises(torch.OutOfMemoryError) as caught:
        in_halves([1, 2], full)
    assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError, match="assert"):
        in_halves([1, 2], broken)
    assert calls == [2]
