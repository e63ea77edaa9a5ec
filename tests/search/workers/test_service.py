"""What a worker makes of a job that goes wrong: a failed job with a reason, or a death that has it done again."""

from pathlib import Path
from typing import Any

import pytest
import ray.train

from evaluation.loading_error import LoadingError
from search.workers.dispatcher import Dispatcher
from search.workers.jobs import AnchorJob
from search.workers.worker import _Service
from trainer.job.job import TrainingDiverged
from trainer.out_of_memory import OutOfMemory
from trainer.storage import StorageError

JOB = AnchorJob(id="a", folder=Path("a"), prompt_set="validation")


class Played:
    """A dispatcher and the world of a worker of one process."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def stop_requested(self, job: str, token: str) -> None:
        pass

    def call(self, method: Any, job: str, token: str, *, failure: str) -> None:
        assert method is Dispatcher.finish
        self.failures.append(failure)

    def get_world_size(self) -> int:
        return 1


def run(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    class Runner:
        def do(self, *arguments: Any, **options: Any) -> None:
            raise error

    played: Any = Played()
    runner: Any = Runner()
    monkeypatch.setattr(ray.train, "get_context", lambda: played)
    _Service(played, "token", JOB, leads=True).run(runner)
    failures: list[str] = played.failures
    return failures


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrainingDiverged(7), "TrainingDiverged: the training loss is not finite at step 7; use a lower learning rate"),
        (OutOfMemory("out of memory with one photo"), "OutOfMemory: out of memory with one photo"),
        (ValueError("out of memory with a single image at a time"), "ValueError: out of memory with a single image at"),
        (LoadingError("the weights cannot be fetched"), "LoadingError: the weights cannot be fetched"),
        (StorageError("no space"), "StorageError: no space"),
    ],
)
def test_what_will_not_get_better_fails_the_job_with_a_reason(
    error: BaseException, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (failure,) = run(error, monkeypatch)
    assert failure.startswith(reason)


def judging_error() -> ValueError:
    error = ValueError("the recognizer failed on 30 faces")
    error.__cause__ = RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
    return error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: out of memory"), MemoryError("no room"), judging_error(), RuntimeError("device assert")],
    ids=repr,
)
def test_what_may_get_better_in_a_fresh_process_ends_this_one(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(type(error)) as caught:
        run(error, monkeypatch)
    assert caught.value is error
