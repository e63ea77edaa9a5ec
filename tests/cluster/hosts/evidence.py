"""What was typed on which machine, and what came of it, with the time; kept in a file."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.hosts.machine import Machine

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\r")
CHATTER = re.compile(
    r"Shared connection to|File Mount: |To ensure this mount|cluster state: |Loaded cached|If you experience"
)
"""What Ray and ssh say over and over."""

LONGEST = 300
"""Letters of a line that are kept."""


class Evidence:
    """A file to which lines are added as things happen."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
        self._path = path
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def note(self, text: str) -> None:
        """Add something that was seen."""
        minutes, seconds = divmod(int(self.seconds), 60)
        self._append(f"[{minutes:02d}:{seconds:02d}] {text}")

    def _append(self, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(text.rstrip() + "\n")

    def run(self, machine: Machine, command: str, *, limit: float = 600, **variables: str) -> tuple[int, str]:
        """Type a command into a shell on a machine.

        Args:
            machine: Where.
            command: In bash's words.
            limit: Seconds that it may take.
            variables: Its environment.

        Returns:
            Its exit code and what it said.

        Raises:
            subprocess.TimeoutExpired: it takes longer.
        """
        self.note(f"{machine.name}$ {command}")
        # Not a pipe: ssh leaves a process behind, for connections to come, that would hold it open.
        output = self._path.with_suffix(".output")
        with output.open("wb") as file:
            process = machine.spawn(["bash", "-c", command], output=file, **variables)
            try:
                code = process.wait(limit)
            finally:
                machine.end(process)
        said = CONTROL.sub("", output.read_text("utf-8", "replace"))
        output.unlink()
        self.quote(said)
        if code:
            self._append(f"        (exit code {code})")
        return code, said

    def quote(self, said: str) -> None:
        """Add what a command has said, without colours and chatter."""
        for line in CONTROL.sub("", said).splitlines():
            if line.strip() and not CHATTER.search(line):
                self._append(f"        {line.rstrip()}" if len(line) < LONGEST else f"        {line[:LONGEST]} [...]")

    def wait(self, happened: Callable[[], object], what: str, limit: float) -> None:
        """Return when something has happened, and note it.

        Args:
            happened: Whether it has; asked twice a second.
            what: What it is.
            limit: Seconds after which the test has failed.
        """
        deadline = time.monotonic() + limit
        while not happened():
            if time.monotonic() > deadline:
                self.note(f"not seen in {limit:g} s: {what}")
                pytest.fail(f"not seen in {limit:g} s: {what}; see {self._path}")
            time.sleep(0.5)
        self.note(what)
