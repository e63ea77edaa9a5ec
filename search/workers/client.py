"""The dispatcher as other processes see it: a Ray actor, and a typed handle to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from evaluation.scores import Anchors
from search.config.prompts import PromptSetName
from search.config.run_layout import ANCHORS_FILE, RunLayout
from search.storage.trial_record import CheckpointResult, JobState
from search.workers.dispatcher import ClosedError, Dispatcher, UnknownJobError
from search.workers.jobs import AnchorJob, Job, JobStatus

POLL_SECONDS = 30.0

ANY_NUMBER = 10**9
"""More reports than any job hands in: whoever waits for these waits for the job's end."""


class JobFailedError(RuntimeError):
    """A measurement that the search cannot do without has failed; the message says why."""


@dataclass(frozen=True)
class WorkersClient:
    """Calls to the dispatcher's actor; see `search.workers.dispatcher.Dispatcher` for what each does. Can be sent
    anywhere."""

    handle: Any

    @classmethod
    def start(cls, tries: int) -> WorkersClient:
        """Start the actor. It outlives the death of its process: Ray starts it again and repeats calls under way."""
        # Every worker and trial holds a long call open; the limit only guards against a runaway.
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Dispatcher)
        # Beside the driver: other nodes may be taken away at any time.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(actor.options(max_concurrency=10_000, scheduling_strategy=here).remote(tries))

    def submit(self, job: Job) -> None:
        _get(self.handle.submit.remote(job))

    def status(self, job_id: str, *, reports: int = 0, timeout: float = 0.0) -> JobStatus:
        status: JobStatus = _get(self.handle.status.remote(job_id, reports=reports, timeout=timeout))
        return status

    def wait(self, job: Job) -> JobStatus:
        """A job's status once it has ended. Submits it, again too if the dispatcher has lost it."""
        while True:
            try:
                status = self.status(job.id, reports=ANY_NUMBER, timeout=POLL_SECONDS)
            except UnknownJobError:
                self.submit(job)
                continue
            if status.ended:
                return status

    def run(self, jobs: Sequence[Job]) -> list[CheckpointResult]:
        """Have workers do jobs that report once; the reports in the jobs' order.

        Raises:
            JobFailedError: one of them could not be done.
        """
        for job in jobs:
            self.submit(job)
        reports = []
        for job in jobs:
            status = self.wait(job)
            if status.state is not JobState.FINISHED or not status.checkpoints:
                raise JobFailedError(f"job {job.id} {status.state}: {status.reason or 'it reported nothing'}")
            reports.append(status.checkpoints[0])
        return reports

    def steps(self) -> dict[str, int]:
        steps: dict[str, int] = _get(self.handle.steps.remote())
        return steps

    def serving(self) -> frozenset[str]:
        workers: frozenset[str] = _get(self.handle.serving.remote())
        return workers

    def controllers(self) -> dict[str, Any]:
        handles: dict[str, Any] = _get(self.handle.controllers.remote())
        return handles

    def stop(self, job_id: str, reason: str) -> None:
        """Does not wait: a trial that is being stopped has no time."""
        self.handle.stop.remote(job_id, reason)

    def wait_for_worker(self) -> None:
        """Returns when a worker has started.

        Raises:
            JobFailedError: none can; the message says why.
        """
        while True:
            up, broken = _get(self.handle.workers_up.remote(POLL_SECONDS))
            if broken:
                raise JobFailedError(broken)
            if up:
                return

    def pause(self, reason: str) -> None:
        _get(self.handle.pause.remote(reason))

    def unpause(self) -> None:
        _get(self.handle.unpause.remote())

    def rest(self, timeout: float) -> bool:
        return bool(_get(self.handle.rest.remote(timeout)))

    def close(self) -> None:
        _get(self.handle.close.remote())

    def worker_controller(self, worker: str, controller: Any) -> None:
        """Does not wait: it is called from Ray Train's own loop."""
        self.handle.worker_controller.remote(worker, controller)

    def worker_started(self, worker: str, token: str) -> None:
        _get(self.handle.worker_started.remote(worker, token))

    def worker_lost(self, worker: str, reason: str) -> None:
        """Does not wait: it is called from Ray Train's own loop."""
        self.handle.worker_lost.remote(worker, reason)

    def worker_broken(self, worker: str, reason: str) -> None:
        _get(self.handle.worker_broken.remote(worker, reason))

    def next_job(self, worker: str, token: str, timeout: float) -> Job | None:
        job: Job | None = _get(self.handle.next_job.remote(worker, token, timeout))
        return job

    def progress(self, job_id: str, token: str, step: int) -> None:
        """Does not wait: nobody depends on it."""
        self.handle.progress.remote(job_id, token, step)

    def report(self, job_id: str, token: str, report: CheckpointResult) -> bool:
        return bool(_get(self.handle.report.remote(job_id, token, report)))

    def finish(self, job_id: str, token: str, *, failure: str = "") -> None:
        _get(self.handle.finish.remote(job_id, token, failure=failure))

    def stop_requested(self, job_id: str, token: str) -> StopRequest:
        return StopRequest(self.handle.stop_requested.remote(job_id, token))


class StopRequest:
    """The wish, which may come at any time, that a worker leaves its job."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    @property
    def made(self) -> bool:
        """Whether it has come. Does not wait."""
        done, _ = ray.wait([self._reference], timeout=0)
        return bool(done)

    @property
    def keeps_state(self) -> bool:
        """Of a wish that has come: whether the job's state is to be saved, so that it can go on later."""
        return bool(_get(self._reference))


def _get(reference: Any) -> Any:
    """The call's result; the dispatcher's own errors come as themselves."""
    get: Any = ray.get  # its overloads are by the type of the reference, which an actor's handle does not know
    try:
        return get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, ClosedError | UnknownJobError):
            raise error.cause from None
        raise


def measure_anchors(
    client: WorkersClient, layout: RunLayout, prompt_set: PromptSetName
) -> tuple[CheckpointResult, Anchors]:
    """Have a worker measure the untuned model and the real photos on a prompt set.

    What an earlier part of the search has measured is read from the run folder.

    Raises:
        JobFailedError: it could not; the message says why.
    """
    job = AnchorJob(id=f"base-{prompt_set}", folder=layout.base(prompt_set), prompt_set=prompt_set)
    report = CheckpointResult.find(job.folder) if (job.folder / ANCHORS_FILE).exists() else None
    if report is None:
        (report,) = client.run([job])
    return report, Anchors.from_metrics(report.metrics)
