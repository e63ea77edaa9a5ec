"""The account of a budget, alone and on the report's page: limits, what was used of each, forecast and truth."""

import re
from html import unescape
from typing import Any

import pytest

from benchmarks.scale.synthetic_run import write_synthetic_run
from search.config.search_config import SearchConfig
from search.config.sections import BudgetConfig
from search.report.tables import Account
from search.storage.result import SearchResult
from search.storage.result_schema import BudgetResult
from search.study.budget import FORECAST_AFTER
from tests.support.report_page import changed, write_page

Run = tuple[SearchResult, SearchConfig]

USED: dict[str, Any] = {
    "seconds": 228.0,
    "hours": 0.1267,
    "price": 1.0133,
    "unit": "worker hours",
    "limit": {"name": "4 minutes", "seconds": 240.0, "hours": 0.1333, "price": 1.0667},
    "cut_off": "the budget of 4 minutes is used up but for the final",
    "forecast": {"after_trials": FORECAST_AFTER, "seconds": 240.0, "hours": 0.1333, "price": 1.0667, "error": 0.0526},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return write_synthetic_run(tmp_path_factory.mktemp("run"), trials=1, rates=[1e-3])[:2]


def cost_section(run: Run, budget: dict[str, float], used: dict[str, Any] | None) -> str:
    """The words of the page's section on cost, for a run with this budget."""
    result, config = run
    settled = config.model_copy(update={"budget": BudgetConfig(**budget)})
    page = write_page(changed(result, cost={**result.values["cost"], "budget": used}), settled)
    (section,) = re.findall(r'<section id="cost">(.*?)</section>', page.read_text("utf-8"), re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", section)).split())


def test_the_page_shows_limits_use_and_forecast(run: Run) -> None:
    used = cost_section(run, {"max_minutes": 4, "max_cost": 5, "gpu_hour_price": 8}, USED)
    assert (
        "The budget limit used of the limit predicted "
        "minutes by the clock 4 3.8 95% 4.0 "
        "worker hours no limit 0.13 - 0.13 "
        "cost 5 1.01 20% 1.07 "
        "The search was cut off: the budget of 4 minutes is used up but for the final. "
        "The forecast after 2 trials was 5.3% too long."
    ) in used
    assert "{" not in used, "no part of the result is shown as it lies in the file"


def test_the_page_of_a_search_without_a_budget_says_so(run: Run) -> None:
    used = cost_section(run, {}, {**USED, "limit": None, "cut_off": "", "price": None, "forecast": None})
    assert (
        "The budget limit used of the limit predicted "
        "minutes by the clock no limit 3.8 - - "
        "worker hours no limit 0.13 - - "
        "cost no limit - - - "
        "The search had no limit. It ended before there was a forecast."
    ) in used


def test_a_search_without_trials_has_limits_all_the_same(run: Run) -> None:
    used = cost_section(run, {"max_gpu_hours": 0.5}, None)
    assert (
        "minutes by the clock no limit - - - GPU hours 0.5 - - - cost no limit - - - "
        "Nothing was counted, for no trial began."
    ) in used


@pytest.mark.parametrize(
    ("error", "verdict"), [(0.0526, "5.3% too long"), (-0.2, "20.0% too short"), (0.0004, "exact"), (-0.0, "exact")]
)
def test_a_forecast_is_told_with_the_side_it_erred_to(error: float, verdict: str) -> None:
    used = {**USED, "cut_off": "", "forecast": {**USED["forecast"], "error": error}}
    assert Account.of(BudgetConfig(max_minutes=10), BudgetResult.model_validate(used)).notes == (
        "The budget did not cut the search off.",
        f"The forecast after 2 trials was {verdict}.",
    )
