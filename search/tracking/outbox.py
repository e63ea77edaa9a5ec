"""The ledger: everything that MLflow is to be told of a search, in order, on disk before MLflow hears of it.

A line of JSON an entry, synced when it is written. What MLflow has not heard, because it was away or the search was
killed, is still here and can be told later.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

LEDGER_FILE = "mlflow.jsonl"

Kind: TypeAlias = Literal[
    "search_started",
    "search_resumed",
    "search_ended",
    "metrics",
    "picture",
    "trial_started",
    "checkpoint",
    "trial_ended",
    "champion",
]


class LedgerError(ValueError):
    """A ledger cannot be read; the message names the file and the line."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One thing to tell."""

    kind: Kind
    run: str
    """The trial whose run it belongs to; empty: the search's own."""
    time: int
    """Milliseconds since 1970 when it happened, so that it is the same however often it is told."""
    values: Mapping[str, Any]
    """What there is to say, as JSON; files are named relative to the run folder."""


class Ledger:
    """The ledger of one run folder, open to be written. Safe to append to from several threads of one process.

    Raises:
        LedgerError: a whole line is damaged. A torn last line, which a kill leaves, is cut off.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER_FILE
        self._entries = list(read_entries(folder))
        if self.path.exists():
            content = self.path.read_bytes()
            os.truncate(self.path, content.rfind(b"\n") + 1)
        self._changed = threading.Condition()
        self._file = self.path.open("a", encoding="utf-8")

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries so far."""
        with self._changed:
            return tuple(self._entries)

    def append(self, entry: Entry) -> None:
        """Write an entry down; returns when it is on disk, which takes milliseconds."""
        line = json.dumps(asdict(entry), allow_nan=False, separators=(",", ":"))
        with self._changed:
            self._file.write(line + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._entries.append(entry)
            self._changed.notify_all()

    def next(self, told: int, seconds: float) -> Entry | None:
        """The entry after the first `told`; None if there is none within so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._entries) > told, seconds)
            return self._entries[told] if len(self._entries) > told else None

    def close(self) -> None:
        """Nothing is appended any more."""
        self._file.close()


def read_entries(folder: Path) -> tuple[Entry, ...]:
    """The entries of a run folder's ledger; what follows the last whole line is left out.

    Raises:
        LedgerError: a whole line is damaged.
    """
    path = folder / LEDGER_FILE
    if not path.exists():
        return ()
    *lines, _ = path.read_bytes().split(b"\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise LedgerError(f"line {number} of {path} is damaged ({error}); remove the line to go on") from error
    return tuple(entries)
