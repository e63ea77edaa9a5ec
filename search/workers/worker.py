"""A worker: one long-lived Ray Train run whose processes load the models once and then do one job after the other.

The loop below runs in every process of the worker. Of several processes, rank 0 talks to the dispatcher and passes on
to the others what to do; a process that fails takes the others down, and Ray Train starts them all again.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import ray.train

from search.storage.trial_record import CheckpointResult
from search.workers.client import WorkersClient
from search.workers.dispatcher import ClosedError, Dispatcher
from search.workers.jobs import DIVERGED, Job

if TYPE_CHECKING:
    from search.workers.runner import JobRunner
    from search.workers.setup import RunnerSetup

POLL_SECONDS = 10.0
PROGRESS_SECONDS = 0.5

Shared = TypeVar("Shared")


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What the processes of a worker need to begin."""

    name: str
    client: WorkersClient
    runner: RunnerSetup


def serve(setup: WorkerSetup) -> None:
    """Serve jobs until the dispatcher closes. What the worker's `TorchTrainer` runs in each process."""
    from search.workers.runner import JobRunner

    leads = ray.train.get_context().get_world_rank() == 0
    token = uuid.uuid4().hex
    runner, failure = None, ""
    try:
        runner = JobRunner(setup.runner)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    # All processes leave together, or those that loaded well would wait for the others for ever.
    if failure := any_failure(failure):
        # What cannot be loaded here can be loaded nowhere: starting again would not help.
        if leads:
            setup.client.call(Dispatcher.worker_broken, setup.name, failure)
        return
    assert runner is not None
    if leads:
        setup.client.call(Dispatcher.worker_started, setup.name, token)
    while True:
        try:
            job = share(lambda: setup.client.call(Dispatcher.next_job, setup.name, token, POLL_SECONDS), leads=leads)
        except ClosedError:
            return
        if job is not None:
            _Service(setup.client, token, job, leads=leads).run(runner)


def share(value: Callable[[], Shared], *, leads: bool) -> Shared:
    """What `value` returns in the leading process, in every process of the worker; its `ClosedError` likewise."""
    import torch.distributed

    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return value()
    box: list[Any] = [None]
    if leads:
        try:
            box = [value()]
        except ClosedError as error:
            box = [error]
    torch.distributed.broadcast_object_list(box, src=0)
    if isinstance(box[0], ClosedError):
        raise box[0]
    shared: Shared = box[0]
    return shared


def any_failure(failure: str) -> str:
    """The first failure among the processes of the worker, each of which gives its own; empty if none has one."""
    import torch.distributed

    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return failure
    failures: list[Any] = [""] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(failures, failure)
    return next((text for text in failures if text), "")


class _Service:
    """One job of a worker: passes its results on to the dispatcher, and the request to stop back."""

    def __init__(self, client: WorkersClient, token: str, job: Job, *, leads: bool) -> None:
        self._client = client
        self._token = token
        self._job = job
        self._leads = leads
        self._stop: Any = client.stop_requested(job.id, token) if leads else None  # only the leading process asks it
        self._progress_due = 0.0

    def run(self, runner: JobRunner) -> None:
        from trainer.job.job import TrainingDiverged
        from trainer.job.memory import OutOfMemory, is_out_of_memory
        from trainer.storage import StorageError

        failure = ""
        try:
            runner.do(self._job, report=self._report, go_on=self._go_on, keeps_state=self._keeps_state)
        except (TrainingDiverged, OutOfMemory) as error:
            # Every process computes the same loss and knows of the others' memory: all leave the job here.
            failure = f"{DIVERGED if isinstance(error, TrainingDiverged) else 'OutOfMemory: '}{error}"
        except (ValueError, RuntimeError, MemoryError, StorageError) as error:
            # Only the leading process generates, judges and writes: the others would wait for it. Ray Train starts all
            # again.
            expected = isinstance(error, ValueError | StorageError) or is_out_of_memory(error)
            if not expected or ray.train.get_context().get_world_size() > 1:
                raise
            failure = f"{type(error).__name__}: {error}"
        if self._leads:
            self._client.call(Dispatcher.finish, self._job.id, self._token, failure=failure)

    def _report(self, report: CheckpointResult | None) -> bool:
        def wanted() -> bool:
            assert report is not None, "the leading process scores every checkpoint"
            return self._client.call(Dispatcher.report, self._job.id, self._token, report)

        return share(wanted, leads=self._leads)

    def _go_on(self, step: int) -> bool:
        def wanted() -> bool:
            now = time.monotonic()
            if now >= self._progress_due:
                self._progress_due = now + PROGRESS_SECONDS
                self._client.send(Dispatcher.progress, self._job.id, self._token, step)
            return not self._stop.made

        return share(wanted, leads=self._leads)

    def _keeps_state(self) -> bool:
        return share(lambda: bool(self._stop.keeps_state), leads=self._leads)
