"""The benchmark of a search's growth: nested clocks, windows by hand, the simulated training, and a small search."""

import threading
from pathlib import Path

import pytest

from benchmarks.scale import nested_clocks
from benchmarks.scale.driver_parts import WATCHED
from benchmarks.scale.growth import Sample, Window, windows
from benchmarks.scale.nested_clocks import NestedClocks, PartTime
from benchmarks.scale.simulated_worker import BEST_RATE, UNTUNED, simulated_distance
from tests.support import quick_benchmark
from trainer.config import TrainingConfig


class HandClock:
    """Stands for the module `time`: seconds go by when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.busy = 0.0

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.busy

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.busy += seconds

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    clock = HandClock()
    monkeypatch.setattr(nested_clocks, "time", clock)
    return clock


def test_a_second_counts_for_the_innermost_part(clock: HandClock) -> None:
    clocks = NestedClocks()

    class Journal:
        def write(self) -> str:
            clock.work(1)
            clock.wait(4)
            return "written"

    class Sampler:
        def tell(self, journal: Journal) -> str:
            clock.work(2)
            return journal.write() + journal.write()

    clocks.watch(Journal, "write", "journal")
    clocks.watch(Sampler, "tell", "sampler")
    assert Sampler().tell(Journal()) == "writtenwritten"
    assert clocks.read() == {
        "journal": PartTime(wall=10, cpu=2, calls=2),
        "sampler": PartTime(wall=2, cpu=2, calls=1),
    }


def test_a_call_that_fails_counts_and_leaves_the_outer_one_right(clock: HandClock) -> None:
    clocks = NestedClocks()
    with clocks.measure("outer"):
        with pytest.raises(LookupError):
            _fail(clocks, clock)
        clock.work(1)
    assert clocks.read() == {"inner": PartTime(wall=3, cpu=3, calls=1), "outer": PartTime(wall=1, cpu=1, calls=1)}


def _fail(clocks: NestedClocks, clock: HandClock) -> None:
    with clocks.measure("inner"):
        clock.work(3)
        raise LookupError


def test_threads_do_not_lie_within_each_other(clock: HandClock) -> None:
    clocks = NestedClocks()

    def work() -> None:
        with clocks.measure("thread"):
            clock.work(2)

    with clocks.measure("main"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert clocks.read()["thread"] == PartTime(wall=2, cpu=2, calls=1)
    assert clocks.read()["main"].wall == 2, "the main thread waited all the while"


def sample(trials: int, cpu: float, **parts: float) -> Sample:
    return Sample(
        trials=trials, wall=2 * cpu, cpu=cpu, parts=parts, driver_memory=100 * trials, dispatcher_memory=10 * trials
    )


def test_windows_hold_what_one_trial_adds() -> None:
    samples = [sample(10, 5.0, a=1.0), sample(20, 15.0, a=2.0, b=4.0), sample(60, 75.0, a=6.0, b=44.0)]
    first, second = windows(samples)
    assert first == Window(
        first=10,
        last=20,
        wall=2.0,
        cpu=1.0,
        parts={"a": 0.1, "b": 0.4},
        driver_memory=100,
        dispatcher_memory=10,
    )
    assert (second.first, second.last, second.cpu, second.parts) == (20, 60, 1.5, {"a": 0.1, "b": 1.0})
    # A tenth of the first window's second is 0.1: b has grown by 0.6, a by nothing.
    assert second.grew("b", first)
    assert not second.grew("a", first)


def test_simulated_training_is_nearest_at_one_learning_rate_and_nears_with_every_step() -> None:
    def distance(rate: float, step: int) -> float:
        return simulated_distance(TrainingConfig(learning_rate=rate), step)

    assert distance(BEST_RATE, 0) == UNTUNED
    assert distance(BEST_RATE, 100) == pytest.approx(0.8 - 0.35 * (1 - 0.36788), abs=1e-5)
    assert distance(BEST_RATE, 200) < distance(BEST_RATE, 100) < distance(BEST_RATE / 10, 100) < 0.8


def test_quick_run_searches_and_accounts_for_the_drivers_time(tmp_path: Path) -> None:
    file = tmp_path / "outcome.json"
    done = quick_benchmark.finish("scale", "--quick", json_file=file, home=tmp_path)
    assert done.heading.startswith("9 trials, ")
    assert list(tmp_path.iterdir()) == [file], "the run's files are gone"
    outcome = done.outcome
    assert (outcome["benchmark"], outcome["trials"]) == ("scale", 9)
    assert sum(outcome["states"].values()) == 9
    assert set(outcome["states"]) <= {"finished", "stopped"}
    assert outcome["checkpoints"] >= 9
    assert [(window["first"], window["last"]) for window in outcome["windows"]] == [(3, 6), (6, 9)]
    for window in outcome["windows"]:
        assert set(window["parts"]) == {part for _, _, part in WATCHED}
        assert window["parts"]["Tune's loop, the rest"] > 0
        assert window["parts"]["journal file"] > 0
    whole = sum(window["cpu"] for window in outcome["windows"])
    known = sum(sum(window["parts"].values()) for window in outcome["windows"])
    assert 0.2 * whole < known < whole + 0.05, "parts lie within the process"
    assert all(taken["calls"] == 1 for taken in outcome["conclusion"].values())
    assert [row["trials"] for row in outcome["files"]] == [3, 6, 9]
    sizes = [row["result_bytes"] for row in outcome["files"]]
    assert sizes == sorted(set(sizes))
    assert outcome["files"][-1]["journal_bytes"] > 0
