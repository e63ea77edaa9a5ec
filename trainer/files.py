"""Files that are either whole or not there: written under a temporary name, fsynced, renamed. Search uses it, too.

Who may read them, the umask says, whatever library has written them. And text that a user wrote, which has one encoding
wherever it is read.
"""

import fcntl
import os
import re
import shutil
import stat
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
            temporary.touch()
            mode = temporary.stat().st_mode
            write(temporary)
            _permit(temporary, mode)
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
            mode = temporary.stat().st_mode
            for path in temporary.rglob("*"):
                if path.is_file():
                    _permit(path, mode & 0o666)
                _fsync(path)
            _fsync(temporary)
            replaced = folder.with_name(f"{folder.name}.{token}.old") if folder.exists() else None
            if replaced is not None:
                folder.rename(replaced)
            try:
                temporary.rename(folder)
            except BaseException:
                if replaced is not None:
                    replaced.rename(folder)
                raise
            _fsync(folder.parent)
            if replaced is not None:
                shutil.rmtree(replaced, ignore_errors=True)
    finally:
        if temporary.exists():
            shutil.rmtree(temporary)


def put_back(parent: Path) -> None:
    """Ends in `parent` what the functions above were at when their process was killed.

    A folder that was moved aside for a new one, which did not come, gets its name back; what is half written goes. Only
    for a folder that no other process writes to.
    """
    for path in list(parent.glob("*")):
        match = re.fullmatch(r"(.+)\.[0-9a-f]{32}\.(tmp|old)", path.name)
        if match is None:
            continue
        original = path.with_name(match[1])
        if match[2] == "old" and not original.exists():
            path.rename(original)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def read_text(path: Path) -> str:
    """A text file that a user wrote: UTF-8, with or without a byte order mark; every line ends with a line feed.

    Raises:
        ValueError: the file cannot be read, or is no such text (UTF-16, for example, as some shells write it).
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    if "\0" in text:  # UTF-16 without a byte order mark is UTF-8 as well, with a NUL at every other place
        raise ValueError(f"{path} is not UTF-8 text (it holds NUL characters, as UTF-16 does); save it as UTF-8")
    return text


def why_unwritable(folder: Path) -> str:
    """Why no file can be made in a folder that is there or would be made first; empty if one can. Makes nothing."""
    existing = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))  # noqa: PTH110 - False where Path raises
    if not existing.is_dir():
        return f"{existing} is a file"
    effective = os.access in os.supports_effective_ids
    return "" if os.access(existing, os.W_OK | os.X_OK, effective_ids=effective) else f"{existing} cannot be written"


def _permit(path: Path, mode: int) -> None:
    """Gives a file the mode of a new one: safetensors writes files that only their owner may read."""
    if stat.S_IMODE(path.stat().st_mode) != stat.S_IMODE(mode):
        path.chmod(stat.S_IMODE(mode))


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def step_name(step: int) -> str:
    """The name of what belongs to a training after `step` optimizer steps: a checkpoint's folder, a saved state's."""
    return f"step-{step}"
