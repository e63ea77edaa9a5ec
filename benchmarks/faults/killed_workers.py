"""A search of the demo's photos that comes to the same end however its trials meet, and blows at its workers."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
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
from safetensors.numpy import load_file

from search.config.run_layout import STATE_FOLDER
from trainer.adapters.adapter_files import WEIGHTS_FILE

DEMO = Path(__file__).resolve().parents[2] / "demo"

SEARCH_SECONDS = 1800.0
"""A search that takes longer hangs."""

AWAKE_SECONDS = 25.0
"""Age from which on a worker has certainly loaded its models: a younger one would not be hit in a training step."""

LOSS = re.compile(r"lost its worker after step (\d+): .*")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A search that has ended."""

    result: dict[str, Any]
    seconds: float
    """From the command to its end."""
    adapters: dict[str, str]
    """SHA-256 of the weights of every checkpoint and of the champion, by their folders."""
    blows: tuple[float, ...]
    """Seconds from the first trial to each SIGKILL."""

    @property
    def losses(self) -> list[int]:
        """The steps after which trials have lost their workers."""
        remarks = [remark for trial in self.result["trials"] for remark in trial["remarks"]]
        return [int(match[1]) for remark in remarks if (match := LOSS.fullmatch(remark))]


def write_search(home: Path, trials: int, steps: tuple[int, int] = (100, 300)) -> Path:
    """The demo's search, such that no outcome depends on which trial comes first; its configuration file.

    Configurations are drawn at random from a seed, no trial is stopped early, and the final is one round of images.

    Args:
        home: Gets the file.
        trials: How many.
        steps: The fewest and the most optimizer steps of a trial; the fewest are also those between two checkpoints.
    """
    content = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    fewest, most = steps
    content |= {"model": str(DEMO / "base"), "trials": trials, "sampler": {"name": "random"}}
    content |= {"stopping": {"enabled": False}}
    content["photos"]["folder"] = str(DEMO / "photos")
    content["space"]["steps"] = {"low": fewest, "high": most, "step": fewest}
    content["first_trials"][0]["steps"] = most
    content["evaluation"] |= {"every": fewest, "clip": str(DEMO / "clip"), "second_judge": None}
    for section, key in ((content["evaluation"], "prompts"), (content["evaluation"]["others"], "prompts")):
        section[key] = str(DEMO / section[key])
    final = str(DEMO / content["final"]["prompts"])
    content["final"] = {"prompts": final, "seeds": [101], "candidates": 1, "retrain": 0, "strengths": []}
    path = home / "search.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def run_struck(home: Path, name: str, moments: Sequence[float], randomness: random.Random) -> Outcome:
    """Run the search in `home` and kill a training worker at each moment.

    A blow that comes while a trial is scored or a worker starts waits until all of them train, so that it hits one in
    the middle of a training step.

    Args:
        home: Holds `search.yaml`; gets `runs/NAME`.
        name: Of the run.
        moments: Seconds from the first trial on, ascending.
        randomness: Draws the workers.

    Raises:
        RuntimeError: the search hangs, or ended otherwise than with a champion.
    """
    folder = home / "runs" / name
    every = int(yaml.safe_load((home / "search.yaml").read_text("utf-8"))["evaluation"]["every"])
    began = time.monotonic()
    with (home / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "search.run", "search.yaml", "--name", name],
            cwd=home,
            stdout=log,
            stderr=log,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    deadline = began + SEARCH_SECONDS
    try:
        while process.poll() is None and not list(folder.glob("trials/*")):
            time.sleep(0.05)
        first = time.monotonic()
        blows = []
        for moment in moments:
            while process.poll() is None and time.monotonic() < deadline:
                if time.monotonic() - first >= moment and _strike(process, folder, every, randomness):
                    blows.append(time.monotonic() - first)
                    break
                time.sleep(0.02)
        code = process.wait(max(1.0, deadline - time.monotonic()))
    except BaseException:
        process.kill()
        raise
    if code:
        raise RuntimeError(f"the search {folder} ended with {code}:\n{(home / f'{name}.log').read_text()}")
    return Outcome(
        result=json.loads((folder / "result.json").read_text("utf-8")),
        seconds=time.monotonic() - began,
        adapters=adapters(folder),
        blows=tuple(blows),
    )


def adapters(folder: Path) -> dict[str, str]:
    """SHA-256 of the weights of the adapters in a run folder, by their folders in it."""
    files = (*folder.glob(f"trials/*/step-*/{WEIGHTS_FILE}"), folder / "champion" / WEIGHTS_FILE)
    return {str(file.parent.relative_to(folder)): sum_of_weights(file) for file in sorted(files)}


def sum_of_weights(file: Path) -> str:
    """SHA-256 of all tensors of an adapter file by their names; its header lists texts in any order."""
    tensors, digest = load_file(file), hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


def is_scored(trial: Path, every: int) -> bool:
    """Whether a trial is being scored: it has the state of a checkpoint's step, and not the checkpoint yet.

    Args:
        trial: Its folder.
        every: Steps between two checkpoints.
    """
    steps = [int(path.name[5:]) for path in trial.glob(f"{STATE_FOLDER}/step-*") if path.name[5:].isdigit()]
    last = max(steps, default=0)
    return last > 0 and last % every == 0 and not (trial / f"step-{last}").exists()


def _strike(process: subprocess.Popen[bytes], folder: Path, every: int, randomness: random.Random) -> bool:
    """Kill a training worker if all of them are awake and train; whether it was done."""
    workers = [child for child in psutil.Process(process.pid).children(recursive=True) if _trains(child)]
    if not workers or any(time.time() - worker.create_time() < AWAKE_SECONDS for worker in workers):
        return False
    under_way = [trial for trial in folder.glob("trials/*") if (trial / STATE_FOLDER).exists()]
    if len(under_way) < len(workers) or any(is_scored(trial, every) for trial in under_way):
        return False
    os.kill(randomness.choice(workers).pid, signal.SIGKILL)
    return True


def _trains(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False
