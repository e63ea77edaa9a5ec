"""The dispatcher's rules for workers that start, fail to start, or start again."""

import asyncio

from search.storage.trial_record import JobState
from search.workers.dispatcher import Dispatcher
from tests.support.dispatched import job, run


def test_a_worker_that_cannot_start_fails_all_jobs_now_and_later() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("now"))
        await dispatcher.worker_broken("worker", "no such model")
        await dispatcher.submit(job("later"))
        for name in ("now", "later"):
            status = await dispatcher.status(name)
            assert (status.state, status.reason) == (JobState.FAILED, "worker could not start: no such model")

    run(test)


def test_what_one_worker_cannot_load_though_others_did_is_its_own_affair() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("a"))
        await dispatcher.worker_started("good", "t")
        await dispatcher.worker_broken("bad", "no such folder")
        assert (await dispatcher.status("a")).state is JobState.QUEUED
        assert await dispatcher.start_pause("bad") is None
        assert await dispatcher.why_left("bad") == ("it could not start: no such folder", False)
        assert await dispatcher.next_job("good", "t", 1) == job("a")

    run(test)


def test_a_worker_that_cannot_start_waits_longer_each_time_and_is_given_up_alone() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        await dispatcher.submit(job("a"))
        await dispatcher.worker_started("good", "t")
        await dispatcher.worker_started("bad", "t")
        await dispatcher.worker_lost("bad", "killed in the third hour")  # it had started: that is no false start
        assert await dispatcher.start_pause("bad") == 0.0
        for pause in (10.0, 30.0):
            await dispatcher.worker_lost("bad", "process 0: OutOfMemoryError: CUDA out of memory")
            assert await dispatcher.start_pause("bad") == pause
            assert await dispatcher.why_left("bad") == ("", False)
        await dispatcher.worker_lost("bad", "process 0: OutOfMemoryError: CUDA out of memory")
        assert await dispatcher.start_pause("bad") is None
        reason = "it could not start 3 times, at last: process 0: OutOfMemoryError: CUDA out of memory"
        assert await dispatcher.why_left("bad") == (reason, False)
        assert await dispatcher.start_pause("good") == 0.0
        assert await dispatcher.next_job("good", "t", 1) == job("a"), "the others go on"
        await dispatcher.no_worker_left("good", "its controller died 5 times")
        status = await dispatcher.status("a")
        assert status.state is JobState.FAILED
        assert status.reason == "no worker is left; good is given up: its controller died 5 times"

    run(test)


def test_a_start_after_false_ones_begins_the_count_anew() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        for _ in range(2):
            await dispatcher.worker_lost("worker", "the hub cannot be reached")
        await dispatcher.worker_started("worker", "t", "the CPU, weights in float32")
        assert await dispatcher.start_pause("worker") == 0.0
        assert await dispatcher.devices() == {"worker": "the CPU, weights in float32"}

    run(test)


def test_who_waits_for_a_worker_learns_that_one_is_up_or_why_none_can_be() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        assert await dispatcher.workers_up(0.01) == (0, "")
        waiting = asyncio.create_task(dispatcher.workers_up(10))
        await asyncio.sleep(0)
        await dispatcher.worker_started("one", "t")
        assert await waiting == (1, "")
        await dispatcher.worker_lost("one", "killed")
        assert await dispatcher.workers_up(0.01) == (0, "")
        await dispatcher.no_worker_left("one", "no memory")
        assert await dispatcher.workers_up(10) == (0, "no worker is left; one is given up: no memory")

    run(test)


def test_a_worker_serves_from_its_start_to_its_loss() -> None:
    async def test(dispatcher: Dispatcher) -> None:
        assert await dispatcher.serving() == frozenset()
        await dispatcher.worker_started("near", "one")
        await dispatcher.worker_started("far", "two")
        assert await dispatcher.serving() == {"near", "far"}
        await dispatcher.worker_lost("far", "its node was taken away")
        assert await dispatcher.serving() == {"near"}
        await dispatcher.worker_started("far", "three")
        assert await dispatcher.serving() == {"near", "far"}
        await dispatcher.worker_controller("far", "first")
        await dispatcher.worker_controller("far", "second")
        assert await dispatcher.controllers() == {"far": "second"}

    run(test)
