"""Trainings of the job runner that are cut off, damaged or without room: they end as if they had not been."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from safetensors.numpy import load_file

from evaluation.scores import Anchors
from search.config.run_layout import STATE_FOLDER
from search.storage.trial_record import CheckpointResult
from search.workers.checkpointing import SPENT_FILE
from search.workers.jobs import TrainJob
from search.workers.runner import JobRunner
from search.workers.worker import _Service
from tests.support.full_disk import files_of_at_most
from trainer.adapters.adapter_files import WEIGHTS_FILE
from trainer.files import write_file

if TYPE_CHECKING:
    from search.workers.client import WorkersClient
from tests.support.runner_jobs import do, short_job

DEMO = Path(__file__).resolve().parents[3] / "demo"


@pytest.fixture(scope="module")
def unbroken(runner: JobRunner, anchors: Anchors, tmp_path_factory: pytest.TempPathFactory) -> list[CheckpointResult]:
    """What the same job reports where nothing goes wrong."""
    return do(runner, short_job(anchors, tmp_path_factory.mktemp("unbroken")))


def test_a_training_cut_off_anywhere_ends_as_if_it_had_not_been(
    runner: JobRunner, job: TrainJob, tmp_path: Path
) -> None:
    whole = do(runner, job)
    assert [report.step for report in whole] == [4, 8]
    assert not (job.folder / STATE_FOLDER).exists(), "nothing is left to go on from"

    again = replace(job, folder=tmp_path / "again")
    first = do(runner, again, go_on=lambda step: step < 6)
    assert [report.step for report in first] == [4]
    second = do(runner, again)
    assert [report.step for report in second] == [4, 8], "what was reported before is told again, not done again"
    assert second[0] == first[0]
    assert [report.metrics for report in second] == [report.metrics for report in whole]
    expected, found = (load_file(folder / "step-8" / WEIGHTS_FILE) for folder in (job.folder, again.folder))
    assert expected.keys() == found.keys()
    assert all((expected[name] == found[name]).all() for name in expected)


def test_a_paused_training_goes_on_at_its_step_and_its_seconds_add_up(runner: JobRunner, job: TrainJob) -> None:
    steps: list[int] = []

    def until(last: int) -> Callable[[int], bool]:
        def go_on(step: int) -> bool:
            steps.append(step)
            return step < last

        return go_on

    assert [report.step for report in do(runner, job, until(6), keeps_state=True)] == [4]
    file = job.folder / STATE_FOLDER / "step-6" / SPENT_FILE
    spent = json.loads(file.read_text("utf-8"))
    assert spent["training_seconds"] > 0
    assert spent["training_cpu_seconds"] > 0
    text = '{"training_seconds": 100, "training_cpu_seconds": 200}'
    write_file(file, lambda path: path.write_text(text))
    before, after = do(runner, job, until(99))
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8], "no step twice"
    assert (before.step, before.training_seconds < 100) == (4, True)
    assert (after.step, after.training_seconds > 100) == (8, True)
    assert before.training_cpu_seconds is not None
    assert after.training_cpu_seconds is not None
    assert after.scoring_cpu_seconds is not None
    assert before.training_cpu_seconds < 200 < after.training_cpu_seconds
    assert after.scoring_cpu_seconds > 0


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def zeroes(content: bytes) -> bytes:
    return bytes(len(content))


class NotedDispatch:
    """Stands for `search.workers.client.WorkersClient`: notes what the worker says of one job, which nobody wants to
    stop.

    Args:
        at: The step after which something happens.
        then: What happens.
    """

    keeps_state = False

    def __init__(self, at: int, then: Callable[[], object]) -> None:
        self._at = at
        self._then = then
        self._asked = 0
        self.checkpoints: list[CheckpointResult] = []
        self.finished: list[tuple[str, str]] = []

    @property
    def made(self) -> bool:
        """Whether the wish to stop has come; asked after every step."""
        self._asked += 1
        if self._asked == self._at:
            self._then()
        return False

    def stop_requested(self, job_id: str, token: str) -> "NotedDispatch":
        return self

    def call(self, method: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        """As of the client: the method here stands for that of the dispatcher."""
        return getattr(self, method.__name__)(*args, **kwargs)

    send = call

    def progress(self, job_id: str, token: str, step: int) -> None:
        pass

    def report(self, job_id: str, token: str, report: CheckpointResult) -> bool:
        self.checkpoints.append(report)
        return True

    def finish(self, job_id: str, token: str, *, failure: str = "") -> None:
        self.finished.append((job_id, failure))


DAMAGES: dict[str, tuple[list[str], Callable[[bytes], bytes], int, str]] = {
    "half an optimizer": (["state/step-6/optimizer.safetensors"], half, 5, "state step-6 and resumed from step-4: "),
    "a zeroed state": (["state/step-6/training_state.json"], zeroes, 5, "state step-6 and resumed from step-4: "),
    "half a report": (["step-4/report.json"], half, 5, "the report of step 4 is missing or damaged"),
    "no whole state": (
        ["state/step-6/pytorch_lora_weights.safetensors", "state/step-4/optimizer.safetensors"],
        zeroes,
        1,
        "state step-4 and started again: ",
    ),
}
"""Of each: the files that are damaged, how, the step with which the training goes on, what is said of it."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_costs_its_steps_and_no_more(
    damage: str, runner: JobRunner, job: TrainJob, unbroken: list[CheckpointResult]
) -> None:
    do(runner, job, lambda step: step < 6, keeps_state=True)
    files, left, first, said = DAMAGES[damage]
    for file in (job.folder / name for name in files):
        file.write_bytes(left(file.read_bytes()))
    steps: list[int] = []
    reports = do(runner, job, lambda step: not steps.append(step))  # type: ignore[func-returns-value]
    assert steps == list(range(first, 9)), "from the last whole state, once"
    assert [report.metrics for report in reports] == [report.metrics for report in unbroken]
    assert CheckpointResult.find(job.folder / "step-4") == reports[0]
    assert said in reports[-1].remarks[-1]
    assert not (job.folder / STATE_FOLDER).exists()


def test_a_full_disk_fails_the_job_with_a_reason_and_leaves_all_that_was_whole(
    runner: JobRunner, job: TrainJob, unbroken: list[CheckpointResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the sixth step on no file may grow beyond 1,000 bytes: the checkpoint after the eighth fails."""
    monkeypatch.setattr("ray.train.get_context", lambda: SimpleNamespace(get_world_size=lambda: 1))
    with ExitStack() as disk:
        client = NotedDispatch(at=6, then=lambda: disk.enter_context(files_of_at_most(1000)))
        _Service(cast("WorkersClient", client), "token", job, leads=True).run(runner)
    state = job.folder / STATE_FOLDER / "step-8"
    assert client.finished == [
        ("000", f"StorageError: {state} could not be written: File too large; make room there, or repair it")
    ]
    assert [report.step for report in client.checkpoints] == [4]
    assert sorted(str(path.relative_to(job.folder)) for path in job.folder.rglob("*") if path.is_dir()) == [
        "state",
        "state/step-4",
        "step-4",
    ]
    # There is room again, and the worker goes on: with other jobs, or with this one from its last whole state.
    steps: list[int] = []
    reports = do(runner, job, lambda step: not steps.append(step))  # type: ignore[func-returns-value]
    assert steps == [5, 6, 7, 8]
    assert [report.metrics for report in reports] == [report.metrics for report in unbroken]


def test_a_worker_lost_while_scoring_costs_no_training(
    runner: JobRunner, job: TrainJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def count(step: int) -> bool:
        steps.append(step)
        return True

    with monkeypatch.context() as broken:
        broken.setattr(runner, "_write", _lost)
        with pytest.raises(RuntimeError, match="lost"):
            do(runner, job, go_on=count)
    assert [report.step for report in do(runner, job, go_on=count)] == [4, 8]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8], "no step twice"


def _lost(*args: object, **kwargs: object) -> CheckpointResult:
    raise RuntimeError("lost")
