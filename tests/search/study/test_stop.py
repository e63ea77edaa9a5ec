"""The wish to stop: whose reason counts."""

import pytest

from search.study.stop import Stop


def test_the_first_reason_counts() -> None:
    stop = Stop()
    assert (stop.requested, stop.reason, stop.interrupted) == (False, "", False)
    stop.request("the budget of 3 GPU hours is spent")
    stop.request("the budget of 60 minutes is spent")
    assert (stop.requested, stop.reason, stop.interrupted) == (True, "the budget of 3 GPU hours is spent", False)


def test_an_interruption_overrules_a_budget_but_not_another_interruption() -> None:
    stop = Stop()
    stop.request("the budget is spent")
    stop.request("interrupted by SIGTERM", interrupted=True)
    stop.request("interrupted by SIGINT", interrupted=True)
    stop.request("the budget is spent")
    assert (stop.reason, stop.interrupted) == ("interrupted by SIGTERM", True)


def test_a_stop_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="needs a reason"):
        Stop().request("")


def test_it_is_watched_only_while_somebody_looks() -> None:
    stop = Stop()
    seen = [stop.watched]
    with stop.watching():
        seen.append(stop.watched)
    seen.append(stop.watched)
    assert seen == [False, True, False]
