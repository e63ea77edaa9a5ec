"""The dispatcher: hands jobs to workers and their reports back to whoever waits for them.

It is plain asyncio and knows no Ray, so that its rules can be tested without a cluster; `search.workers.client` runs it
as an actor. It keeps nothing that cannot be lost: after a restart the trials submit their jobs again, and a worker
finds the job's checkpoints and reports in the job's folder.

It needs no locks: no method waits between two changes, so that none sees the half of another's.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from search.storage.trial_record import CheckpointResult, JobState
from search.workers.jobs import Job, JobStatus

START_PAUSE = 10.0
"""Seconds that a worker waits after it could not start; three times as long after each further time."""


class UnknownJobError(LookupError):
    """The dispatcher does not know this job, or was restarted since; submit it again."""


class ClosedError(RuntimeError):
    """There is no more work: the search has ended, or the worker was started again elsewhere."""


@dataclass(kw_only=True)
class _JobRecord:
    job: Job
    status: JobStatus
    worker: str = ""
    token: str = ""
    pausing: str = ""
    """Why the worker was asked to save the job's state and leave it; empty if it was not."""

    def change(self, **changes: Any) -> None:
        """Change values of the status."""
        self.status = replace(self.status, **changes)

    def turn(self) -> tuple[bool, float]:
        """Sorts jobs that wait: those that lost their worker, then trials by their numbers, then all others."""
        return not self.status.losses, int(self.job.id) if self.job.id.isdecimal() else math.inf


class Dispatcher:
    """Queue of jobs.

    Jobs that lost their worker come first, then trials by their numbers, then all others as they came: which of two
    trials was submitted first is chance, and a search is to go the same way each time.

    A worker is a name and a token. The token is new each time that the worker starts, so that the long poll of a dead
    one can neither take a job nor report one.

    Args:
        tries: How often a job may lose its worker before it has failed, and how often a worker may fail to start before
            it is given up.
        pause: Seconds that a worker waits after it has failed to start for the first time.
    """

    def __init__(self, tries: int = 3, pause: float = START_PAUSE) -> None:
        self._tries = tries
        self._pause = pause
        self._records: dict[str, _JobRecord] = {}
        self._tokens: dict[str, str] = {}
        self._false_starts: dict[str, int] = {}
        self._given_up: dict[str, str] = {}
        self._devices: dict[str, str] = {}
        self._controllers: dict[str, Any] = {}
        self._closed = False
        self._broken = ""
        self._paused = ""
        self._changed = asyncio.Event()

    async def submit(self, job: Job) -> None:
        """Queue a job. A job that is known already is left as it is."""
        if job.id in self._records:
            return
        if self._broken:
            status = JobStatus(id=job.id, state=JobState.FAILED, reason=self._broken)
        elif self._paused:
            status = JobStatus(id=job.id, state=JobState.STOPPED, reason=self._paused)
        else:
            status = JobStatus(id=job.id, state=JobState.QUEUED)
        self._records[job.id] = _JobRecord(job=job, status=status)
        self._announce()

    async def status(self, job_id: str, *, reports: int = 0, timeout: float = 0.0) -> JobStatus:
        """A job's status, as soon as it has more than `reports` reports or has ended, at the latest after `timeout` s.

        Raises:
            UnknownJobError: the job was not submitted since the dispatcher was started.
        """

        def news() -> bool:
            status = self._record(job_id).status
            return len(status.checkpoints) > reports or status.ended

        await self._wait(news, timeout)
        return self._record(job_id).status

    async def steps(self) -> dict[str, int]:
        """How many optimizer steps every job has done, scored or not."""
        return {job_id: record.status.step for job_id, record in self._records.items()}

    async def serving(self) -> frozenset[str]:
        """Workers that are up, as far as is known: neither waiting for a node nor starting nor lost."""
        return frozenset(worker for worker, token in self._tokens.items() if token)

    async def devices(self) -> dict[str, str]:
        """What each worker computes on, as it said when it started."""
        return dict(self._devices)

    async def controllers(self) -> dict[str, Any]:
        """What runs each worker, by the worker's name, for whoever has to end it; see `worker_controller`."""
        return dict(self._controllers)

    async def stop(self, job_id: str, reason: str) -> None:
        """End a job that has not ended; its worker learns of it at its next step. Unknown jobs are ignored."""
        record = self._records.get(job_id)
        if record is None or record.status.ended or record.pausing:
            return
        record.change(state=JobState.STOPPED, reason=reason)
        self._announce()

    async def pause(self, reason: str) -> None:
        """Stop all jobs, those that come later too, until `unpause`; workers save the state of what they train."""
        self._paused = reason
        for record in self._records.values():
            if record.status.state is JobState.QUEUED:
                record.change(state=JobState.STOPPED, reason=reason)
            elif record.status.state is JobState.RUNNING:
                record.pausing = reason
        self._announce()

    async def unpause(self) -> None:
        """Take new jobs again. Those that were paused have ended; submit them under another id."""
        self._paused = ""

    async def rest(self, timeout: float) -> bool:
        """Whether no worker is at a job any more; waits for it, at most `timeout` seconds."""

        return await self._wait(
            lambda: all(record.status.state is not JobState.RUNNING for record in self._records.values()), timeout
        )

    async def close(self) -> None:
        """No more work: every worker's next call says so."""
        self._closed = True
        self._announce()

    # What workers call

    async def worker_controller(self, worker: str, controller: object) -> None:
        """What runs a worker now; it takes the place of the former."""
        self._controllers[worker] = controller

    async def start_pause(self, worker: str) -> float | None:
        """How many seconds a worker has to wait before it loads its models; None if it is given up, or all work is.

        What is in the way may pass: a neighbour that holds the card's memory, a network that is down, a full disk.
        """
        if self._closed or self._broken or worker in self._given_up:
            return None
        failed = self._false_starts.get(worker, 0)
        return self._pause * 3 ** (failed - 1) if failed else 0.0

    async def worker_started(self, worker: str, token: str, device: str = "") -> None:
        """A worker has started, perhaps again, on a device in words; a job that it held before is queued again."""
        self._tokens[worker] = token
        self._devices[worker] = device
        self._false_starts[worker] = 0
        self._lose(worker, "the worker was started again")
        self._announce()

    async def worker_lost(self, worker: str, reason: str, out_of_memory: bool = False) -> None:
        """A worker died: queue its job again now, without waiting until the worker is started again; if memory ran out,
        to begin with half as many photos and images at a time.

        A worker that dies again and again before it has started is given up, it alone: others have other cards.
        """
        if self._tokens.get(worker):
            self._false_starts[worker] = 0
        else:
            self._false_starts[worker] = self._false_starts.get(worker, 0) + 1
        self._tokens[worker] = ""
        self._lose(worker, reason, out_of_memory=out_of_memory)
        if self._false_starts[worker] >= self._tries:
            self._given_up[worker] = f"it could not start {self._false_starts[worker]} times, at last: {reason}"
        self._announce()

    async def why_left(self, worker: str) -> tuple[str, bool]:
        """Why a worker was given up, empty if that is not known here, and whether all work has ended anyway."""
        return self._given_up.get(worker, ""), self._closed or bool(self._broken)

    async def workers_up(self, timeout: float) -> tuple[int, str]:
        """How many workers are up and why none can be, as soon as there is either; at the latest after `timeout` s."""

        await self._wait(lambda: any(self._tokens.values()) or bool(self._broken), timeout)
        return len(await self.serving()), self._broken

    async def worker_broken(self, worker: str, reason: str) -> None:
        """A worker cannot start, for a reason that every worker shares: all jobs, now and later, have failed.

        Where some worker has started before, it is not shared after all, and this worker alone is given up.
        """
        if self._devices:
            self._given_up[worker] = f"it could not start: {reason}"
        else:
            self._break(f"{worker} could not start: {reason}")
        self._announce()

    async def no_worker_left(self, worker: str, reason: str) -> None:
        """The last worker is given up: all jobs, now and later, have failed."""
        self._break(f"no worker is left; {worker} is given up: {reason}")
        self._announce()

    async def next_job(self, worker: str, token: str, timeout: float) -> Job | None:
        """The next job for a worker, or None when there was none within `timeout` seconds.

        Raises:
            ClosedError: the search has ended, or the worker was started again.
        """

        def news() -> bool:
            return bool(self._waiting()) or self._closed or self._superseded(worker, token)

        if not await self._wait(news, timeout):
            return None
        if self._closed or self._superseded(worker, token):
            raise ClosedError(f"{worker} has no more work")
        record = min(self._waiting(), key=_JobRecord.turn)
        record.worker, record.token = worker, token
        record.change(state=JobState.RUNNING)
        return record.job

    async def progress(self, job_id: str, token: str, step: int) -> None:
        """Note how far a job is, for the display only."""
        record = self._held(job_id, token)
        if record is not None:
            record.change(step=max(record.status.step, step))

    async def report(self, job_id: str, token: str, report: CheckpointResult) -> bool:
        """Hand in a scored checkpoint; a step that was handed in before the worker was lost is not counted twice.

        Returns:
            Whether the worker is to continue; if not, nobody wants the job from it any more.
        """
        record = self._held(job_id, token)
        if record is None:
            return False
        known = record.status.checkpoints
        if not known or report.step > known[-1].step:
            record.change(checkpoints=(*known, report))
        record.change(step=max(record.status.step, report.step))
        self._announce()
        return not record.pausing

    async def finish(self, job_id: str, token: str, *, failure: str = "") -> None:
        """The worker has left the job: done, or failed with a reason. Without effect if the job is not this
        worker's."""
        record = self._held(job_id, token)
        if record is None:
            return
        state = JobState.FAILED if failure else JobState.STOPPED if record.pausing else JobState.FINISHED
        record.change(state=state, reason=failure or record.pausing)
        self._announce()

    async def stop_requested(self, job_id: str, token: str) -> bool:
        """Returns when the worker should leave the job: True if it should save the job's state before.

        A job that is unknown, or waits for a worker, was this worker's before the dispatcher was restarted, and
        continues.
        """

        def unwanted() -> bool:
            record = self._held(job_id, token)
            return self._closed or record is None or bool(record.pausing)

        await self._wait(unwanted, None)
        record = self._records.get(job_id)
        return record is None or record.status.state is JobState.QUEUED or self._held(job_id, token) is not None

    def _waiting(self) -> list[_JobRecord]:
        """Of jobs that wait for a worker, in the order in which they were submitted."""
        return [record for record in self._records.values() if record.status.state is JobState.QUEUED]

    def _record(self, job_id: str) -> _JobRecord:
        try:
            return self._records[job_id]
        except KeyError:
            raise UnknownJobError(f"job {job_id} is unknown; submit it again") from None

    def _held(self, job_id: str, token: str) -> _JobRecord | None:
        record = self._records.get(job_id)
        return (
            record if record is not None and record.status.state is JobState.RUNNING and record.token == token else None
        )

    def _superseded(self, worker: str, token: str) -> bool:
        # A dispatcher that was restarted knows no tokens yet: the caller's is as good as any.
        return self._tokens.setdefault(worker, token) != token

    def _break(self, reason: str) -> None:
        if self._broken:
            return
        self._broken = reason
        for record in self._records.values():
            if not record.status.ended:
                record.change(state=JobState.FAILED, reason=reason)

    def _lose(self, worker: str, reason: str, *, out_of_memory: bool = False) -> None:
        for record in self._records.values():
            if record.status.state is not JobState.RUNNING or record.worker != worker:
                continue
            step = record.status.step
            losses = (*record.status.losses, f"lost its worker after step {step}: {reason}")
            record.worker = record.token = ""
            if out_of_memory:
                record.job = replace(record.job, halvings=record.job.halvings + 1)
            record.change(state=JobState.QUEUED, losses=losses)
            if record.pausing:
                record.change(state=JobState.STOPPED, reason=record.pausing)
            elif len(losses) >= self._tries:
                words = f"lost its worker {len(losses)} times, at last after step {step}: {reason}"
                record.change(state=JobState.FAILED, reason=words)

    def _announce(self) -> None:
        """Wake all who wait for news."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _wait(self, news: Callable[[], bool], timeout: float | None) -> bool:
        """Whether there is news, for which it waits at most `timeout` seconds. Nothing else runs before the caller."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not news():
                    await self._changed.wait()
        return news()
