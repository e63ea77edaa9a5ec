"""How often the processes of a worker meet to ask whether to go on, and over what they talk. Ray is played."""

from pathlib import Path
from typing import Any

import pytest
import ray.train

from search.workers import worker
from search.workers.jobs import AnchorJob
from search.workers.pool import GROUP_TIMEOUT, group_config
from search.workers.worker import _Service

JOB = AnchorJob(id="a", folder=Path("a"), prompt_set="validation")


class Played:
    """A dispatcher, the world of a worker, and a clock."""

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self.now = 0.0
        self.made = False
        self.asked: list[float] = []

    def stop_requested(self, job: str, token: str) -> Any:
        played = self

        class Stop:
            @property
            def made(self) -> bool:
                played.asked.append(played.now)
                return played.made

        return Stop()

    def send(self, *arguments: Any) -> None:
        pass

    def get_world_size(self) -> int:
        return self.processes


def begin(monkeypatch: pytest.MonkeyPatch, processes: int) -> tuple[Played, _Service]:
    played = Played(processes)
    monkeypatch.setattr("search.workers.worker.time.monotonic", lambda: played.now)
    monkeypatch.setattr(ray.train, "get_context", lambda: played)
    client: Any = played
    return played, _Service(client, "token", JOB, leads=True)


@pytest.mark.parametrize("step_seconds", [0.001, 0.01, 0.06, 1.0])
def test_several_processes_meet_five_times_a_second_and_not_at_every_step(
    step_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    played, service = begin(monkeypatch, processes=2)
    steps = round(20 / step_seconds)
    for step in range(1, steps + 1):
        played.now += step_seconds
        assert service._go_on(step)
    expected = min(steps, 20 / worker.ASK_SECONDS)
    assert 0.95 * expected <= len(played.asked) <= 1.4 * expected + 10
    waits = [after - before for before, after in zip(played.asked, played.asked[1:], strict=False)]
    assert max(waits) <= max(worker.ASK_SECONDS, step_seconds) + 1e-6
    played.made = True
    late = 0
    while service._go_on(steps):
        played.now += step_seconds
        late += 1
    assert late * step_seconds <= worker.ASK_SECONDS + step_seconds


def test_a_process_alone_asks_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    played, service = begin(monkeypatch, processes=1)
    for step in range(1, 6):
        played.now += 0.001
        assert service._go_on(step)
    assert len(played.asked) == 5


def test_steps_that_become_slower_are_not_left_unasked_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    played, service = begin(monkeypatch, processes=2)
    for step in range(1, 2001):
        played.now += 0.001
        service._go_on(step)
    before = len(played.asked)
    for step in range(2001, 2401):  # a hundred times slower from here on
        played.now += 0.1
        service._go_on(step)
    assert len(played.asked) - before > 90


def test_words_go_over_gloo_and_nobody_runs_out_of_patience_while_another_scores() -> None:
    assert group_config(gpus=True).backend == "cpu:gloo,cuda:nccl"
    assert group_config(gpus=False).backend == "gloo"
    assert group_config(gpus=True).timeout_s == group_config(gpus=False).timeout_s == GROUP_TIMEOUT > 24 * 3600
