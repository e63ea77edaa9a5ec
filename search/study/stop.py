"""The wish to end a search's study now: why, and whether the search ends with it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

import psutil
from rich.console import Console

from trainer.exit_codes import INTERRUPTED


class Stop:
    """Requested by whoever has a reason: a signal, a budget. The study looks at it at its next turn.

    Running trials then save their training state and leave their workers; in the journal they stay unfinished, so that
    the run can be resumed. After a request that is no interruption the search continues with its final, in which
    what was scored so far takes part.

    Nothing here locks or blocks, so that `request` may be called from any thread and within a signal's handler.
    """

    def __init__(self) -> None:
        self.reason = ""
        """Why the study is to end, in words; empty as long as nobody has asked."""
        self.interrupted = False
        """Whether the search is to end as well, without its final."""
        self.watched = False
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
    def watching(self) -> Iterator[None]:
        """Within it the caller looks at `requested` again and again."""
        self.watched = True
        try:
            yield
        finally:
            self.watched = False


WORDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP, as the terminal was closed"}


class Interrupts:
    """Turns signals into a stop while the `with` block runs. Only for a program's main thread.

    The first signal makes a request of `stop`. Where nobody watches that, it raises `KeyboardInterrupt` as Python does.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._before: dict[int, Any] = {}
        self._terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def __enter__(self) -> Interrupts:
        handlers = {number: signal.getsignal(number) for number in WORDS}
        # What `nohup`, or a shell for its background, has set to be ignored stays so.
        self._before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
        self._received, self._sent = socket.socketpair()
        self._sent.setblocking(False)
        signal.set_wakeup_fd(self._sent.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._count, name="signals", daemon=True).start()
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        self._sent.close()  # by which the counting ends

    def listen(self) -> None:
        """Receive signals from now on, whoever has received them since: `ray.init` takes SIGTERM for itself."""
        for number in self._before:
            signal.signal(number, self._handle)

    @contextmanager
    def children_ignoring_hangups(self) -> Iterator[None]:
        """Processes that are started within ignore SIGHUP, which a closed terminal sends to all of them at once: the
        workers have to live until they have saved what they train."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            self.listen()

    def _count(self) -> None:
        """Ends everything at the second signal, also where the main thread is deep in a call and learns of none."""
        received = 0
        with self._received:
            while numbers := self._received.recv(64):
                received += sum(number in self._before for number in numbers)
                if received > 1:
                    end_now(INTERRUPTED)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            # What is written to a terminal that is gone fails, and the result is still to be written.
            discard_output(*self._terminals)
        if self._stop.interrupted:
            end_now(INTERRUPTED)
        self._stop.request(f"interrupted by {WORDS[signal.Signals(number)]}", interrupted=True)
        # Not through the console: this may have come in the middle of its own writing.
        with suppress(OSError):
            os.write(2, b"\nstopping: running trials save their state; once more ends everything at once\n")
        if not self._stop.watched:
            raise KeyboardInterrupt


class SteadyConsole(Console):
    """A console that outlives its reader: Ctrl-C in `search.run | tee log` ends `tee` as well."""

    def on_broken_pipe(self) -> None:
        """Rich would leave the program here."""
        discard_output(1)


def discard_output(*descriptors: int) -> None:
    """What is written to these from now on is lost, and no error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


def end_now(code: int) -> None:
    """End this process and all that it has started, Ray's among them, without a signal that they could handle."""
    for _ in range(3):  # what is being started while the others die is found the next time
        children = psutil.Process().children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        if not children:
            break
        time.sleep(0.05)
    os._exit(code)
