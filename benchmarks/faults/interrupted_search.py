"""A search of the demo's photos that is small enough to be broken off many times, and the breaking off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

DEMO = Path(__file__).resolve().parents[2] / "demo"

PROMPTS = {
    "validation.txt": ("happy, green background", "neutral, gray background"),
    "final.txt": ("sad, red background", "smug, blue background"),
}

PART_SECONDS = 1800.0
"""A part of a search that takes longer hangs."""

ORPHAN_SECONDS = 90.0
"""How long processes of a search may outlive it. Ray's agents look for the dead control store for 60 s."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A search that has ended, after some interruptions or none."""

    result: dict[str, Any]
    journal: int
    """Lines of its journal."""
    codes: tuple[int, ...]
    """Exit code of each part; negative: the signal that killed it."""
    leaving: tuple[float, ...]
    """Seconds from each signal to the end of the process."""
    orphans: int
    """Processes that outlived a part by more than `ORPHAN_SECONDS`."""


def write_search(home: Path, trials: int) -> Path:
    """The demo's search, each trial and each score cut down to seconds; its configuration file."""
    for name, prompts in PROMPTS.items():
        text = "".join(f"a photo of {{trigger}} man, {prompt}\n" for prompt in prompts)
        (home / name).write_text(text, "utf-8")
    content = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    content |= {"model": str(DEMO / "base"), "trials": trials}
    content["photos"]["folder"] = str(DEMO / "photos")
    content["space"]["steps"] = {"low": 20, "high": 60, "step": 20}
    content["first_trials"] = [{"learning_rate": 1e-4, "rank": 32, "alpha": 16, "targets": "attention", "steps": 60}]
    content["training"] |= {"batch_size": 2, "lr_warmup_steps": 5}
    content["stopping"]["grace_period"] = 20
    content["evaluation"] |= {"prompts": "validation.txt", "seeds": [1, 2], "every": 20, "clip": str(DEMO / "clip")}
    content["evaluation"]["others"] = {"count": 1}
    content["final"] = {"prompts": "final.txt", "seeds": [101, 102], "candidates": 2, "retrain": 1}
    path = home / "search.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def run_interrupted(home: Path, name: str, number: signal.Signals, moments: Sequence[int]) -> Outcome:
    """Run the search in `home`, send it a signal at each moment and resume it each time.

    Args:
        home: Holds `search.yaml`; gets `runs/NAME`.
        name: Of the run.
        number: The signal.
        moments: Lines of the journal at which it is sent, ascending.

    Raises:
        RuntimeError: a part hangs, or ended with a failure.
    """
    folder = home / "runs" / name
    codes, leaving, orphans = [], [], 0
    for moment in (*moments, None):
        # A kill before the journal's first line has left nothing to resume but the folder.
        begun = (folder / "search.yaml").exists()
        arguments = ["--resume", str(folder)] if begun else ["search.yaml", "--name", name]
        with (home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "search.run", *arguments],
                cwd=home,
                stdout=log,
                stderr=log,
                env={**os.environ, "HF_HUB_OFFLINE": "1"},
            )
        try:
            _wait(process, folder, moment)
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            sent = time.monotonic()
            process.send_signal(number)
            codes.append(process.wait(PART_SECONDS))
        except BaseException:
            process.kill()
            raise
        if moment is not None:
            leaving.append(time.monotonic() - sent)
            orphans += len(psutil.wait_procs(children, timeout=ORPHAN_SECONDS)[1])
        if codes[-1] not in {0, 130, -number}:
            raise RuntimeError(f"a part of {folder} ended with {codes[-1]}:\n{(home / f'{name}.log').read_text()}")
    return Outcome(
        result=json.loads((folder / "result.json").read_text("utf-8")),
        journal=_lines(folder),
        codes=tuple(codes),
        leaving=tuple(leaving),
        orphans=orphans,
    )


def _wait(process: subprocess.Popen[bytes], folder: Path, moment: int | None) -> None:
    """Returns when the journal has that many lines, without a moment when the process has ended.

    Raises:
        RuntimeError: that takes too long.
    """
    deadline = time.monotonic() + PART_SECONDS
    while process.poll() is None and (moment is None or _lines(folder) < moment):
        if time.monotonic() > deadline:
            raise RuntimeError(f"a part of {folder} takes more than {PART_SECONDS:g} s")
        time.sleep(0.05)


def _lines(folder: Path) -> int:
    try:
        return (folder / "journal.log").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
