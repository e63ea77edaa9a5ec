"""The demo's search cut down to seconds, run through the command that a user types, and what it leaves behind."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from mlflow import MlflowClient

from tests.support.command import Command, Ended

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "demo"
TRIALS = 3


@dataclass(frozen=True)
class SearchRun:
    """The run `anna` of a search that has ended, below `home`."""

    home: Path
    code: int
    output: str

    @property
    def folder(self) -> Path:
        return self.home / "runs" / "anna"

    @property
    def result(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.folder / "result.json").read_text("utf-8"))
        return values

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.result["mlflow"]["tracking_uri"])

    def checkpoints(self, trial: str = "*") -> list[dict[str, Any]]:
        """Metrics of every scored checkpoint, with `trial` and `step`, from the files in `trials/`."""
        scored = []
        for path in self.folder.glob(f"trials/{trial}/step-*/report.json"):
            values = json.loads(path.read_text("utf-8"))
            scored.append({"trial": path.parts[-3], "step": values["step"], **values["metrics"]})
        assert scored
        return sorted(scored, key=lambda each: (each["trial"], each["step"]))


def short_search() -> dict[str, Any]:
    """The demo's configuration with three trials of 20 to 60 steps, a score every 20 steps and a small final."""
    content: dict[str, Any] = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    content |= {"name": "anna", "model": str(DEMO / "base"), "trials": TRIALS}
    content["photos"]["folder"] = str(DEMO / "photos")
    content["space"]["steps"] = {"low": 20, "high": 60, "step": 20}
    content["space"]["learning_rate"] = {"low": 1e-3, "high": 4e-3, "log": True}
    content["first_trials"] = [{"learning_rate": 2e-3, "rank": 8, "alpha": 16, "targets": "attention", "steps": 40}]
    content["training"] |= {"batch_size": 2, "lr_warmup_steps": 5}
    content["stopping"] = {"grace_period": 20}
    content["evaluation"] |= {"prompts": "validation.txt", "seeds": [1, 2], "every": 20, "clip": str(DEMO / "clip")}
    content["evaluation"]["others"] = {"count": 2}
    content["final"] = {"prompts": "final.txt", "seeds": [101, 102], "candidates": 2, "retrain": 1}
    return content


def write_search(home: Path, content: dict[str, Any] | None = None) -> Path:
    """Write a configuration, that of `short_search` by default, and the prompts that it names into `home`."""
    photo = "a photo of {trigger} man"
    (home / "validation.txt").write_text(f"{photo}, happy, green background\n{photo}\n")
    (home / "final.txt").write_text(f"{photo}, sad, red background\n{photo}, smug\n")
    path = home / "search.yaml"
    path.write_text(yaml.safe_dump(content or short_search()), "utf-8")
    return path


def start(home: Path, *options: str, scene: str = "", environment: dict[str, str] | None = None) -> Command:
    """Start `python -m search.run` in `home`, with a moment staged in it if there is a scene (`staged_search.py`)."""
    staged = str(REPOSITORY / "tests" / "support" / "staged_search.py")
    program = [staged, scene] if scene else ["-m", "search.run"]
    return Command([sys.executable, *program, *options], home, environment)


def finish(command: Command, home: Path) -> SearchRun:
    """Wait for the end of a search in `home`."""
    with command:
        ended: Ended = command.finish()
    return SearchRun(home, ended.code, ended.output)


def training_workers(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes in which trainings run."""
    return [process for process in processes if "RayTrainWorker" in _command_line(process)]


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""
