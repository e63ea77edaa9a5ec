"""Running out of memory: how it is noticed, on the device or the CPU, and what is freed."""

import errno
import re
from types import TracebackType
from typing import Self

import torch

REASON_LENGTH = 160

WORDS = re.compile(
    r"out[ _]of[ _]memory|OutOfMemory|can.t allocate memory|cannot allocate memory|low on memory"
    r"|cudaErrorMemoryAllocation|_ALLOC_FAILED|ALLOCATION_FAILED"
    r"|CUBLAS_STATUS_NOT_INITIALIZED|CUDNN_STATUS_NOT_INITIALIZED"
    r"|unable to find an engine to execute this computation",
    re.IGNORECASE,
)
"""What CUDA, its libraries, PyTorch, the system and Ray say where memory is short.

PyTorch's own error comes from its allocator alone. What else a full card refuses speaks for itself: the driver
(contexts, kernels that are loaded late), cuBLAS and cuDNN (their handles and workspaces, or the plans that need one).
"""


class OutOfMemory(RuntimeError):  # noqa: N818 - a state of the work, as much as an error
    """Not even one photo or image at a time fits into memory; the message names the remedies."""


class OutOfMemoryGuard:
    """A block that may run out of memory: that error is caught and noted, every other error goes through.

    The error is let go at once, for its traceback holds all that the block had allocated. The guard is true in a
    condition if memory ran out.
    """

    def __init__(self) -> None:
        self.reason = ""
        """First line of the allocator's message; empty if there was enough memory."""

    def __bool__(self) -> bool:
        return bool(self.reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None or not is_out_of_memory(error):
            return False
        self.reason = (str(error).strip() or type(error).__name__).splitlines()[0][:REASON_LENGTH]
        return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or the one that it was raised from, says that the device or the CPU had not enough memory.

    By its type, by accelerate's list of messages, or by the words of a RuntimeError: what other errors say of memory is
    not an allocator's.
    """
    # Takes seconds to import, which processes do without that only read messages.
    from accelerate.utils.memory import should_reduce_batch_size  # type: ignore[import-untyped]

    if isinstance(error, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(error):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, RuntimeError) and not isinstance(error, OutOfMemory) and speaks_of_memory(str(error)):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def speaks_of_memory(text: str) -> bool:
    """Whether the message of an error, or of a process's death, says that memory ran out."""
    return WORDS.search(text) is not None


def free_memory() -> None:
    """Frees what nothing holds any more, the allocator's own reserve included; waits for the device."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)


def half(size: int) -> int:
    """Half of a number of photos, rounded up: 3 is halved to 2, 2 to 1."""
    return (size + 1) // 2


def halved(size: int, times: int) -> int:
    """A number of photos or images, halved so often; at least 1."""
    for _ in range(times):
        size = half(size)
    return size
