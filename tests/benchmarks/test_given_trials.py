"""The benchmark of searches with a given number of trials: its forecast by hand, and a run."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks.search_cost.__main__ import DEMO
from benchmarks.search_cost.given_trials import forecast_error
from benchmarks.search_cost.surrogate import Surrogate
from benchmarks.search_cost.virtual_search import Course, Moment
from search.config.search_config import load_config
from tests.support import quick_benchmark

PACE = cast(
    Surrogate,
    SimpleNamespace(costs=SimpleNamespace(step={"few": 0.5, "many": 1.5}, scoring={"few": 5.0, "many": 15.0})),
)


@pytest.mark.parametrize(("last", "error"), [(300, 0.0), (100, 5 * 330 / (4 * 330 + 110) - 1)])
def test_the_forecast_of_trials_of_one_length_that_none_stops(last: int, error: float) -> None:
    """Five trials of 300 steps, each 300 x 1 s and three scores of 10 s; the last may have ended early all the same."""
    config = load_config(DEMO, ["trials=5", "space.steps={values: [300]}", "stopping.enabled=false"])
    steps = (100, 200, 300)
    course = Course(
        moments=(Moment(cost=1.0, value=0.5),),
        trials=5,
        stopped=0,
        trainings=(*[(steps, 3)] * 4, (steps, last // 100)),
    )
    assert forecast_error(course, config, PACE) == pytest.approx(error)


def test_a_small_run_tells_value_cost_and_forecast(tmp_path: Path) -> None:
    file = tmp_path / "outcome.json"
    options = ("--seeds", "2", "--trials", "5", "8", "9", "--json", str(file))
    done = quick_benchmark.run("search_cost.given_trials", *options)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(file.read_text("utf-8"))
    assert [(each["trials"], each["method"]) for each in outcome["outcomes"]] == [
        (trials, name)
        for trials in (5, 8, 9)
        for name in ("random", "random, ASHA", "TPE, ASHA", "learning curves, ASHA")
    ]
    few, many = outcome["outcomes"][:4], outcome["outcomes"][4:8]
    for less, more in zip(few, many, strict=True):
        assert 0 < less["cost"] < more["cost"]
        assert less["value"] < 0.6
        assert 0 <= less["near"] <= 2
