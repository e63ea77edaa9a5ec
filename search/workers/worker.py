"""A worker: one long-lived Ray Train run whose processes load the models once and then do one job after the other.

The loop below runs in every process of the worker. Of several processes, rank 0 talks to the dispatcher and passes on
to the others what to do; a process that fails takes the others down, and Ray Train starts them all again.
"""

from __future__ import annotations

import math
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
ASK_SECONDS = 0.2
"""Between two times that the processes of a worker ask together whether to go on; one alone asks after every step."""

Shared = TypeVar("Shared")


@dataclass(frozen=True, kw_only=True)
class WorkerSetup:
    """What the processes of a worker need to begin."""

    name: str
    client: WorkersClient
    runner: RunnerSetup
    gpus: bool = False
    """Whether each process has reserved a GPU."""


class WorkerStartError(RuntimeError):
    """The worker could not start here and now; the message says why. It may elsewhere, or later."""


def serve(setup: WorkerSetup) -> None:
    """Serve jobs until the dispatcher closes. What the worker's `TorchTrainer` runs in each process.

    Raises:
        WorkerStartError: the models could not be loaded. Ray Train starts the processes again, and they wait before
            they try once more, as the dispatcher says.
    """
    leads = ray.train.get_context().get_world_rank() == 0
    token = uuid.uuid4().hex
    pause = share(lambda: setup.client.call(Dispatcher.start_pause, setup.name), leads=leads)
    if pause is None:
        return
    time.sleep(pause)
    runner, failure = _load(setup)
    # All processes leave together, or those that loaded well would wait for the others for ever.
    failed = first_failure(failure)
    if failed is not None and failed.shared:
        # What is wrong with what was asked for is wrong everywhere: starting again would not help.
        if leads:
            setup.client.call(Dispatcher.worker_broken, setup.name, failed.reason)
        return
    if failed is not None:
        raise WorkerStartError(failed.reason)
    assert runner is not None
    if leads:
        setup.client.call(Dispatcher.worker_started, setup.name, token, runner.device)
    while True:
        try:
            job = share(lambda: setup.client.call(Dispatcher.next_job, setup.name, token, POLL_SECONDS), leads=leads)
        except ClosedError:
            return
        if job is not None:
            _Service(setup.client, token, job, leads=leads).run(runner)


@dataclass(frozen=True, kw_only=True)
class _StartFailure:
    reason: str
    """On one line."""
    shared: bool
    """Whether it is in what the user gave, and so the same for every worker."""


def _load(setup: WorkerSetup) -> tuple[JobRunner | None, _StartFailure | None]:
    """The job runner, or why there is none.

    Only a `ValueError` is about the input: everything else (a card that is full or that torch cannot use, a network or
    disk that fails) is this machine's, and may pass.
    """
    import torch

    from search.workers.runner import JobRunner
    from trainer.models.device import reserved_gpu

    try:
        return JobRunner(setup.runner, device=reserved_gpu() if setup.gpus else torch.device("cpu")), None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return None, _StartFailure(reason=reason, shared=isinstance(error, ValueError))


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


def first_failure(failure: _StartFailure | None) -> _StartFailure | None:
    """The first failure among the processes of the worker, each of which gives its own; None if none has one."""
    import torch.distributed

    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return failure
    failures: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(failures, failure)
    return next((each for each in failures if each is not None), None)


class _Service:
    """One job of a worker: passes its results on to the dispatcher, and the request to stop back."""

    def __init__(self, client: WorkersClient, token: str, job: Job, *, leads: bool) -> None:
        self._client = client
        self._token = token
        self._job = job
        self._leads = leads
        self._stop: Any = client.stop_requested(job.id, token) if leads else None  # only the leading process asks it
        self._progress_due = 0.0
        self._unasked = 0
        """Steps that all processes of the worker still do before they ask again."""
        self._asked_after, self._asked_at = 1, -math.inf

    def run(self, runner: JobRunner) -> None:
        from evaluation.loading_error import LoadingError
        from trainer.job.job import TrainingDiverged
        from trainer.out_of_memory import OutOfMemory, is_out_of_memory
        from trainer.storage import StorageError

        failure = ""
        try:
            runner.do(self._job, report=self._report, go_on=self._go_on, keeps_state=self._keeps_state)
        except (TrainingDiverged, OutOfMemory) as error:
            # Every process computes the same loss and knows of the others' memory: all leave the job here.
            failure = f"{DIVERGED if isinstance(error, TrainingDiverged) else 'OutOfMemory: '}{error}"
        except (ValueError, StorageError, LoadingError) as error:
            # Only the leading process generates, judges and writes: the others would wait for it. Ray Train starts all
            # again. So it does where memory ran out in a place that does nothing by halves: the dispatcher then hands
            # the job out again to begin at half.
            if is_out_of_memory(error) or ray.train.get_context().get_world_size() > 1:
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
        if self._unasked:
            self._unasked -= 1
            return True

        def wanted() -> tuple[bool, int]:
            now = time.monotonic()
            if now >= self._progress_due:
                self._progress_due = now + PROGRESS_SECONDS
                self._client.send(Dispatcher.progress, self._job.id, self._token, step)
            return not self._stop.made, self._pace(now)

        go_on, self._unasked = share(wanted, leads=self._leads)
        return go_on

    def _pace(self, now: float) -> int:
        """How many steps to do before the next question, which each time makes the processes meet: none if alone."""
        if ray.train.get_context().get_world_size() == 1:
            return 0
        seconds, self._asked_at = now - self._asked_at, now
        steps = self._asked_after * ASK_SECONDS / max(seconds, 1e-6)
        # At most twice as many as last time: the first steps tell little of those to come.
        self._asked_after = max(1, min(int(steps), 2 * self._asked_after))
        return self._asked_after - 1

    def _keeps_state(self) -> bool:
        return share(lambda: bool(self._stop.keeps_state), leads=self._leads)
