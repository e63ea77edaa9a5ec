"""The head of the Ray cluster: a search cannot outlive it, and says so before Ray ends the process without a word."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType

LOOK_SECONDS = 1.0

OWN_PATIENCE = 5.0
"""Seconds without an answer after which a head that this process has started is lost: nobody starts it again."""

SHARED_PATIENCE = 45.0
"""The same for a cluster of somebody else, whose head may be started again; after 60 s Ray ends the process."""


class HeadWatch:
    """Knocks at the head's control service while the `with` block runs.

    Args:
        address: `host:port` of Ray's global control service.
        patience: Seconds without an answer after which the head is lost.
        lost: Is called once with the message for the user, in a thread of its own; calls to Ray no longer return then.
    """

    def __init__(self, address: str, patience: float, lost: Callable[[str], None]) -> None:
        host, _, port = address.rpartition(":")
        self._place = (host.strip("[]"), int(port))
        self._address = address
        self._patience = patience
        self._lost = lost
        self._heard = time.monotonic()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="head", daemon=True)

    def __enter__(self) -> HeadWatch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        self._thread.join()

    def missed(self, answers: bool, now: float) -> bool:
        """Whether the head is lost, after it was knocked at once more.

        Args:
            answers: Whether it has answered.
            now: Seconds of a steady clock.
        """
        if answers:
            self._heard = now
        return now - self._heard >= self._patience

    def _watch(self) -> None:
        while not self._left.wait(LOOK_SECONDS):
            if self.missed(self._answers(), time.monotonic()):
                self._lost(
                    f"the head of the Ray cluster at {self._address} has not answered for {self._patience:g} s: it was "
                    "killed, or the network is gone; what was written is kept"
                )
                return

    def _answers(self) -> bool:
        try:
            with socket.create_connection(self._place, timeout=LOOK_SECONDS):
                return True
        except OSError:
            return False
