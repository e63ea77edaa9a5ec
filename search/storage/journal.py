"""The journal's file after a kill: a torn last line is cut off, a lock that its dead owner holds is taken away."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.files import write_file


class JournalError(ValueError):
    """The journal cannot be trusted; the message says where and what to do."""


def mend_journal(path: Path) -> None:
    """Make the journal readable for Optuna, which refuses to write behind a line that is not whole.

    To be called only by the process that holds the run folder.

    Args:
        path: The file, which need not exist.

    Raises:
        JournalError: a line in the middle is damaged, which no kill can have done.
    """
    # Optuna's own lock: a link beside the file, which has another name while it is taken away.
    for lock in (*path.parent.glob(f"{path.name}.lock"), *path.parent.glob(f"{path.name}.lock*.rename")):
        lock.unlink()
    if not path.exists():
        return
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    whole = 0
    while whole < len(lines) and _is_whole(lines[whole]):
        whole += 1
    if any(_is_whole(line) for line in lines[whole + 1 :]):
        raise JournalError(
            f"line {whole + 1} of {path} is damaged though whole ones follow; put back a copy of the file, or begin a "
            "new run with another --name"
        )
    if whole < len(lines):
        kept = b"".join(lines[:whole])
        write_file(path, lambda temporary: temporary.write_bytes(kept))


def _is_whole(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
