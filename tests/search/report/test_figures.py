"""Figures of the report: axes, marks and what they tell, by hand."""

import pytest

from search.config.space import Choice, FloatRange, Space
from search.report.axis import Axis, ChoiceAxis, Tick
from search.report.figure import Figure, Mark, ParallelPlot, Plot
from search.report.figures import (
    curve_figure,
    front_figure,
    importance_figure,
    interval_figure,
    parallel_figure,
    strength_figure,
)


def trial(
    name: str, likeness: float, fidelity: float, *, objective: float, state: str = "finished"
) -> dict[str, object]:
    metrics = {"objective": objective, "likeness": likeness, "fidelity": fidelity, "faceless_rate": 0.0}
    return {
        "id": name,
        "state": state,
        "best_step": 100,
        "metrics": metrics,
        "params": {"learning_rate": 10.0 ** -(int(name) + 2), "targets": "all" if name == "000" else "some"},
    }


TRIALS = [trial("000", 0.2, 1.0, objective=0.4), trial("001", 0.6, 0.9, objective=0.5, state="stopped")]


def test_an_axis_places_values_between_its_ends() -> None:
    axis = Axis(title="a", lower=2.0, upper=4.0)
    assert [axis.place(value) for value in (1.0, 2.0, 3.0, 4.0, 9.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert [tick.text for tick in axis.ticks] == ["2", "2.5", "3", "3.5", "4"]
    decades = Axis(title="b", lower=1e-4, upper=1e-2, log=True)
    assert decades.place(1e-3) == pytest.approx(0.5)
    assert [tick.text for tick in decades.ticks] == ["0.0001", "0.001", "0.01"]
    narrow = Axis(title="c", lower=2e-4, upper=9e-4, log=True)
    assert [tick.text for tick in narrow.ticks] == ["0.0002", "0.0005"]
    choices = ChoiceAxis(title="d", choices=("4", "8"))
    assert choices.ticks == (Tick(text="4", place=0.25), Tick(text="8", place=0.75))
    assert choices.place(8) == 0.75


def test_an_axis_around_values_is_never_empty() -> None:
    air = Axis.around("a", [1.0, 2.0])
    assert (air.lower, air.upper) == pytest.approx((0.96, 2.04))
    single = Axis.around("a", [3.0])
    assert (single.lower, single.upper) == (2.5, 3.5)
    logarithmic = Axis.around("a", [1e-3], log=True)
    assert (logarithmic.lower, logarithmic.upper) == pytest.approx((5e-4, 2e-3))
    with pytest.raises(ValueError, match=r"runs from 1\.0 to 1\.0"):
        Axis(title="a", lower=1.0, upper=1.0)
    with pytest.raises(ValueError, match="rising range"):
        Axis(title="a", lower=0.0, upper=1.0, log=True)


def test_places_on_a_plot() -> None:
    plot = Plot(horizontal=Axis(title="x", lower=0.0, upper=1.0), vertical=Axis(title="y", lower=0.0, upper=1.0))
    assert plot.at(0.0, 0.0) == (70.0, 308.0)
    assert plot.at(1.0, 1.0) == (696.0, 24.0)
    parallel = ParallelPlot(axes=(plot.horizontal, ChoiceAxis(title="z", choices=("a", "b"))))
    assert parallel.line([0.5, "b"]) == ((70.0, 166.0), (650.0, 95.0))


def marks(figure: Figure | None) -> tuple[Mark, ...]:
    assert figure is not None
    return figure.marks


def test_the_front_leads_to_its_trials() -> None:
    front = [{"trial": "000", "step": 100, "likeness": 0.2, "fidelity": 1.0, "faceless_rate": 0.0}]
    line, right, left = marks(front_figure(TRIALS, front, "001"))
    assert line.label == "the front: trial 000 at step 100, likeness 0.2, fidelity 1, faceless_rate 0"
    assert line.trial == ""
    assert (right.trial, right.tone) == ("001", "champion")
    assert left.label == "trial 000 at step 100: objective 0.4, likeness 0.2, fidelity 1, faceless_rate 0"
    assert right.dots[0][0] < left.dots[0][0], "fidelity grows to the right"
    assert right.dots[0][1] < left.dots[0][1], "likeness grows upwards"
    assert front_figure([], [], None) is None


def test_curves_end_in_a_cross_where_a_trial_was_stopped() -> None:
    curves = {"000": {100: 0.3, 200: 0.4}, "001": {100: 0.5}}
    stopped, finished = sorted(
        marks(curve_figure("likeness", TRIALS, curves, "000", floor=-9.0)), key=lambda m: -len(m.crosses)
    )
    assert (len(stopped.crosses), stopped.line, stopped.dots) == (1, (), ())
    assert stopped.label == "trial 001, stopped: likeness 0.5 at step 100"
    assert finished.label == "trial 000, finished: likeness 0.3 at step 100, 0.4 at step 200"
    assert (len(finished.line), finished.crosses, finished.tone) == (2, (), "champion")
    assert curve_figure("likeness", TRIALS, {}, None, floor=-9.0) is None


def test_a_faceless_trial_does_not_press_the_others_into_one_point() -> None:
    curves = {"000": {100: 0.3}, "001": {100: 0.5}, "002": {100: -62.2}}
    trials = [*TRIALS, trial("002", 0.0, 1.0, objective=-62.2)]
    drawn = marks(curve_figure("objective", trials, curves, None, floor=-62.2))
    heights = {mark.trial: (*mark.dots, *mark.crosses)[0][1] for mark in drawn}
    assert heights["002"] == 308.0, "on the lower edge"
    assert heights["000"] - heights["001"] == pytest.approx(284.0 / 1.08, abs=0.2)


def test_parallel_coordinates_go_through_settings_and_scores() -> None:
    space: Space = {
        "learning_rate": FloatRange(low=1e-4, high=1e-1, log=True),
        "targets": Choice(values=("some", "all")),
    }
    figure = parallel_figure(TRIALS, space, "001", floor=-9.0)
    other, champion = marks(figure)
    assert champion.label.startswith("trial 001: learning_rate 0.001, targets some; objective 0.5")
    assert [len(mark.line) for mark in (other, champion)] == [5, 5]
    assert other.line[1][1] < champion.line[1][1], "`all` stands above `some`"
    assert (other.tone, champion.tone) == ("poor", "champion")
    without = [{**TRIALS[0], "params": {"learning_rate": 1e-3}}, TRIALS[1]]
    assert [mark.trial for mark in marks(parallel_figure(without, space, None, floor=-9.0))] == ["001"]


def test_intervals_and_strengths() -> None:
    across = {"objective": {"lower": 0.4, "mean": 0.5, "upper": 0.6}}
    (mark,) = marks(interval_figure([{"trial": "001", "across_seeds": across}], "001"))
    assert mark.label == "trial 001: objective 0.5, interval 0.4 to 0.6"
    assert mark.line[0][0] < mark.dots[0][0] < mark.line[1][0]
    assert interval_figure([], None) is None
    points = [
        {"strength": strength, "metrics": {"likeness": strength / 2, "fidelity": 1 - strength / 10}}
        for strength in (1.0, 0.0, 0.5)
    ]
    likeness, fidelity = marks(strength_figure(points))
    assert likeness.label == "likeness: 0 at 0, 0.25 at 0.5, 0.5 at 1"
    assert fidelity.label == "fidelity: 1 at 0, 0.95 at 0.5, 0.9 at 1"
    assert [point[0] for point in likeness.line] == sorted(point[0] for point in likeness.line)
    assert strength_figure([]) is None


def test_a_bar_is_as_long_as_its_share() -> None:
    figure = importance_figure({"learning_rate": 0.75, "rank": 0.25})
    first, second = marks(figure)
    assert (first.label, second.label) == ("learning_rate: 0.75", "rank: 0.25")
    assert (first.line, first.dots) == (((190.0, 42.0), (569.5, 42.0)), ((569.5, 42.0),)), "three quarters of 506"
    assert second.line == ((190.0, 78.0), (316.5, 78.0))
    assert importance_figure({}) is None


def test_a_long_word_beside_a_tick_is_cut_and_not_left_out() -> None:
    choices = ("attention", "attention+feed_forward+convolutions")
    texts = [rule.text for rule in ParallelPlot(axes=(ChoiceAxis(title="targets", choices=choices),)).rules()]
    assert texts == ["targets", "attention", "attention+fee…"]
