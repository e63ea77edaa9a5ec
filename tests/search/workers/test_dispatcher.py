"""The dispatcher's rules: who gets a job, who may report it, and what happens when somebody dies."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from search.storage.trial_record import CheckpointResult, JobState
from search.workers.dispatcher import ClosedError, Dispatcher, UnknownJobError
from tests.support.dispatched import job, run


def test_jobs_are_handed_out_in_order_and_reported_to_who_waits(
    make_checkpoint: Callable[..., CheckpointResult],
) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("a"))
        await dispatcher.submit(job("b"))
        await dispatcher.submit(job("a"))  # known already: no second time
        assert await dispatcher.next_job("worker", "t", 1) == job("a")
        assert await dispatcher.next_job("other", "u", 1) == job("b")
        assert await dispatcher.next_job("third", "v", 0.01) is None
        waiting = asyncio.create_task(dispatcher.status("a", timeout=10))
        assert await dispatcher.report("a", "t", make_checkpoint(10, 0.5))
        status = await waiting
        assert (status.state, [report.step for report in status.checkpoints]) == (JobState.RUNNING, [10])
        await dispatcher.finish("a", "t")
        assert (await dispatcher.status("a", reports=1, timeout=10)).state is JobState.FINISHED
        await dispatcher.finish("b", "u", failure="too hot")
        status = await dispatcher.status("b", timeout=10)
        assert (status.state, status.reason) == (JobState.FAILED, "too hot")

    run(test)


def test_a_step_counts_once(make_checkpoint: Callable[..., CheckpointResult]) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("a"))
        await dispatcher.next_job("worker", "t", 1)
        for step in (10, 10, 20, 10):
            assert await dispatcher.report("a", "t", make_checkpoint(step, 0.5))
        assert [report.step for report in (await dispatcher.status("a")).checkpoints] == [10, 20]

    run(test)


def test_a_stopped_job_is_taken_from_its_worker(make_checkpoint: Callable[..., CheckpointResult]) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("a"))
        await dispatcher.submit(job("queued"))
        await dispatcher.next_job("worker", "t", 1)
        wish = asyncio.create_task(dispatcher.stop_requested("a", "t"))
        await asyncio.sleep(0)
        assert not wish.done()
        await dispatcher.stop("a", "others were better")
        await dispatcher.stop("queued", "too late")
        await asyncio.wait_for(wish, 5)
        assert not await dispatcher.report("a", "t", make_checkpoint(20, 0.5))
        await dispatcher.finish("a", "t")  # without effect
        status = await dispatcher.status("a")
        assert (status.state, status.reason, status.checkpoints) == (JobState.STOPPED, "others were better", ())
        assert await dispatcher.next_job("worker", "t", 0.01) is None, "a stopped job is not handed out"
        await dispatcher.stop("unknown", "")

    run(test)


def test_a_lost_workers_job_goes_to_the_head_of_the_queue(make_checkpoint: Callable[..., CheckpointResult]) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.worker_started("worker", "first start")
        for name in ("a", "b"):
            await dispatcher.submit(job(name))
        assert await dispatcher.next_job("worker", "first start", 1) == job("a")
        assert await dispatcher.report("a", "first start", make_checkpoint(10, 0.5))
        await dispatcher.worker_lost("worker", "killed")
        assert not await dispatcher.report("a", "first start", make_checkpoint(20, 0.5)), "the dead do not report"
        with pytest.raises(ClosedError):
            await dispatcher.next_job("worker", "first start", 1)
        await dispatcher.worker_started("worker", "second start")
        assert await dispatcher.next_job("worker", "second start", 1) == job("a")
        status = await dispatcher.status("a")
        assert (status.state, len(status.checkpoints)) == (JobState.RUNNING, 1)
        assert status.losses == ("lost its worker after step 10: killed",)

    run(test)


def test_trials_that_wait_are_handed_out_by_their_numbers_before_all_others() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.worker_started("one", "t")
        await dispatcher.submit(job("1000"))
        await dispatcher.next_job("one", "t", 1)
        names = ("final-002-seed-7", "002", "final-001-seed-5", "000", "001")
        for name in names:
            await dispatcher.submit(job(name))
        await dispatcher.worker_lost("one", "killed")
        handed_out = [await dispatcher.next_job(f"worker {name}", "t", 1) for name in (*names, "1000")]
        assert [each.id for each in handed_out if each is not None] == [
            "1000",  # it lost its worker
            *("000", "001", "002"),
            *("final-002-seed-7", "final-001-seed-5"),
        ]

    run(test)


def test_a_worker_that_starts_again_unannounced_loses_its_job_too() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.worker_started("worker", "first start")
        await dispatcher.submit(job("a"))
        await dispatcher.next_job("worker", "first start", 1)
        waiting = asyncio.create_task(dispatcher.next_job("worker", "first start", 10))
        await asyncio.sleep(0)
        await dispatcher.worker_started("worker", "second start")
        with pytest.raises(ClosedError):
            await waiting  # the long poll of the dead token ends without a job
        assert await dispatcher.next_job("worker", "second start", 1) == job("a")

    run(test)


def test_a_job_that_kills_its_worker_every_time_fails_with_a_reason() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("deadly"))
        for token in ("1", "2", "3"):
            await dispatcher.worker_started("worker", token)
            assert await dispatcher.next_job("worker", token, 1) == job("deadly")
            await dispatcher.progress("deadly", token, 7)
            await dispatcher.worker_lost("worker", "out of memory")
        status = await dispatcher.status("deadly")
        assert status.state is JobState.FAILED
        assert status.reason == "lost its worker 3 times, at last after step 7: out of memory"
        assert status.losses == ("lost its worker after step 7: out of memory",) * 3
        await dispatcher.worker_started("worker", "4")
        assert await dispatcher.next_job("worker", "4", 0.01) is None

    run(test, tries=3)


def test_a_job_whose_worker_died_for_want_of_memory_begins_at_half() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("a"))
        for halvings, (reason, short) in enumerate([("killed", False), ("CUDA error: out of memory", True)]):
            await dispatcher.worker_started("worker", reason)
            assert await dispatcher.next_job("worker", reason, 1) == job("a"), halvings
            await dispatcher.worker_lost("worker", reason, short)
        await dispatcher.worker_started("worker", "t")
        assert await dispatcher.next_job("worker", "t", 1) == replace(job("a"), halvings=1)

    run(test)


def test_after_a_restart_jobs_are_submitted_again_and_workers_are_taken_as_they_are(
    make_checkpoint: Callable[..., CheckpointResult],
) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        # A new dispatcher stands for one that was restarted: a worker still works on a job of the old one.
        with pytest.raises(UnknownJobError, match="submit it again"):
            await dispatcher.status("a", timeout=1)
        assert not await dispatcher.report("a", "t", make_checkpoint(10, 0.5)), "the worker leaves the unknown job"
        assert await asyncio.wait_for(dispatcher.stop_requested("a", "t"), 5) is True, "and saves its state"
        await dispatcher.submit(job("a"))
        assert await asyncio.wait_for(dispatcher.stop_requested("a", "t"), 5) is True, "now that it waits, too"
        assert await dispatcher.next_job("worker", "t", 1) == job("a")
        assert await asyncio.wait_for(dispatcher.stop_requested("a", "other"), 5) is False, "another worker has it"

    run(test)


def test_close_ends_every_long_poll() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        waiting = asyncio.create_task(dispatcher.next_job("worker", "t", 60))
        await asyncio.sleep(0)
        await dispatcher.close()
        with pytest.raises(ClosedError):
            await waiting

    run(test)


def test_pausing_takes_every_job_back_and_has_the_states_saved(
    make_checkpoint: Callable[..., CheckpointResult],
) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        for name in ("running", "scoring", "lost", "queued"):
            await dispatcher.submit(job(name))
        for worker in ("one", "two", "three"):
            await dispatcher.next_job(worker, "t", 1)
        wish = asyncio.create_task(dispatcher.stop_requested("running", "t"))
        await dispatcher.pause("interrupted by SIGTERM")
        assert await asyncio.wait_for(wish, 5) is True, "save the state, then leave"
        assert not await dispatcher.rest(0.01)
        await dispatcher.stop("running", "others were better")  # comes too late: its state is being saved
        await dispatcher.finish("running", "t")
        assert not await dispatcher.report("scoring", "t", make_checkpoint(10, 0.5)), (
            "kept, but the job goes no further"
        )
        await dispatcher.finish("scoring", "t")
        assert not await dispatcher.rest(0.01)
        await dispatcher.worker_lost("three", "killed")
        assert await dispatcher.rest(10)
        await dispatcher.submit(job("later"))
        for name in ("running", "scoring", "lost", "queued", "later"):
            status = await dispatcher.status(name)
            assert (status.state, status.reason) == (JobState.STOPPED, "interrupted by SIGTERM")
        assert [report.step for report in (await dispatcher.status("scoring")).checkpoints] == [10]
        assert await dispatcher.next_job("one", "t", 0.01) is None

    run(test)


def test_after_a_pause_new_jobs_are_done(make_checkpoint: Callable[..., CheckpointResult]) -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.pause("the budget is spent")
        await dispatcher.unpause()
        await dispatcher.submit(job("final"))
        assert await dispatcher.next_job("one", "t", 1) == job("final")
        assert await dispatcher.report("final", "t", make_checkpoint(0, 0.5))
        await dispatcher.finish("final", "t")
        assert (await dispatcher.status("final")).state is JobState.FINISHED

    run(test)


def test_a_job_that_nobody_wants_leaves_no_state() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("a"))
        await dispatcher.next_job("worker", "t", 1)
        wish = asyncio.create_task(dispatcher.stop_requested("a", "t"))
        await asyncio.sleep(0)
        await dispatcher.stop("a", "others were better")
        assert await asyncio.wait_for(wish, 5) is False

    run(test)


def test_a_failure_is_told_though_the_job_was_to_be_paused() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("a"))
        await dispatcher.next_job("worker", "t", 1)
        await dispatcher.pause("interrupted by SIGTERM")
        await dispatcher.finish("a", "t", failure="the loss is not finite")
        status = await dispatcher.status("a")
        assert (status.state, status.reason) == (JobState.FAILED, "the loss is not finite")

    run(test)
