"""Budgets: what a second costs, which limit comes first, and what is refused."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.config.search_config import ConfigurationError, load_config
from search.config.sections import BudgetConfig, SeatsConfig
from search.study.budget import Limit, Rate, first_limit


def test_gpus_are_counted_by_what_is_reserved_and_seats_where_there_are_none() -> None:
    workers = SeatsConfig(workers=2, gpus_per_worker=0.5, threads=4)
    budget = BudgetConfig(gpu_hour_price=0.5)
    assert Rate.of(workers, 3, budget, gpus=True) == Rate(units=3.0, unit="GPU", price=0.5)
    assert Rate.of(workers, 3, budget, gpus=False) == Rate(units=3, unit="worker", price=0.5)


def test_what_time_costs() -> None:
    rate = Rate(units=4, unit="GPU", price=2.5)
    assert (rate.hours(1800), rate.cost(1800)) == (2.0, 5.0)
    assert rate.words(1805) == "30:05, 2.01 GPU hours, cost 5.01"
    assert rate.as_result(1800) == {"seconds": 1800, "hours": 2.0, "price": 5.0}
    assert Rate(units=1, unit="worker").words(3661) == "1:01:01, 1.02 worker hours"
    assert Rate(units=1, unit="worker").as_result(36)["price"] is None


@pytest.mark.parametrize(
    ("budget", "limit"),
    [
        ({}, Limit(seconds=math.inf, name="")),
        ({"max_minutes": 90}, Limit(seconds=5400, name="90 minutes")),
        ({"max_gpu_hours": 4}, Limit(seconds=7200, name="4 GPU hours")),
        ({"max_cost": 5, "gpu_hour_price": 2.5}, Limit(seconds=3600, name="a cost of 5")),
        ({"max_cost": 50, "gpu_hour_price": 2.5, "max_minutes": 90}, Limit(seconds=5400, name="90 minutes")),
    ],
)
def test_the_limit_that_is_reached_first_counts(budget: dict[str, float], limit: Limit) -> None:
    assert first_limit(BudgetConfig(**budget), Rate(units=2, unit="GPU", price=2.5)) == limit


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"max_cost": 5}, "max_cost is 5, but nothing says what an hour costs; set budget.gpu_hour_price"),
        ({"max_minutes": 0}, "budget.max_minutes"),
        ({"max_hours": 3}, "budget.max_hours: there is no such key; did you mean 'max_gpu_hours'"),
    ],
)
def test_budgets_that_mean_nothing_are_refused(
    budget: dict[str, float],
    message: str,
    document: dict[str, Any],
    write_config: Callable[[dict[str, Any]], Path],
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_config(write_config({**document, "budget": budget}))
