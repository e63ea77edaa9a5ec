"""The benchmark of training, run for real with two steps a side, and its arithmetic. Speed does not matter here."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import t

from benchmarks import clocks
from benchmarks.clocks import Clocks
from benchmarks.scale.memory import forget_peak, peak_memory, resident_memory
from benchmarks.training.__main__ import Measured, Turn, compared, milliseconds, training_work
from benchmarks.training.training_run import Run
from tests.support import quick_benchmark


def run(*, samples: int = 12, steps: int = 3, seconds: float = 2.0, mean_loss: float = 0.5) -> Run:
    return Run(
        samples=samples,
        steps=steps,
        seconds=seconds,
        processor_seconds=1.5,
        phases={"backward": 0.75 * seconds, "rest": 0.25 * seconds},
        mean_loss=mean_loss,
        memory=64.0,
    )


def test_interval_of_a_difference_by_hand() -> None:
    """Welch: variances 1 and 4 of three values each."""
    found = compared([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    error = math.sqrt(1 / 3 + 4 / 3)
    freedom = (1 / 3 + 4 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    half = t.ppf(0.975, freedom) * error
    assert found["difference"] == -2.0
    assert found["interval"] == pytest.approx([-2 - half, -2 + half])
    assert found["same"] is True
    assert compared([1.0, 1.1, 1.2], [2.0, 2.1, 2.2])["same"] is False
    alone = compared([1.0], [3.0])
    assert (alone["difference"], alone["interval"], alone["same"]) == (-2.0, None, None)


def test_time_of_a_step_is_that_of_all_steps_together() -> None:
    runs = [run(steps=3, seconds=2.0), run(steps=1, seconds=6.0)]
    assert milliseconds(runs) == {"backward": 1500.0, "rest": 500.0}
    assert [each.rate for each in runs] == [6.0, 2.0]
    assert runs[0].processor_rate == 8.0


def test_ratios_are_of_median_rates() -> None:
    def turns(*seconds: float) -> tuple[Turn, ...]:
        return tuple(
            Turn(cold=5.0, run=run(seconds=each, mean_loss=each), validation_loss=each / 10) for each in seconds
        )

    measured = Measured(
        untuned=0.9,
        ours=turns(1.0, 3.0, 2.0),
        plain=turns(3.0, 4.0, 1.0),
        warm=(0.1, 0.2, 0.3),
        our_machine=(10.0, 30.0, 12.0),
        plain_machine=(5.0, 4.0, 50.0),
    )
    outcome = measured.outcome(training_work(7, text_encoder=True))
    assert outcome["ratios"] == {"one_job": 6 / 4, "one_job_processor": 1.0, "machine": 12 / 5}
    assert outcome["met"] == {"one_job": True, "machine": True}
    assert (outcome["steps"], outcome["batch"], outcome["rank"], outcome["text_encoder"]) == (7, 4, 32, True)
    assert outcome["validation_loss"]["difference"] == pytest.approx(0.2 - 0.8 / 3)
    assert outcome["validation_loss"]["untuned"] == 0.9
    assert outcome["ours"]["warm_start"] == [0.1, 0.2, 0.3]
    assert outcome["plain"]["cold_start"] == [5.0] * 3


def test_clocks_tell_phases_and_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(clocks, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Model:
        def forward(self, seconds: float, *, answer: str) -> str:
            now[0] += seconds
            return answer

        def backward(self) -> None:
            now[0] += 1
            raise RuntimeError("no gradient")

    watch = Clocks()
    watch.watch(Model, "forward", "forward")
    watch.watch(Model, "backward", "backward")
    Model().forward(50, answer="before the reset")
    watch.reset()
    assert Model().forward(2, answer="yes") == "yes"
    Model().forward(3, answer="again")
    with pytest.raises(RuntimeError, match="no gradient"):
        Model().backward()
    with watch.measure("data"):
        now[0] += 0.5
    now[0] += 0.25
    assert watch.read() == {"forward": 5.0, "backward": 1.0, "data": 0.5, "rest": 0.25}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_peak_of_memory_outlives_what_was_in_it_and_can_be_forgotten() -> None:
    forget_peak()
    before = resident_memory()
    filled = np.ones(64 * 2**17)  # 64 MiB
    del filled
    peak = peak_memory()
    assert before is not None
    assert peak is not None
    assert 60 < peak - before < 80
    forget_peak()
    after = peak_memory()
    assert after is not None
    assert after < peak - 50


def test_quick_run_trains_both_sides_and_ends_with_its_outcome(tmp_path: Path) -> None:
    done = quick_benchmark.finish("training", "--quick", json_file=tmp_path / "outcome.json")
    outcome = done.outcome
    assert done.heading == (
        f"1 x 2 steps of 4 photos a side, rank 32 on the attention of the UNet, {outcome['cores']} cores:"
    )
    assert outcome["benchmark"] == "training"
    assert outcome["goals"] == {"one_job": 1.3, "machine": 2.0}
    assert outcome["text_encoder"] is False
    phases = {"data", "UNet forward", "backward", "clip and optimizer", "rest"}
    assert set(outcome["ours"]["step"]) == phases
    assert set(outcome["plain"]["step"]) == phases | {"photos' latents", "text encoder"}
    for name in ("one_job", "one_job_processor", "machine"):
        (ours,), (plain,) = outcome["ours"][name], outcome["plain"][name]
        assert outcome["ratios"][name] == pytest.approx(ours / plain)
    # The warm-up leaves the first step without effect, and the second moves both a little.
    losses = outcome["validation_loss"]
    (ours,), (plain,) = losses["ours"], losses["plain"]
    assert ours != losses["untuned"] != plain
    assert [ours, plain] == pytest.approx([losses["untuned"]] * 2, rel=0.1)
