"""The account of a budget: limits, what was used of each, and the forecast beside the truth, as the report shows it.

Made of the run's configuration and of `cost.budget` in its result. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search.budget import BudgetConfig

NO_LIMIT = "no limit"

UNKNOWN = "-"


@dataclass(frozen=True, kw_only=True)
class AccountLine:
    """One thing that a search uses up, in words."""

    what: str
    limit: str
    """`NO_LIMIT` where none was set."""
    used: str
    share: str
    """Of the limit that was used."""
    foretold: str
    """By the first forecast, which a limit cuts as it cuts the search."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a search might use, what it has used, and what was foretold."""

    lines: tuple[AccountLine, ...]
    """Minutes, hours of GPUs or seats, cost."""
    notes: tuple[str, ...]
    """Whether a limit ended the search, and how well it was foretold; a sentence each."""

    @classmethod
    def of(cls, budget: BudgetConfig, told: Mapping[str, Any] | None) -> Account:
        """The account of a search.

        Args:
            budget: What its configuration sets.
            told: `cost.budget` of its result; None if no trial began.
        """
        return cls(lines=tuple(_lines(budget, told or {})), notes=tuple(_notes(budget, told)))


def _lines(budget: BudgetConfig, told: Mapping[str, Any]) -> Iterator[AccountLine]:
    forecast = told.get("forecast") or {}
    for what, limit, used, foretold, digits in (
        ("minutes by the clock", budget.max_minutes, _minutes(told), _minutes(forecast), 1),
        (told.get("unit", "GPU hours"), budget.max_gpu_hours, told.get("hours"), forecast.get("hours"), 2),
        ("cost", budget.max_cost, told.get("price"), forecast.get("price"), 2),
    ):
        yield AccountLine(
            what=what,
            limit=NO_LIMIT if limit is None else f"{limit:g}",
            used=_number(used, digits),
            share=UNKNOWN if limit is None or used is None else f"{used / limit:.0%}",
            foretold=_number(foretold, digits),
        )


def _notes(budget: BudgetConfig, told: Mapping[str, Any] | None) -> Iterator[str]:
    if told is None:
        yield "Nothing was counted, for no trial began."
        return
    limited = {budget.max_minutes, budget.max_gpu_hours, budget.max_cost} != {None}
    if told["cut_off"]:
        yield f"The search was cut off: {told['cut_off']}."
    else:
        yield "The budget did not cut the search off." if limited else "The search had no limit."
    forecast = told["forecast"]
    if forecast is None:
        yield "It ended before it could be foretold."
        return
    error = forecast["error"]
    # A tenth of a percent is all that is shown.
    verdict = f"{abs(error):.1%} too {'long' if error > 0 else 'short'}" if abs(error) >= 0.0005 else "exact"
    yield f"The forecast after {forecast['after_trials']} trials was {verdict}."


def _minutes(part: Mapping[str, Any]) -> float | None:
    return None if "seconds" not in part else part["seconds"] / 60


def _number(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"
