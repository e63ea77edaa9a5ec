"""Ctrl-C, SIGTERM and a closed terminal: the first asks for an orderly end, the second ends all processes at once."""

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

from search.stop import Stop

INTERRUPTED = 130
"""Exit code of an interrupted search."""

WORDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP, as the terminal was closed"}


class Interrupts:
    """Turns signals into a stop while the `with` block runs. Only for a program's main thread.

    The first signal asks `stop` for the end. Where nobody looks at that, it raises `KeyboardInterrupt` as Python does.
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
        """Hear signals from now on, whoever has heard them since: `ray.init` takes SIGTERM for itself."""
        for number in self._before:
            signal.signal(number, self._hear)

    @contextmanager
    def unheard_by_children(self) -> Iterator[None]:
        """Processes that are started within ignore a closed terminal, which tells all of them at once: the seats have
        to live on until they have saved what they train."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            self.listen()

    def _count(self) -> None:
        """Ends everything at the second signal, also where the main thread is deep in a call and hears of none."""
        heard = 0
        with self._received:
            while numbers := self._received.recv(64):
                heard += sum(number in self._before for number in numbers)
                if heard > 1:
                    end_now(INTERRUPTED)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminal()
        if self._stop.interrupted:
            end_now(INTERRUPTED)
        self._stop.request(f"interrupted by {WORDS[signal.Signals(number)]}", interrupted=True)
        # Not through the console: this may have come in the middle of its own writing.
        with suppress(OSError):
            os.write(2, b"\nstopping: running trials save their state; once more ends everything at once\n")
        if not self._stop.heeded:
            raise KeyboardInterrupt

    def _leave_terminal(self) -> None:
        """What is written to a terminal that is gone fails, and the result is still to be written."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in self._terminals:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)


class SteadyConsole(Console):
    """A console that outlives its reader: Ctrl-C in `search.run | tee log` ends `tee` as well."""

    def on_broken_pipe(self) -> None:
        """Rich would leave the program here."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def end_now(code: int) -> None:
    """End this process and all that it has started, Ray's among them, without another word to any of them."""
    for _ in range(3):  # what is being started while the others die is found the next time
        children = psutil.Process().children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        if not children:
            break
        time.sleep(0.05)
    os._exit(code)
