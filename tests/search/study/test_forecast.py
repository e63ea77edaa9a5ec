"""The forecast's arithmetic, worked by hand."""

import pytest

from search.study.forecast import Forecast, Rungs, final_seconds, makespan


@pytest.mark.parametrize(
    ("pieces", "workers", "busy", "seconds"),
    [
        ([], 2, [], 0.0),
        ([3.0, 3.0, 3.0], 1, [], 9.0),
        ([3.0, 3.0, 3.0], 2, [], 6.0),
        ([5.0, 1.0, 1.0, 1.0], 2, [], 5.0),
        ([1.0, 1.0, 5.0], 2, [], 6.0),
        ([4.0], 2, [10.0, 1.0], 10.0),
        ([4.0], 2, [3.0, 7.0, 5.0], 11.0),
    ],
)
def test_pieces_are_taken_up_in_turn_by_the_seat_that_is_free_first(
    pieces: list[float], workers: int, busy: list[float], seconds: float
) -> None:
    assert makespan(pieces, workers, busy) == seconds


def test_the_final_measures_scores_and_trains_again() -> None:
    # Anchors 7; two scorings of 2 on two workers; then 10+2 and 20+2, each twice: 12, 12, 22, 22.
    seconds = final_seconds(trainings=[10.0, 20.0], entrants=2, retrain=2, scoring=2.0, anchors=7.0, workers=2)
    assert seconds == 7 + 2 + 12 + 22


def test_the_share_that_goes_on_is_the_rules_then_what_was_seen() -> None:
    def rungs(values: float, *seen: int) -> Rungs:
        compared, went_on = seen or (0, 0)
        return Rungs(steps=(100,), reduction_factor=3, seen={100: (compared, went_on)}, values={100: values})

    assert Rungs(steps=(100,)).survival(100) == 1, "with nothing to compare with it goes on"
    assert rungs(0.5).survival(100) == 0.75, "the first or the second"
    assert rungs(1).survival(100) == 0.5, "one value: the second lies above it or not"
    assert rungs(4).survival(100) == pytest.approx(2 / 5), "the cut-off of four is the third: two of five places"
    rule = (7 - 2 / 3 * 6) / 8
    assert rungs(7, 6, 3).survival(100) == pytest.approx((12 * rule + 3) / 18)
    assert rungs(3000, 3000, 1000).survival(100) == pytest.approx(1 / 3, abs=1e-3)


HALF = Rungs(steps=(100, 300), values={100: 1, 300: 1})
"""Half go on at each."""


def test_expected_steps_of_a_trial() -> None:
    assert HALF.expected((100, 200, 300, 400)) == (100 + 0.5 * 200 + 0.25 * 100, 1 + 0.5 + 0.5 + 0.25)
    assert HALF.expected((100,)) == (100, 1), "where it ends anyway it is not stopped"
    assert HALF.expected((150, 300)) == (150 + 0.5 * 150, 1.5), "it is compared at its first checkpoint beyond"
    assert HALF.expected((100, 200, 300, 400), done=150) == (50 + 100 + 0.5 * 100, 1 + 1 + 0.5), "it has gone on"
    assert HALF.expected((100, 200), done=50) == (50 + 0.5 * 100, 1.5)
    assert HALF.expected((100, 200), done=200) == (0, 0)
    assert HALF.expected((100, 200, 300, 400), spared=True) == (400, 4)
    assert Rungs().expected((100, 200)) == (200, 2)


def test_every_trial_makes_the_rungs_that_it_reaches_stricter() -> None:
    assert HALF.after([(100, 200, 300, 400)]).values == {100: 2, 300: 1.5}
    assert HALF.after([(50,), (100, 200)]).values == {100: 1.5, 300: 1}, "half of such trials end before"
    assert HALF.after([(100, 300)]).values == {100: 2, 300: 1.5}, "one that ends at a rung leaves its value there"
    assert HALF.after([(100, 200, 300, 400)], spared=True).values == {100: 2, 300: 2}
    assert HALF.after([(100, 200, 300, 400)], done=150).values == {100: 1, 300: 2}, "it was counted at the first"
    three = Rungs(steps=(100,)).after([(100, 200)]).after([(100, 200)]).after([(100, 200)])
    assert three.survival(100) == pytest.approx((3 - 2 / 3 * 2) / 4)


def test_a_forecast_is_the_sum_of_its_parts() -> None:
    assert Forecast(search_end=100.0, final=50.0, closing=15.0).total == 165.0
