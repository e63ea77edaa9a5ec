"""The pool of workers: starts one Ray Train run a worker beside the dispatcher, and starts again what dies.

Ray Train restarts a worker's processes; the pool restarts the run itself if its controller dies. A worker for which
there is no room yet waits: its request is what an autoscaler starts a node for.
"""

from __future__ import annotations

import logging
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer

# Not public, but the only way to a controller that waits for a node: `UserCallback` is called for reports and
# exceptions of started processes alone, and `fit()` returns no handle with which the controller could be ended.
from ray.train.v2._internal.execution.callback import ControllerCallback

from search.config.sections import SeatsConfig
from search.workers.client import WorkersClient
from search.workers.cluster import process_resources
from search.workers.dispatcher import START_PAUSE, Dispatcher
from search.workers.gpus import DeviceNews
from search.workers.worker import WorkerSetup, WorkerStartError, serve
from trainer.job.heap import heap_environment
from trainer.models.device import allocator_environment
from trainer.out_of_memory import speaks_of_memory

if TYPE_CHECKING:
    from search.workers.setup import RunnerSetup

logger = logging.getLogger(__name__)

MAX_CONTROLLER_RESTARTS = 5

HURRIED_SECONDS = 5.0
"""How long a pool in a hurry waits for its workers, which may be in the middle of scoring."""

INTRODUCTION_SECONDS = 5.0
"""Between two times that a worker's controller makes itself known."""

GROUP_TIMEOUT = 7 * 24 * 3600
"""Seconds that a process of a worker waits for another's word."""

LEAVE_SECONDS = 1.0
"""Between two looks at whether a worker that should leave is still alive."""


@dataclass(frozen=True)
class _LossCallback(UserCallback):
    """Reports a process of a worker that died to the dispatcher at once. Runs in the worker's Ray Train controller."""

    worker: str
    client: WorkersClient

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        rank, error = next(iter(worker_exceptions.items()), (0, None))
        reason, short = f"process {rank}: {in_short(error)}", speaks_of_memory(last_line(error))
        self.client.send(Dispatcher.worker_lost, self.worker, reason, out_of_memory=short)


def in_short(error: Exception | None) -> str:
    """The last line of an error, which after a traceback names it; of a dead process no more than that it has died.

    An error is named without its module, and of a worker that could not start only why.
    """
    if error is None:
        return "it died without an error"
    line = re.sub(r"^(?:\w+\.)+(\w+: )", r"\1", last_line(error).partition(". Worker exit type")[0])
    return line.removeprefix(f"{WorkerStartError.__name__}: ")


def last_line(error: Exception | None) -> str:
    """Of an error's message, which after a traceback names it, and of a dead process tells all that Ray knows; the
    error's kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


@dataclass(frozen=True)
class _Introduction(ControllerCallback):
    """Reports to the dispatcher which actor a worker's Ray Train controller is, which `fit()` does not say.

    It repeats that every few seconds: a dispatcher that was started again has forgotten it, and the worker may wait for
    its node for hours without a word to the dispatcher.
    """

    worker: str
    client: WorkersClient

    def after_controller_start(self, train_run_context: Any) -> None:
        controller = ray.get_runtime_context().current_actor
        threading.Thread(target=self._repeat, args=(controller,), name="introduction", daemon=True).start()

    def _repeat(self, controller: Any) -> None:
        while True:
            self.client.send(Dispatcher.worker_controller, self.worker, controller)
            time.sleep(INTRODUCTION_SECONDS)


class _AloneConfig(TorchConfig):
    """For a worker of one process: no process group, whose rendezvous would listen to all machines and ask no token."""

    @property
    def backend_cls(self) -> type[Backend]:
        return Backend


def group_config(*, gpus: bool) -> TorchConfig:
    """Of a worker of several processes: what they say to each other goes over gloo, gradients on GPUs over NCCL.

    Rank 0 scores while the others wait for its word, which may take longer than the half hour that is the default. A
    process that dies is noticed by Ray Train, not by this time.
    """
    return TorchConfig("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout_s=GROUP_TIMEOUT)


class Pool:
    """Workers and their dispatcher, alive while the `with` block runs.

    Args:
        config: How many workers and what each may use.
        runner: What each worker loads.
        folder: Folder for Ray's own files, shared by all nodes.
        gpus: Whether the cluster's GPUs are used.
        count: Number of workers.
        say: Is given lines for the user, in threads.
        pause: See `Dispatcher`.
    """

    def __init__(
        self,
        config: SeatsConfig,
        runner: RunnerSetup,
        folder: Path,
        *,
        gpus: bool,
        count: int,
        say: Callable[[str], None] = logger.warning,
        pause: float = START_PAUSE,
    ) -> None:
        self._config = config
        self._runner = runner
        self._folder = folder
        self._gpus = gpus
        self._say = say
        self.count = count
        self.hurried = False
        """Set it to leave the `with` block without waiting long; workers may then still be there."""
        self.closed = False
        """Whether all workers have left."""
        self._closing = threading.Event()
        self._given_up: list[str] = []
        # Daemons: a driver that fails must not be kept by a worker that waits for its node.
        names = [f"worker-{index}" for index in range(count)]
        self._threads = [threading.Thread(target=self._keep, args=(name,), name=name, daemon=True) for name in names]
        self.client = WorkersClient.start(config.tries, pause)

    def __enter__(self) -> Pool:
        # Ray Train asks its processes for news this often; a dead one is noticed no faster.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        # On a busy machine the imports of several workers take longer than Ray Train's minute.
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")
        for thread in self._threads:
            thread.start()
        news = DeviceNews(self.client, self._say)
        threading.Thread(target=news.tell_until, args=(self._closing,), name="devices", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        deadline = time.monotonic() + HURRIED_SECONDS if self.hurried else math.inf
        # A worker that serves leaves by itself. One that does not waits for a node or is starting: Ray Train would have
        # it wait without end, and it has nothing to lose.
        while (alive := [thread for thread in self._threads if thread.is_alive()]) and time.monotonic() < deadline:
            self.client.call(Dispatcher.close)  # each time: a dispatcher that was started again does not know of it
            serving, controllers = self.client.call(Dispatcher.serving), self.client.call(Dispatcher.controllers)
            for thread in alive:
                if thread.name not in serving and thread.name in controllers:
                    ray.kill(controllers[thread.name])
            alive[0].join(LEAVE_SECONDS)
        self.closed = not alive

    def _keep(self, name: str) -> None:
        """Keep one worker alive until the pool closes, or it is given up."""
        reason = f"its controller died {MAX_CONTROLLER_RESTARTS} times"
        for _ in range(MAX_CONTROLLER_RESTARTS):
            if self._closing.is_set():
                return
            try:
                self._trainer(name).fit()
            except Exception as error:
                if self._closing.is_set():
                    return
                if not isinstance(error, RayActorError | ray.train.TrainingFailedError):
                    reason = f"{type(error).__name__}: {error}"
                    break
                logger.warning("%s: its controller died, starting it again (%s)", name, error)
                self.client.send(Dispatcher.worker_lost, name, "the worker's controller died")
            else:
                reason, ended = self.client.call(Dispatcher.why_left, name)
                if ended or self._closing.is_set():
                    return
                break
        self._give_up(name, reason or "it has left")

    def _give_up(self, name: str, reason: str) -> None:
        """Go on without a worker; without the last one nothing can be done any more."""
        self.client.send(Dispatcher.worker_lost, name, reason)
        self._given_up.append(name)
        left = self.count - len(self._given_up)
        if left:
            self._say(f"{name} is given up: {reason}; {left} of {self.count} workers are left")
        else:
            self.client.call(Dispatcher.no_worker_left, name, reason)

    def _trainer(self, name: str) -> TorchTrainer:
        config = self._config
        setup = WorkerSetup(name=name, client=self.client, runner=self._runner, gpus=self._gpus)
        callbacks: list[Any] = [_LossCallback(name, self.client), _Introduction(name, self.client)]
        return TorchTrainer(
            partial(serve, setup),
            torch_config=_AloneConfig() if config.workers == 1 else group_config(gpus=self._gpus),
            scaling_config=ScalingConfig(
                num_workers=config.workers,
                use_gpu=self._gpus,
                resources_per_worker=process_resources(config, gpus=self._gpus),
            ),
            run_config=RunConfig(
                name=f"{name}-{uuid.uuid4().hex[:8]}",
                storage_path=str(self._folder),
                failure_config=FailureConfig(max_failures=-1),
                callbacks=callbacks,
                worker_runtime_env={"env_vars": allocator_environment() if self._gpus else heap_environment()},  # type: ignore[call-arg]  # mypy sees Train V1's
            ),
        )
