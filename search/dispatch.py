"""The dispatcher as other processes see it: a Ray actor, and a typed handle to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError

from search.dispatcher import ClosedError, Dispatcher, UnknownJobError
from search.job import Job, JobStatus, Report


@dataclass(frozen=True)
class Dispatch:
    """Calls to the dispatcher's actor; see `search.dispatcher.Dispatcher` for what each does. Can be sent anywhere."""

    handle: Any

    @classmethod
    def start(cls, tries: int) -> Dispatch:
        """Start the actor. It outlives the death of its process: Ray starts it again and repeats calls under way."""
        # Every seat and trial holds a long call open; the limit only guards against a runaway.
        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Dispatcher)
        return cls(actor.options(max_concurrency=10_000).remote(tries))

    def submit(self, job: Job) -> None:
        _get(self.handle.submit.remote(job))

    def status(self, job_id: str, *, reports: int = 0, timeout: float = 0.0) -> JobStatus:
        status: JobStatus = _get(self.handle.status.remote(job_id, reports=reports, timeout=timeout))
        return status

    def steps(self) -> dict[str, int]:
        steps: dict[str, int] = _get(self.handle.steps.remote())
        return steps

    def stop(self, job_id: str, reason: str) -> None:
        """Does not wait: a trial that is being stopped has no time."""
        self.handle.stop.remote(job_id, reason)

    def close(self) -> None:
        _get(self.handle.close.remote())

    def seat_started(self, seat: str, token: str) -> None:
        _get(self.handle.seat_started.remote(seat, token))

    def seat_lost(self, seat: str, reason: str) -> None:
        """Does not wait: it is called from Ray Train's own loop."""
        self.handle.seat_lost.remote(seat, reason)

    def seat_broken(self, seat: str, reason: str) -> None:
        _get(self.handle.seat_broken.remote(seat, reason))

    def next_job(self, seat: str, token: str, timeout: float) -> Job | None:
        job: Job | None = _get(self.handle.next_job.remote(seat, token, timeout))
        return job

    def progress(self, job_id: str, token: str, step: int) -> None:
        """Does not wait: nobody depends on it."""
        self.handle.progress.remote(job_id, token, step)

    def report(self, job_id: str, token: str, report: Report) -> bool:
        return bool(_get(self.handle.report.remote(job_id, token, report)))

    def finish(self, job_id: str, token: str, *, failure: str = "") -> None:
        _get(self.handle.finish.remote(job_id, token, failure=failure))

    def stop_requested(self, job_id: str, token: str) -> StopRequest:
        return StopRequest(self.handle.stop_requested.remote(job_id, token))


class StopRequest:
    """The wish, which may come at any time, that a seat leaves its job."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference

    @property
    def made(self) -> bool:
        """Whether it has come. Does not wait."""
        done, _ = ray.wait([self._reference], timeout=0)
        return bool(done)


def _get(reference: Any) -> Any:
    """The call's result; the dispatcher's own errors come as themselves."""
    get: Any = ray.get  # its overloads are by the type of the reference, which an actor's handle does not know
    try:
        return get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, ClosedError | UnknownJobError):
            raise error.cause from None
        raise
