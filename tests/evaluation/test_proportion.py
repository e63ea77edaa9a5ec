"""Wilson's interval, against scipy's."""

import importlib
from typing import Any

import pytest

from evaluation.proportion import wilson_interval


@pytest.mark.parametrize(("successes", "count"), [(0, 1), (1, 1), (3, 10), (29, 30), (30, 30), (412, 600)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_wilson_agrees_with_scipy(successes: int, count: int, level: float) -> None:
    binomtest: Any = importlib.import_module("scipy.stats").binomtest
    oracle = binomtest(successes, count).proportion_ci(confidence_level=level, method="wilson")
    told = wilson_interval(successes, count, level=level)
    assert (told.lower, told.upper) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
    assert told.value == successes / count


def test_impossible_counts_are_refused() -> None:
    for successes, count in ((0, 0), (2, 1), (-1, 3)):
        with pytest.raises(ValueError, match="at least one trial"):
            wilson_interval(successes, count)
    with pytest.raises(ValueError, match="level is 95"):
        wilson_interval(1, 2, level=95)
