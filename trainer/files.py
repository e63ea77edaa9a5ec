"""Files that are either whole or not there: written under a temporary name, fsynced, renamed. Search uses it, too."""

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainer.storage import storage_errors


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file of the same name in a temporary folder, then moves it to `path`; safe against concurrent
    writers. In a folder of its own lies, and goes with it, what libraries write beside the file meanwhile.

    Raises:
        StorageError: the storage failed; `path` is as before.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(path) as folder:
            temporary = folder / path.name
            write(temporary)
            _fsync(temporary)
            temporary.replace(path)
            _fsync(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Removes what `write_file` was at in `folder` when its process was killed; what a living one writes stays."""
    for path in folder.glob(".*.tmp"):
        ours = path.is_dir() and re.fullmatch(r"\..+\.[0-9a-f]{32}\.tmp", path.name)
        if ours and (lock := _lock(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` that is locked while it is there, so that it shows whether its process lives."""
    folder = path
    lock: int | None = None
    while lock is None:  # who removes leftovers may be faster between the two steps
        folder = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        folder.mkdir()
        lock = _lock(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Locks a folder; the descriptor to close, or None if it is gone or another process holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # a file system without locks
        return descriptor
    if folder.is_dir():
        return descriptor
    os.close(descriptor)
    return None


@contextmanager
def written_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder to fill; on leaving without an error it takes the place of `folder`.

    A reader sees the old folder, none (for the moment between two renames, only if `folder` existed) or the new one,
    never a mixture.

    Raises:
        StorageError: the storage failed; `folder` is as before.
    """
    token = uuid.uuid4().hex
    temporary = folder.with_name(f"{folder.name}.{token}.tmp")
    try:
        with storage_errors(folder):
            temporary.mkdir(parents=True)
            yield temporary
            for path in temporary.rglob("*"):
                _fsync(path)
            _fsync(temporary)
            if folder.exists():
                replaced = folder.with_name(f"{folder.name}.{token}.old")
                folder.rename(replaced)
                temporary.rename(folder)
                shutil.rmtree(replaced)
            else:
                temporary.rename(folder)
            _fsync(folder.parent)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def step_name(step: int) -> str:
    """The name of what belongs to a training after `step` optimizer steps: a checkpoint's folder, a saved state's."""
    return f"step-{step}"
