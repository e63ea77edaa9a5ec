"""Rank correlation of two judges over the trials, worked by hand."""

import pytest

from search.final.second_opinion import rank_correlation


def test_rank_correlation_by_hand() -> None:
    # Two of the ten pairs stand the other way round: (8 - 2) / 10; ranks differ by 1 four times: 1 - 6 x 4 / 120.
    swapped = rank_correlation([0.1, 0.2, 0.3, 0.4, 0.5], [2.0, 1.0, 4.0, 3.0, 5.0])
    assert (swapped.trials, swapped.reason) == (5, "")
    assert swapped.kendall == pytest.approx(0.6)
    assert swapped.spearman == pytest.approx(0.8)
    # Four pairs in the same order, one tie on either side: 4 / sqrt((6 - 1) x (6 - 1)).
    assert rank_correlation([1, 1, 2, 3], [1, 2, 2, 3]).kendall == pytest.approx(0.8)
    reverse = rank_correlation([1, 2, 3], [3, 2, 1])
    assert reverse.kendall == pytest.approx(-1)
    assert reverse.spearman == pytest.approx(-1)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ([0.1, 0.2], [0.1, 0.2], "2 scored trials, at least 3 are needed"),
        ([], [], "0 scored trials"),
        ([0.2, 0.2, 0.2], [0.1, 0.2, 0.3], "the first judge gives all trials the same likeness"),
        ([0.1, 0.2, 0.3], [0.0, 0.0, 0.0], "the second judge gives all trials the same likeness"),
    ],
)
def test_where_ranks_say_nothing_there_is_a_reason_and_no_number(
    first: list[float], second: list[float], reason: str
) -> None:
    correlation = rank_correlation(first, second)
    assert (correlation.kendall, correlation.spearman) == (None, None)
    assert reason in correlation.reason
