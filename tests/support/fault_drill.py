"""A pool of workers on two nodes into which faults are put while it trains; prints what was seen as a line of JSON.

The nodes have one CPU each and a worker two processes, so that one lies on both nodes and the other waits for room
that never comes. Every job trains the same; each but the first is held between two checkpoints and hit there.
`broken_host.py` has to be there as `sitecustomize`, for the storage to be slow and the clocks to jump.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import ray
from ray.cluster_utils import Cluster

from benchmarks.scale.simulated_worker import ANCHORS
from benchmarks.trial_overhead.short_trials import short_search
from search.config.sections import SeatsConfig
from search.workers import pool
from search.workers.dispatcher import Dispatcher
from search.workers.jobs import TrainJob
from search.workers.pool import Pool
from search.workers.worker import WorkerSetup
from tests.support.broken_host import CONTROL
from tests.support.command import until
from trainer.config import TrainingConfig

NODES = 2
SCORE_AT = (10, 50)
STRIKE_AT = 16
"""The step after which a job is held to be hit: it is between two checkpoints and has a state."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of one job."""

    state: str
    reason: str
    steps: tuple[int, ...]
    """Of its reports."""
    losses: tuple[str, ...]
    struck: int
    """The step after which it was held when it was hit; 0 if it was not."""
    seconds: float
    """From the blow until it had come farther than that."""


class Drill:
    """Jobs and blows on one pool."""

    def __init__(self, pool: Pool, folder: Path) -> None:
        self._pool = pool
        self._folder = folder

    def job(self, name: str, blow: Callable[[], object] | None = None) -> Seen:
        """Train a job to its end, and strike once it is under way."""
        config = TrainingConfig(
            learning_rate=2e-3, rank=4, alpha=8, steps=SCORE_AT[-1], batch_size=2, resolution=64, lr_warmup_steps=5
        )
        job = TrainJob(id=name, folder=self._folder / name, config=config, score_at=SCORE_AT, anchors=ANCHORS)
        client = self._pool.client
        # As a trial does: it submits the job again if the dispatcher has forgotten it.
        trial = threading.Thread(target=client.wait, args=(job,))
        trial.start()
        struck, seconds = 0, 0.0
        if blow is None:
            self._gate(name).touch()
        else:
            until(lambda: self._step(name) == STRIKE_AT)
            struck, began = STRIKE_AT, time.monotonic()
            blow()
            self._gate(name).touch()
            until(lambda: self._step(name) > STRIKE_AT)
            seconds = time.monotonic() - began
        trial.join()
        status = client.status(name)
        return Seen(
            state=status.state,
            reason=status.reason,
            steps=tuple(report.step for report in status.checkpoints),
            losses=status.losses,
            struck=struck,
            seconds=round(seconds, 1),
        )

    def _step(self, name: str) -> int:
        return self._pool.client.steps().get(name, 0)

    def _gate(self, name: str) -> Path:
        return self._folder / f"gate-{name}"

    def kill_dispatcher(self) -> None:
        kill("ray::Dispatcher")

    def kill_controller(self) -> None:
        """Of the worker that trains."""
        (name,) = self._pool.client.call(Dispatcher.serving)
        ray.kill(self._pool.client.call(Dispatcher.controllers)[name])


def kill(words: str) -> None:
    """SIGKILL for one process whose command holds these words."""
    for process in psutil.Process().children(recursive=True):
        if words in " ".join(process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)
            return
    raise LookupError(f"no process is called {words}")


def break_host(**faults: float) -> None:
    """See `broken_host`."""
    Path(os.environ[CONTROL]).write_text(json.dumps(faults), "utf-8")


def hold_trainings(folder: Path) -> None:
    """Have every worker hold its training after the step at which it is hit, until the job's gate is open."""

    def serve(setup: WorkerSetup) -> None:
        import time

        from search.workers import worker

        asks = worker._Service._go_on

        def go_on(service: Any, step: int) -> bool:
            gate = folder / f"gate-{service._job.id}"
            wanted = asks(service, step)
            # All processes of the worker ask equally often.
            while wanted and step == STRIKE_AT and worker.share(lambda: not gate.exists(), leads=service._leads):
                time.sleep(0.05)
                wanted = asks(service, step)
            return wanted

        setattr(worker._Service, "_go_on", go_on)  # noqa: B010 - types know no other way to replace a method
        worker.serve(setup)

    setattr(pool, "serve", serve)  # noqa: B010


def main(folder: Path) -> None:
    hold_trainings(folder)
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=0, node_ip_address="127.0.0.1")
        for _ in range(NODES):
            cluster.add_node(num_cpus=1, node_ip_address="127.0.0.1")
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        _, runner = short_search(folder, 2)
        seen: dict[str, Any] = {}
        seats = SeatsConfig(count=2, workers=2, threads=1)
        with Pool(seats, replace(runner, threads=1), folder / "ray", gpus=False, count=2) as workers_pool:
            drill = Drill(workers_pool, folder)
            seen["undisturbed"] = asdict(drill.job("undisturbed"))
            seen["nodes"] = len({parent(process) for process in workers()})
            seen["dispatcher"] = asdict(drill.job("dispatcher", drill.kill_dispatcher))
            seen["storage and clock"] = asdict(
                drill.job("storage and clock", lambda: break_host(fsync=0.2, jump=86400))
            )
            break_host()
            seen["controller"] = asdict(drill.job("controller", drill.kill_controller))
            kill("ray::Dispatcher")
            began = time.monotonic()
        seen["closed"] = workers_pool.closed
        seen["closing"] = round(time.monotonic() - began, 1)
        # The room that a waiting worker has asked for is the driver's, until that ends.
        ray.shutdown()
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        # Ray counts its resources once a second.
        until(lambda: ray.available_resources().get("CPU", 0.0) == NODES)
        seen["free"] = ray.available_resources()["CPU"]
        print(json.dumps(seen), flush=True)
        ray.shutdown()
    finally:
        cluster.shutdown()


def workers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "RayTrainWorker" in " ".join(child.cmdline())]


def parent(process: psutil.Process) -> int:
    """The raylet that has started a worker."""
    started = process.parent()
    assert started is not None
    return started.pid


if __name__ == "__main__":
    main(Path(sys.argv[1]))
