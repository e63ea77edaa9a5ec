"""The pool of seats: starts one Ray Train run a seat beside the dispatcher, and starts again what dies.

Ray Train restarts a seat's workers; the pool restarts the run itself if its controller dies.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchConfig, TorchTrainer

from search.config import SeatsConfig
from search.dispatcher import Dispatcher
from search.seat import SeatSetup, serve

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from search.workbench_setup import WorkbenchSetup

logger = logging.getLogger(__name__)

MAX_CONTROLLER_RESTARTS = 5


class SeatsFailedError(RuntimeError):
    """A seat could not be kept alive; the message says why."""


class _LossCallback(UserCallback):
    """Tells the dispatcher at once when a seat's worker died. Runs in the seat's Ray Train controller."""

    def __init__(self, seat: str, dispatcher: ActorHandle[Any]) -> None:
        self._seat = seat
        self._dispatcher = dispatcher

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        rank, error = next(iter(worker_exceptions.items()), (0, None))
        text = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        self._dispatcher.seat_lost.remote(self._seat, f"worker {rank}: {text[0]}")


class Pool:
    """Seats and their dispatcher, alive while the `with` block runs.

    Args:
        config: How many seats and what each may use.
        workbench: What each worker loads.
        folder: Folder for Ray's own files, shared by all nodes.
        gpus: Whether the cluster's GPUs are used.
        count: Number of seats.
    """

    def __init__(self, config: SeatsConfig, workbench: WorkbenchSetup, folder: Path, *, gpus: bool, count: int) -> None:
        self._config = config
        self._workbench = workbench
        self._folder = folder
        self._gpus = gpus
        self.count = count
        self._closing = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=count, thread_name_prefix="seat")
        # Seats poll for long and all at once; the limit only guards against a runaway.
        options = {"num_cpus": 0, "max_concurrency": 10_000, "max_restarts": -1, "max_task_retries": -1}
        self.dispatcher: ActorHandle[Any] = ray.remote(**options)(Dispatcher).remote(config.tries)

    def __enter__(self) -> Pool:
        # Ray Train asks its workers for news this often; a dead worker is noticed no faster.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
        self._fits = [self._threads.submit(self._keep, f"seat-{index}") for index in range(self.count)]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        ray.get(self.dispatcher.close.remote())
        self._threads.shutdown(wait=True)

    def _keep(self, name: str) -> None:
        """Keep one seat alive until the pool closes."""
        for _ in range(MAX_CONTROLLER_RESTARTS):
            try:
                self._trainer(name).fit()
                return  # The seat's worker left of its own accord: the dispatcher was closed or knows why.
            except (RayActorError, ray.train.TrainingFailedError) as error:
                if self._closing.is_set():
                    return
                logger.warning("%s: its controller died, starting it again (%s)", name, error)
                ray.get(self.dispatcher.seat_lost.remote(name, "the seat's controller died"))
        ray.get(self.dispatcher.seat_broken.remote(name, f"its controller died {MAX_CONTROLLER_RESTARTS} times"))

    def _trainer(self, name: str) -> TorchTrainer:
        config = self._config
        resources = {"GPU": config.gpus_per_worker, "CPU": 1.0} if self._gpus else {"CPU": float(config.threads)}
        setup = SeatSetup(name=name, dispatcher=self.dispatcher, workbench=self._workbench)
        return TorchTrainer(
            partial(serve, setup),
            torch_config=TorchConfig(backend="nccl" if self._gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=config.workers, use_gpu=self._gpus, resources_per_worker=resources
            ),
            run_config=RunConfig(
                name=f"{name}-{uuid.uuid4().hex[:8]}",
                storage_path=str(self._folder),
                failure_config=FailureConfig(max_failures=-1),
                callbacks=[_LossCallback(name, self.dispatcher)],
            ),
        )
