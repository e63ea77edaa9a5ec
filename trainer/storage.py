"""Storage that fails (a full disk, a spent quota, a size limit, a broken device) as one error. Search uses it, too."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

STORAGE_FAILURES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
"""What the operating system answers when it is the storage, and not the program, that fails."""


class StorageError(OSError):
    """A file or folder could not be written; the message names it, the cause and the remedy."""

    number = 0
    """The operating system's, of the cause."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Within it a failure of the storage while `path` is written raises `StorageError`; other errors pass.

    Of nested blocks the outermost names its path: what is written inside it has temporary names.

    Raises:
        StorageError: the storage failed.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = _number(error)
        if number not in STORAGE_FAILURES:
            raise
        failure = StorageError(f"{path} could not be written: {os.strerror(number)}; make room there, or repair it")
        failure.number = number
        raise failure from error


def _number(error: OSError | SafetensorError) -> int:
    """The operating system's number of an error; 0 if it has none."""
    if isinstance(error, StorageError):
        return error.number
    if isinstance(error, OSError):
        return error.errno or 0
    match = re.search(r"\(os error (\d+)\)", str(error))  # safetensors writes from Rust, which has it in its message
    return int(match.group(1)) if match else 0
