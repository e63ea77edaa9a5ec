"""Charts of the report: their marks, what these say and where they lie, by hand."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree

import altair
import pytest

from evaluation.bootstrap import Interval
from evaluation.config import ObjectiveConfig
from evaluation.objective import objective_floor
from search.config.space import Choice, FloatRange, Space
from search.report.axis import Axis
from search.report.charts import (
    CHAMPION,
    HEIGHT,
    PLAIN,
    POOR,
    SECOND,
    WIDTH,
    curve_chart,
    front_chart,
    importance_chart,
    interval_chart,
    parallel_chart,
    strength_chart,
)
from search.report.drawing import Drawing
from search.storage.result_schema import FinalistResult, FrontPoint, StrengthPoint, TrialResult


def trial(name: str, likeness: float, fidelity: float, *, objective: float, state: str = "finished") -> TrialResult:
    return TrialResult.model_construct(
        id=name,
        state=state,
        best_step=100,
        metrics={"objective": objective, "likeness": likeness, "fidelity": fidelity, "faceless_rate": 0.0},
        params={"learning_rate": 10.0 ** -(int(name) + 2), "targets": "all" if name == "000" else "some"},
    )


TRIALS = [trial("000", 0.2, 1.0, objective=0.4), trial("001", 0.6, 0.9, objective=0.5, state="stopped")]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A mark as it is drawn."""

    label: str
    address: str
    colour: str
    points: tuple[tuple[float, float], ...]
    """Of a line; of a disc or a bar, where its outline begins."""


def drawn(chart: altair.LayerChart | None) -> ElementTree.Element:
    assert chart is not None
    return ElementTree.fromstring(f"<svg>{Drawing.of('', '', chart).content}</svg>")


def marks(chart: altair.LayerChart | None) -> list[Mark]:
    return [
        Mark(
            label=mark.get("aria-label", ""),
            address=mark.get("href", ""),
            colour=mark[-1].get("stroke", "") if mark[0].get("class") else mark[-1].get("fill", ""),
            points=places(mark[-1]),
        )
        for mark in drawn(chart).iter()
        if mark.get("class") == "mark"
    ]


def places(shape: ElementTree.Element) -> tuple[tuple[float, float], ...]:
    shifted = re.match(r"translate\((.+),(.+)\)", shape.get("transform", "translate(0,0)"))
    assert shifted
    pairs = re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", shape.get("d", ""))
    return tuple((float(x) + float(shifted[1]), float(y) + float(shifted[2])) for x, y in pairs)


def crosses(chart: altair.LayerChart | None) -> list[tuple[float, float]]:
    """Where crosses lie: their parts are no marks of their own."""
    hidden = [group for group in drawn(chart).iter("g") if group.get("aria-hidden")]
    paths = [path for group in hidden for path in group.iter("path") if path.get("stroke") == POOR]
    corners = [places(path) for path in paths]
    return [((one[0][0] + one[1][0]) / 2, (one[0][1] + one[1][1]) / 2) for one in corners]


def test_the_front_leads_to_its_trials() -> None:
    front = [
        FrontPoint(trial="001", step=100, likeness=0.6, fidelity=0.9, faceless_rate=0.0),
        FrontPoint(trial="000", step=100, likeness=0.2, fidelity=1.0, faceless_rate=0.0),
    ]
    line, right, left = marks(front_chart(TRIALS, front, "001"))
    scores = {"000": "objective 0.4, likeness 0.2, fidelity 1, faceless_rate 0"}
    scores["001"] = "objective 0.5, likeness 0.6, fidelity 0.9, faceless_rate 0"
    assert line.label == (
        "the front: trial 001 at step 100, likeness 0.6, fidelity 0.9, faceless_rate 0; "
        "trial 000 at step 100, likeness 0.2, fidelity 1, faceless_rate 0"
    )
    assert (line.address, line.colour, len(line.points)) == ("", SECOND, 2)
    assert (right.label, right.address) == (f"trial 001 at step 100: {scores['001']}", "#trial-001")
    assert (left.label, left.address) == (f"trial 000 at step 100: {scores['000']}", "#trial-000")
    assert (right.colour, left.colour) == (CHAMPION, PLAIN)
    # Fidelity 0.9 and 1 lie 4 hundredths of their distance within both ends, likeness 0.2 and 0.6 likewise.
    expected = [(WIDTH * part / 1.08, HEIGHT * part / 1.08) for part in (0.04, 1.04)]
    assert list(line.points) == [pytest.approx(point, abs=0.001) for point in expected]
    assert right.points[0][0] < left.points[0][0], "fidelity grows to the right"
    assert right.points[0][1] < left.points[0][1], "likeness grows upwards"
    assert front_chart([], [], None) is None


def test_curves_end_in_a_cross_where_a_trial_was_stopped() -> None:
    curves = {"000": {200: 0.4, 100: 0.3}, "001": {100: 0.5}}
    chart = curve_chart("likeness", TRIALS, curves, "000")
    stopped, finished = marks(chart)
    assert stopped.label == "trial 001, stopped: likeness 0.5 at step 100"
    assert finished.label == "trial 000, finished: likeness 0.3 at step 100, 0.4 at step 200"
    assert (stopped.address, finished.address) == ("#trial-001", "#trial-000")
    assert (stopped.colour, finished.colour) == (POOR, CHAMPION)
    assert [len(mark.points) for mark in (stopped, finished)] == [1, 2]
    assert crosses(chart) == [pytest.approx(stopped.points[0], abs=0.01)]
    assert finished.points[0][0] < finished.points[1][0]
    assert curve_chart("likeness", TRIALS, {}, None) is None


def test_a_faceless_trial_does_not_press_the_others_into_one_point() -> None:
    """Scores are bounded, so that the axis may hold them all."""
    floor = objective_floor(ObjectiveConfig())
    curves = {"000": {100: 0.3}, "001": {100: 0.5}, "002": {100: floor}}
    trials = [*TRIALS, trial("002", 0.0, 1.0, objective=floor)]
    heights = [mark.points[0][1] for mark in marks(curve_chart("objective", trials, curves, None))]
    assert heights[2] == max(heights)
    assert heights[0] - heights[1] > HEIGHT / 12


def test_parallel_coordinates_go_through_settings_and_scores() -> None:
    space: Space = {
        "learning_rate": FloatRange(low=1e-4, high=1e-1, log=True),
        "targets": Choice(values=("some", "all")),
    }
    chart = parallel_chart(TRIALS, space, "001")
    other, champion = marks(chart)
    assert champion.label == (
        "trial 001: learning_rate 0.001, targets some; objective 0.5, likeness 0.6, fidelity 0.9, faceless_rate 0"
    )
    assert champion.address == "#trial-001"
    assert (other.colour, champion.colour) == (POOR, CHAMPION)
    low, high = (pytest.approx(HEIGHT * part / 1.08, abs=0.001) for part in (1.04, 0.04))
    assert [y for _, y in champion.points] == [low, HEIGHT * 0.75, high, low, high]
    assert [y for _, y in other.points] == [high, HEIGHT * 0.25, low, high, low], "`all` stands above `some`"
    assert [x for x, _ in champion.points] == [WIDTH * number / 4 for number in range(5)]
    texts = [text.text for text in drawn(chart).iter("text")]
    assert {"learning_rate", "targets", "likeness", "fidelity", "objective", "some", "all"} <= set(texts)
    without = [TRIALS[0].model_copy(update={"params": {"learning_rate": 1e-3}}), TRIALS[1]]
    assert [mark.address for mark in marks(parallel_chart(without, space, None))] == ["#trial-001"]
    assert parallel_chart([], space, None) is None


def test_a_long_word_beside_an_axis_is_cut_and_not_left_out() -> None:
    space: Space = {"targets": Choice(values=("attention", "attention+feed_forward+convolutions"))}
    trials = [TRIALS[0].model_copy(update={"params": {"targets": "attention"}})] * 2
    texts = [text.text or "" for text in drawn(parallel_chart(trials, space, None)).iter("text")]
    assert "attention" in texts
    assert [text[-1] for text in texts if text.startswith("attention+")] == ["…"]


def test_intervals_and_strengths() -> None:
    across = {"objective": Interval(lower=0.4, mean=0.5, upper=0.6)}
    finalist = FinalistResult.model_construct(trial="001", across_seeds=across)
    (mark,) = marks(interval_chart([finalist], "001"))
    assert mark.label == "trial 001: objective 0.5, interval 0.4 to 0.6"
    assert (mark.address, mark.colour) == ("#trial-001", CHAMPION)
    assert [x for x, _ in mark.points] == [pytest.approx(WIDTH * part / 1.08, abs=0.001) for part in (0.04, 1.04)]
    assert interval_chart([], None) is None
    points = [
        StrengthPoint(strength=strength, folder="", metrics={"likeness": strength / 2, "fidelity": 1 - strength / 10})
        for strength in (1.0, 0.0, 0.5)
    ]
    likeness, fidelity = marks(strength_chart(points))
    assert likeness.label == "likeness: 0 at 0, 0.25 at 0.5, 0.5 at 1"
    assert fidelity.label == "fidelity: 1 at 0, 0.95 at 0.5, 0.9 at 1"
    assert (likeness.colour, fidelity.colour) == (CHAMPION, SECOND)
    assert [x for x, _ in likeness.points] == sorted(x for x, _ in likeness.points)
    assert strength_chart([]) is None


def test_a_bar_is_as_long_as_its_share() -> None:
    chart = importance_chart({"learning_rate": 0.75, "rank": 0.25})
    assert [mark.label for mark in marks(chart)] == ["learning_rate: 0.75", "rank: 0.25"]
    bars = [mark[0].get("d", "") for mark in drawn(chart).iter() if mark.get("class") == "mark"]
    assert [re.findall(r"h([\d.]+)", bar)[0] for bar in bars] == [f"{WIDTH * share:g}" for share in (0.75, 0.25)]
    assert {"0.750", "0.250"} <= {text.text for text in drawn(chart).iter("text")}
    assert importance_chart({}) is None


def test_an_axis_around_values_is_never_empty() -> None:
    air = Axis.around([1.0, 2.0])
    assert (air.lower, air.upper) == pytest.approx((0.96, 2.04))
    single = Axis.around([3.0])
    assert (single.lower, single.upper) == (2.5, 3.5)
    logarithmic = Axis.around([1e-3], log=True)
    assert (logarithmic.lower, logarithmic.upper) == pytest.approx((5e-4, 2e-3))


def test_an_axis_places_values_between_its_ends() -> None:
    axis = Axis(lower=2.0, upper=4.0)
    assert [axis.place(value) for value in (1.0, 2.0, 3.0, 4.0, 9.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert Axis(lower=1e-4, upper=1e-2, log=True).place(1e-3) == pytest.approx(0.5)
    choices = Axis(choices=("4", "8"))
    assert (choices.place(4), choices.place(8)) == (0.25, 0.75)
    with pytest.raises(ValueError, match="tuple"):
        choices.place(5)
