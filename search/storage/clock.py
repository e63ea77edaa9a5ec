"""The clock of a search: seconds by phase, over all the parts in which it was run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SECONDS = "seconds"
"""Name under which the journal keeps them."""

TOTAL = "total"


class Clock:
    """Starts when it is made.

    Args:
        now: Seconds of any steady clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._earlier: Mapping[str, float] = {}
        self._seconds: dict[str, float] = {}
        self._running: tuple[str, float] | None = None
        self._note: Callable[[str, Any], None] | None = None

    def keep(self, note: Callable[[str, Any], None], notes: Mapping[str, Any]) -> None:
        """Go on from what the journal holds, and keep the time there from now on.

        Args:
            note: Writes a value into the journal.
            notes: What the journal holds.
        """
        self._note = note
        self._earlier = {name: float(value) for name, value in notes.get(SECONDS, {}).items()}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time within as that of a phase."""
        self._running = (name, self._now())
        try:
            yield
        finally:
            self._seconds = self._so_far()
            self._running = None
            self.save()

    def save(self) -> None:
        """Write the time so far into the journal: what a kill takes is the time since the last call."""
        if self._note is not None:
            self._note(SECONDS, self.seconds())

    def seconds(self) -> dict[str, float]:
        """Seconds by phase and in `total`, the parts before this one included."""
        here = {**self._so_far(), TOTAL: self._now() - self._began}
        names = [name for name in (*self._earlier, *here) if name != TOTAL]
        return {name: self._earlier.get(name, 0.0) + here.get(name, 0.0) for name in (*dict.fromkeys(names), TOTAL)}

    def _so_far(self) -> dict[str, float]:
        seconds = dict(self._seconds)
        if self._running is not None:
            name, began = self._running
            seconds[name] = seconds.get(name, 0.0) + self._now() - began
        return seconds


def duration(seconds: float) -> str:
    """`9:05` or `1:02:03`.

    Args:
        seconds: At least 0; rounded to whole ones.
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
