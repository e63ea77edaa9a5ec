"""The benchmark of interruptions: what it holds against a search, and that its searches are what it says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults.interrupted_search import Outcome, write_search
from benchmarks.faults.interruptions import check, figures
from search.config.search_config import load_config


def outcome(mean: float, *, codes: tuple[int, ...] = (0,), trials: int = 3) -> Outcome:
    result: dict[str, Any] = {
        "champion": {"across_seeds": {"objective": {"mean": mean, "lower": mean - 0.1, "upper": mean + 0.1}}},
        "trials": [
            {"id": f"{number:03d}", "state": "finished", "checkpoints": [{"step": 20}, {"step": 40}]}
            for number in range(trials)
        ],
        "seconds": {"total": 60.0},
        "cost": {"optimizer_steps": 40 * trials},
    }
    return Outcome(result=result, journal=50, codes=codes, leaving=(0.1234,) * (len(codes) - 1), orphans=0)


def failed(broken: Outcome) -> list[str]:
    checks = check(broken, outcome(0.5), trials=3, interruptions=2)
    return [name for name, holds in checks.items() if not holds]


def test_a_search_that_came_to_the_same_end() -> None:
    assert failed(outcome(0.69, codes=(-9, -9, 0))) == []
    assert figures(outcome(0.69, codes=(130, 0))) == {
        "objective": {"mean": 0.69, "lower": pytest.approx(0.59), "upper": pytest.approx(0.79)},
        "seconds": 60.0,
        "optimizer_steps": 120,
        "codes": [130, 0],
        "leaving": [0.12],
    }


def test_each_thing_that_may_go_wrong_is_told() -> None:
    good = outcome(0.5, codes=(-9, -9, 0))
    assert failed(outcome(0.71, codes=(-9, -9, 0))) == ["champion_within_noise"]
    assert failed(outcome(0.5, codes=(-9, 0))) == ["interrupted_as_often"]
    assert failed(outcome(0.5, codes=(-9, 0, 0))) == ["interrupted_as_often"], "it ended before its interruption"
    assert failed(outcome(0.5, codes=(-9, -9, 0), trials=4)) == ["all_trials_and_none_twice"]
    assert failed(replace(good, orphans=1)) == ["no_orphans"]
    assert failed(replace(good, result={**good.result, "champion": None})) == ["champion_within_noise"]
    good.result["trials"][1] |= {"state": "running", "checkpoints": [{"step": 20}, {"step": 20}]}
    assert failed(good) == ["all_trials_ended", "no_checkpoint_twice"]


def test_its_search_is_the_demos_cut_down(tmp_path: Path) -> None:
    config = load_config(write_search(tmp_path, 30), ["name=unbroken"])
    assert (config.name, config.trials, config.evaluation.every) == ("unbroken", 30, 20)
    assert set(config.space) == {"learning_rate", "rank", "alpha", "targets", "steps"}
