"""Storage that gives out: a full disk, a spent quota, a limit, a device that fails; told in words, whoever wrote."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

GIVING_OUT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""What the operating system answers when it is the storage, and not the program, that fails."""


class StorageError(OSError):
    """A file or folder could not be written; the message names it, the cause and the remedy."""

    number = 0
    """The operating system's, of the cause."""


@contextmanager
def storage_told(path: Path) -> Iterator[None]:
    """What is written to `path` within and fails by the storage's fault raises `StorageError`; other errors pass.

    Of such blocks within each other the outermost names its path: what lies in it has temporary names.

    Raises:
        StorageError: the storage gave out.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = _number(error)
        if number not in GIVING_OUT:
            raise
        told = StorageError(f"{path} could not be written: {os.strerror(number)}; make room there, or mend it")
        told.number = number
        raise told from error


def _number(error: OSError | SafetensorError) -> int:
    """The operating system's number of an error; 0 if it has none."""
    if isinstance(error, StorageError):
        return error.number
    if isinstance(error, OSError):
        return error.errno or 0
    told = re.search(r"\(os error (\d+)\)", str(error))  # safetensors writes from Rust, which tells it in words
    return int(told.group(1)) if told else 0
