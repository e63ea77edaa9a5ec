"""The benchmark of trial overheads, run for real with two trials a side. How fast they were does not matter here."""

from pathlib import Path
from statistics import mean, median

import pytest

from tests.support import quick_benchmark


def test_quick_run_measures_both_sides_and_ends_with_its_outcome(tmp_path: Path) -> None:
    done = quick_benchmark.finish("trial_overhead", "--quick", json_file=tmp_path / "outcome.json")
    assert done.heading.startswith("2 trials of 30 steps a side")
    outcome = done.outcome
    assert set(outcome) == {
        *("benchmark", "cores", "slots", "trials", "steps", "same_scores"),
        *("ratios", "goals", "met", "seats", "stock"),
    }
    assert outcome["benchmark"] == "trial_overhead"
    assert outcome["slots"] == min(2, outcome["cores"])
    assert (outcome["trials"], outcome["steps"]) == (2, 30)
    assert outcome["same_scores"], "the two sides did not do the same work"

    figures = {"wall", "start", "rounds", "overhead", "computed"}
    workers, stock = outcome["seats"], outcome["stock"]
    assert set(workers) == figures
    assert set(stock) == figures | {"starting", "loading"}
    for side in (workers, stock):
        assert all(
            len(values) == 2 and min(values) > 0
            for name, values in side.items()
            if isinstance(values, list) and name != "rounds"
        )
        assert len(side["rounds"]) == 1
        assert side["wall"] == side["start"] + side["rounds"][0]
    assert workers["start"] > 0
    assert stock["start"] == 0
    for overhead, starting, loading in zip(stock["overhead"], stock["starting"], stock["loading"], strict=True):
        assert overhead > starting + loading

    slot_seconds = [outcome["slots"] * side["wall"] - sum(side["computed"]) for side in (workers, stock)]
    assert outcome["ratios"] == pytest.approx(
        {
            "overhead": median(workers["overhead"]) / median(stock["overhead"]),
            "mean_overhead": mean(workers["overhead"]) / mean(stock["overhead"]),
            "overhead_with_start": slot_seconds[0] / slot_seconds[1],
            "computed": median(workers["computed"]) / median(stock["computed"]),
            "wall": workers["wall"] / stock["wall"],
        }
    )
    assert outcome["goals"] == {"overhead": 0.05, "wall": 0.4}
    assert outcome["met"] == {name: outcome["ratios"][name] <= goal for name, goal in outcome["goals"].items()}
