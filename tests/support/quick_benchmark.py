"""Benchmarks run for real, as a user runs them, with as little work as they can do."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.command import CEILING

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finished:
    """A benchmark that has ended well."""

    heading: str
    """The first line that it printed."""
    lines: list[str]
    """Those between the first and the outcome."""
    outcome: dict[str, Any]


def run(module: str, *options: str, home: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks.MODULE` in the folder `home`, on one thread a process and without the model hub."""
    environment = {"PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *options],
        cwd=home,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=CEILING,
        check=False,
    )


def finish(module: str, *options: str, json_file: Path, home: Path = REPOSITORY) -> Finished:
    """Run a benchmark to its end; its last line, which is its outcome, is also in `json_file`."""
    done = run(module, *options, "--json", str(json_file), home=home)
    assert done.returncode == 0, done.stderr
    heading, *lines, last = [line for line in done.stdout.splitlines() if "(raylet)" not in line]
    assert json_file.read_text("utf-8") == last + "\n"
    return Finished(heading, lines, json.loads(last))
