"""Running out of memory while images are drawn or judged: how it is noticed, and work that is done in halves.

Imports no torch: configurations are read without it.
"""

import errno
import gc
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

REASON_LENGTH = 160

WORDS = re.compile(
    r"out[ _]of[ _]memory|can.t allocate memory|cannot allocate memory"
    r"|cudaErrorMemoryAllocation|_ALLOC_FAILED|ALLOCATION_FAILED"
    r"|CUBLAS_STATUS_NOT_INITIALIZED|CUDNN_STATUS_NOT_INITIALIZED"
    r"|CUDNN_STATUS_NOT_SUPPORTED\.|PT_DEVMEM Allocation failed"
    r"|unable to find an engine to execute this computation",
    re.IGNORECASE,
)
"""What CUDA, its libraries, PyTorch and onnxruntime say where memory is short.

PyTorch's own error comes from its allocator alone. What else a full card refuses speaks for itself: the driver
(contexts, kernels that are loaded late), cuBLAS and cuDNN (their handles and workspaces, or the plans that need one).
"""

Item = TypeVar("Item")
Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or the one that it was raised from, says that the device or the CPU had not enough memory.

    By its type (torch's has a name of its own) or by the words of a RuntimeError: what other errors say of memory is
    not an allocator's.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, RuntimeError) and WORDS.search(str(error)) is not None:
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def reason_in_short(error: BaseException) -> str:
    """The first line of its message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:REASON_LENGTH]


def in_halves(
    items: Sequence[Item], work: Callable[[Sequence[Item]], list[Result]], *, free: Callable[[], object] = gc.collect
) -> list[Result]:
    """What `work` makes of all items, in order: of all at once, or where that runs out of memory of each half.

    Args:
        items: may be none.
        work: gives one result for each item.
        free: frees what nothing holds any more.

    Raises:
        Exception: what `work` raises, also where memory is too short for a single item.
    """
    try:
        return work(items)
    except Exception as error:  # a face model's package may have wrapped it
        if len(items) < 2 or not is_out_of_memory(error):
            raise
    # Only here, where the error and what it held is gone.
    free()
    middle = (len(items) + 1) // 2
    return [result for half in (items[:middle], items[middle:]) for result in in_halves(half, work, free=free)]
