"""The dispatcher as other processes see it: a Ray actor, and a typed handle to it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, TypeVar

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

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class JobFailedError(RuntimeError):
    """A measurement that the search cannot do without has failed; the message says why."""


@dataclass(frozen=True)
class WorkersClient:
    """Calls to the dispatcher's actor; see `Dispatcher` for what each does. Can be sent to other processes."""

    handle: Any

    @classmethod
    def start(cls, tries: int, pause: float) -> WorkersClient:
        """Start the actor. It outlives the death of its process: Ray starts it again and repeats calls under way."""
        # Every worker and trial holds a long call open; the limit only guards against a runaway.
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Dispatcher)
        # Beside the driver: other nodes may be taken away at any time.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return cls(actor.options(max_concurrency=10_000, scheduling_strategy=here).remote(tries, pause))

    def call(
        self,
        method: Callable[Concatenate[Dispatcher, Arguments], Coroutine[Any, Any, Answer]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Answer:
        """Call a method of the dispatcher, as in `call(Dispatcher.pause, "why")`, and wait for what it returns.

        Raises:
            ClosedError, UnknownJobError: as the method does.
        """
        answer: Answer = _get(self.send(method, *args, **kwargs))
        return answer

    def send(
        self,
        method: Callable[Concatenate[Dispatcher, Arguments], Coroutine[Any, Any, object]],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Any:
        """The same without waiting: for callers whom nobody may hold up, such as Ray Train's own loop.

        Returns:
            Ray's reference to what the method will return.
        """
        return getattr(self.handle, method.__name__).remote(*args, **kwargs)

    def submit(self, job: Job) -> None:
        self.call(Dispatcher.submit, job)

    def status(self, job_id: str, *, reports: int = 0, timeout: float = 0.0) -> JobStatus:
        return self.call(Dispatcher.status, job_id, reports=reports, timeout=timeout)

    def steps(self) -> dict[str, int]:
        return self.call(Dispatcher.steps)

    def devices(self) -> dict[str, str]:
        return self.call(Dispatcher.devices)

    def stop_requested(self, job_id: str, token: str) -> StopRequest:
        return StopRequest(self.send(Dispatcher.stop_requested, job_id, token))

    def wait(self, job: Job, *, reports: int = sys.maxsize) -> JobStatus:
        """A job's status once it has ended, or has more than `reports` reports.

        Submits the job, again too if the dispatcher has lost it.
        """
        while True:
            try:
                status = self.status(job.id, reports=reports, timeout=POLL_SECONDS)
            except UnknownJobError:
                self.submit(job)
                continue
            if len(status.checkpoints) > reports or status.ended:
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

    def wait_for_worker(self) -> None:
        """Returns when a worker has started.

        Raises:
            JobFailedError: none can; the message says why.
        """
        while True:
            up, broken = self.call(Dispatcher.workers_up, POLL_SECONDS)
            if broken:
                raise JobFailedError(broken)
            if up:
                return


class StopRequest:
    """The request, which may come at any time, that a worker leaves its job."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    @property
    def made(self) -> bool:
        """Whether it has come. Does not wait."""
        done, _ = ray.wait([self._reference], timeout=0)
        return bool(done)

    @property
    def keeps_state(self) -> bool:
        """Of a request that has come: whether the job's state is to be saved, so that it can be resumed."""
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

    What was measured before the search was resumed is read from the run folder.

    Raises:
        JobFailedError: it could not; the message says why.
    """
    job = AnchorJob(id=f"base-{prompt_set}", folder=layout.base(prompt_set), prompt_set=prompt_set)
    report = CheckpointResult.find(job.folder) if (job.folder / ANCHORS_FILE).exists() else None
    if report is None:
        (report,) = client.run([job])
    return report, report.anchors()
