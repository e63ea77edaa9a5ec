"""Pools of workers whose starts fail, on this machine's Ray; prints what was seen as a line of JSON.

The workers load no models: what the job runner would meet at its start, or in a job, is played.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import ray

from search.config.sections import SeatsConfig
from search.storage.trial_record import CheckpointResult
from search.workers import pool
from search.workers.jobs import AnchorJob, JobStatus
from search.workers.pool import Pool
from search.workers.worker import WorkerSetup
from tests.support.command import until

PAUSE = 0.1
HEAVY = "heavy"
"""A job that runs out of memory unless it begins at half."""
FULL = "CUDA error: out of memory"

Fail = Callable[[str, int], Exception | None]
"""Why a worker's start fails, by its name and how often it has tried, from 1; None if it starts."""


class Drill:
    """One pool after the other, in `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def run(self, name: str, fail: Fail, *, jobs: tuple[str, ...] = (), **seats: Any) -> dict[str, Any]:
        """What becomes of the jobs, which are submitted once the others of the pool's workers are given up."""
        folder = self._home / name
        folder.mkdir()
        said: list[str] = []
        config = SeatsConfig(**seats)
        _play(folder, fail)
        runner: Any = None
        count = config.count or 1
        with Pool(config, runner, folder / "ray", gpus=False, count=count, say=said.append, pause=PAUSE) as workers:
            if count > 1:
                until(lambda: len(workers._given_up) == count - 1)
            statuses = {job: self._do(workers, job, folder) for job in jobs}
        return {
            "jobs": {job: [status.state, status.reason, *status.losses] for job, status in statuses.items()},
            "starts": {path.name: len(path.read_text()) for path in sorted(folder.glob("worker-*"))},
            "halvings": [int(path.suffix[1:]) for path in sorted(folder.glob("done.*"))],
            "said": said,
            "closed": workers.closed,
        }

    @staticmethod
    def _do(workers: Pool, job: str, folder: Path) -> JobStatus:
        return workers.client.wait(AnchorJob(id=job, folder=folder, prompt_set="validation"))


def _play(folder: Path, fail: Fail) -> None:
    """Have every worker note its start in `folder` and then fail as it should, or serve."""

    def serve(setup: WorkerSetup) -> None:
        from search.workers import worker

        class PlayedRunner:
            device = "the CPU, played"

            def __init__(self, *arguments: Any, **options: Any) -> None:
                with (folder / setup.name).open("a") as starts:
                    starts.write(".")
                error = fail(setup.name, len((folder / setup.name).read_text()))
                if error is not None:
                    raise error

            def do(self, job: Any, *, report: Any, **options: Any) -> None:
                if job.id == HEAVY and not job.halvings:
                    raise RuntimeError(FULL)
                (folder / f"done.{job.halvings}").touch()
                report(CheckpointResult(step=0, metrics={}, rows=(), folder=job.folder))

        module: Any = ModuleType("search.workers.runner")
        module.JobRunner = PlayedRunner
        sys.modules["search.workers.runner"] = module
        worker.serve(setup)

    setattr(pool, "serve", serve)  # noqa: B010 - types know no other way to replace a function


def full(name: str, tries: int) -> Exception | None:
    """One worker's card is full, whatever it does."""
    return RuntimeError(FULL) if name == "worker-1" else None


def mistaken(name: str, tries: int) -> Exception | None:
    """The user's own mistake."""
    return ValueError("base model 'x' is neither a folder nor on the hub")


def dead(name: str, tries: int) -> Exception | None:
    """No card can be used."""
    return RuntimeError("CUDA error: uncorrectable ECC error encountered")


def main(home: Path) -> None:
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    drill = Drill(home)
    seen = {
        "full": drill.run("full", full, jobs=("light", HEAVY), count=2, tries=2),
        "mistaken": drill.run("mistaken", mistaken, jobs=("light",), count=1),
        "dead": drill.run("dead", dead, jobs=("light",), count=1, tries=1),
    }
    print(json.dumps(seen), flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
