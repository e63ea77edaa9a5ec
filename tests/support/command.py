"""Programs that a test starts: it reads what they print, and waits for a line or a state, not for a time."""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil
import pytest

CEILING = 900.0
"""Seconds after which anything that a test waits for is taken to hang. Nothing depends on it on a healthy machine,
however busy."""


@dataclass(frozen=True)
class Ended:
    """What a program printed, and its exit code (negative: the signal that killed it)."""

    code: int
    output: str


class Command:
    """A running program whose output is read line by line, stderr with stdout. Is killed when the `with` block ends.

    Args:
        words: The command.
        home: The folder in which it runs.
        environment: Replaces the test's own; default: that, without access to the model hub.
    """

    def __init__(self, words: Sequence[str], home: Path, environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            words,
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"} if environment is None else environment,
        )
        self._lines: list[str] = []
        self._hung = False
        self._hangs = threading.Timer(CEILING, self._give_up)
        self._hangs.daemon = True
        self._hangs.start()

    def __enter__(self) -> "Command":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hangs.cancel()
        if self.process.poll() is None:
            self._kill_all()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait()

    def until_line(self, pattern: str) -> str:
        """Read up to the first line in which `pattern` is found, and return it. Fails if the output ends before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)
            if re.search(pattern, line):
                return line
        pytest.fail(f"no line with {pattern!r} was seen; the program printed:\n{''.join(self._lines)}")

    def until(self, happened: Callable[[], object], what: str) -> None:
        """Wait for a state that lasts once it is reached. Fails if the program ends before."""
        until(lambda: happened() or self.process.poll() is not None)
        if not happened():
            pytest.fail(f"{what} was not seen; the program printed:\n{self.finish().output}")

    def finish(self) -> Ended:
        """Wait for the program's end. Fails if it hangs."""
        assert self.process.stdout is not None
        self._lines.append(self.process.stdout.read())
        code = self.process.wait()
        output = "".join(self._lines)
        if self._hung:
            pytest.fail(f"the program hangs; it printed:\n{output}")
        self._hangs.cancel()
        return Ended(code, output)

    def descendants(self) -> list[psutil.Process]:
        """The processes that it and its children have started; none once it has ended."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def _give_up(self) -> None:
        self._hung = True
        self._kill_all()

    def _kill_all(self) -> None:
        for process in self.descendants():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.kill()


def until(happened: Callable[[], object]) -> None:
    """Wait for a state that lasts once it is reached.

    Raises:
        TimeoutError: it is not reached.
    """
    deadline = time.monotonic() + CEILING
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {CEILING:g} seconds: {happened}")
        time.sleep(0.05)
