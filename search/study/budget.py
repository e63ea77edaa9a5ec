"""The budget of a search: what it may cost, and what a second of it costs. Plain arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search.config.sections import BudgetConfig
from search.storage.clock import duration

if TYPE_CHECKING:
    from search.config.sections import SeatsConfig


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What a search uses up while it runs, whether its workers have work or not: they are reserved all the time."""

    units: float
    """GPUs that all workers reserve together, or their number where there are no GPUs."""
    unit: str
    """`GPU` or `worker`."""
    price: float | None = None
    """Of one unit's hour."""

    @classmethod
    def of(cls, workers: SeatsConfig, count: int, budget: BudgetConfig, *, gpus: bool) -> Rate:
        """What `count` workers reserve."""
        units = count * workers.workers * workers.gpus_per_worker if gpus else count
        return cls(units=units, unit="GPU" if gpus else "worker", price=budget.gpu_hour_price)

    def hours(self, seconds: float) -> float:
        """The units' hours together."""
        return self.units * seconds / 3600

    def cost(self, seconds: float) -> float | None:
        """What that time costs; None without a price."""
        return None if self.price is None else self.hours(seconds) * self.price

    def words(self, seconds: float) -> str:
        """The time, the hours and the cost of it, for people."""
        cost = self.cost(seconds)
        priced = "" if cost is None else f", cost {cost:.2f}"
        return f"{duration(seconds)}, {self.hours(seconds):.2f} {self.unit} hours{priced}"

    def as_result(self, seconds: float) -> dict[str, float | None]:
        """The same as the result holds it."""
        cost = self.cost(seconds)
        return {
            "seconds": round(seconds, 1),
            "hours": round(self.hours(seconds), 4),
            "price": None if cost is None else round(cost, 4),
        }


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The limit of a budget that is reached first."""

    seconds: float = math.inf
    """From the start of the search; infinite where there is no limit."""
    name: str = ""
    """The limit, in words."""


def first_limit(budget: BudgetConfig, rate: Rate) -> Limit:
    """Which limit ends a search, and after how many seconds."""
    limits = [Limit()]
    if budget.max_minutes is not None:
        limits.append(Limit(seconds=budget.max_minutes * 60, name=f"{budget.max_minutes:g} minutes"))
    if budget.max_gpu_hours is not None:
        name = f"{budget.max_gpu_hours:g} {rate.unit} hours"
        limits.append(Limit(seconds=budget.max_gpu_hours * 3600 / rate.units, name=name))
    if budget.max_cost is not None and budget.gpu_hour_price is not None:
        hours = budget.max_cost / budget.gpu_hour_price
        limits.append(Limit(seconds=hours * 3600 / rate.units, name=f"a cost of {budget.max_cost:g}"))
    return min(limits, key=lambda limit: limit.seconds)
