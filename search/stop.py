"""The wish to end a search's study now: why, and whether the search ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """Asked for by whoever has a reason: a signal, a budget. The study heeds it at its next turn.

    Running trials then save their training state and leave their seats; in the journal they stay unfinished, so that
    the run can be resumed. After a request that is no interruption the search goes on with its final, in which what
    was scored so far takes part.

    Nothing here locks or blocks, so that `request` may be called from any thread and within a signal's handler.
    """

    def __init__(self) -> None:
        self.reason = ""
        """Why the study is to end, in words; empty as long as nobody has asked."""
        self.interrupted = False
        """Whether the search is to end as well, without its final."""
        self.heeded = False
        """Whether somebody looks at this object now, so that a signal need not raise anything."""

    @property
    def requested(self) -> bool:
        return bool(self.reason)

    def request(self, reason: str, *, interrupted: bool = False) -> None:
        """Ask for the end. The first reason counts, but an interruption overrules what was no interruption.

        Args:
            reason: In words, as it will be read in the result.
            interrupted: End the whole search, not only its study.

        Raises:
            ValueError: no reason was given.
        """
        if not reason:
            raise ValueError("a stop needs a reason; say in words why the study is to end")
        if not self.reason or (interrupted and not self.interrupted):
            self.reason = reason
        self.interrupted = self.interrupted or interrupted

    @contextmanager
    def heed(self) -> Iterator[None]:
        """Within it the caller looks at `requested` again and again."""
        self.heeded = True
        try:
            yield
        finally:
            self.heeded = False
