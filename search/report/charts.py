"""The charts of a search's report, each from the result and the metrics of its checkpoints. Pure.

A mark's `label` says what it is and its values, in words; with `href` it leads to its trial's row in the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import altair as alt

from evaluation.measures import FACELESS_RATE, FIDELITY, LIKENESS, OBJECTIVE
from search.config.space import Choice, FloatRange, IntRange, Space, Value
from search.report.axis import Axis
from search.storage.result_schema import FinalistResult, FrontPoint, StrengthPoint, TrialResult

Curve = Mapping[int, float]
"""A metric by optimizer step."""

WIDTH, HEIGHT = 630, 280
"""Of the area between the axes; the page scales the whole."""

ROW_HEIGHT = 34
"""Of a finalist or a setting that has its own row."""

CROSS = "M-1,-1L1,1M-1,1L1,-1"

PLAIN, GOOD, MIDDLING, POOR, CHAMPION, SECOND = (
    f"var(--{name})" for name in ("quiet", "good", "middling", "poor", "accent", "second")
)
"""Colours: variables of the page's style, so that they follow light and dark mode."""


def front_chart(
    trials: Sequence[TrialResult], front: Sequence[FrontPoint], champion: str | None
) -> alt.LayerChart | None:
    """Likeness against fidelity of every trial's best checkpoint, and the front through those that none dominates.

    Args:
        trials: All of them; those without a score are left out.
        front: As in the result.
        champion: Name of the champion's trial.

    Returns:
        None where nothing was scored.
    """
    scored = [trial for trial in trials if LIKENESS in trial.metrics]
    if not scored:
        return None
    line = [{LIKENESS: one.likeness, FIDELITY: one.fidelity, FACELESS_RATE: one.faceless_rate} for one in front]
    points = [trial.metrics for trial in scored] + line
    x = alt.X(f"{FIDELITY}:Q", title=FIDELITY, scale=Axis.around(point[FIDELITY] for point in points).scale)
    y = alt.Y(f"{LIKENESS}:Q", title=LIKENESS, scale=Axis.around(point[LIKENESS] for point in points).scale)
    stations = "; ".join(
        f"trial {one.trial} at step {one.step}, {_measures(point)}" for one, point in zip(front, line, strict=True)
    )
    front_rows = [{**point, "mark": "front", "label": f"the front: {stations}", **_pen(SECOND)} for point in line]
    dots = [
        {
            **trial.metrics,
            "label": f"trial {trial.id} at step {trial.best_step}: {_measures(trial.metrics)}",
            "href": f"#trial-{trial.id}",
            **_pen(CHAMPION if trial.id == champion else PLAIN),
        }
        for trial in sorted(scored, key=lambda trial: trial.metrics[FIDELITY])
    ]
    circles = _dots(dots, aria=True).encode(x, y, description="label:N", href="href:N")
    return _chart(_lines(front_rows).encode(x, y), circles)


def curve_chart(
    name: str, trials: Sequence[TrialResult], curves: Mapping[str, Curve], champion: str | None
) -> alt.LayerChart | None:
    """A metric along the training of every trial; a cross where a trial was stopped or failed.

    Args:
        name: Of the metric.
        trials: All of them.
        curves: By trial; those without one are left out.
        champion: Name of the champion's trial.

    Returns:
        None where there is no curve.
    """
    # What is drawn last lies on top.
    drawn = sorted((trial for trial in trials if curves.get(trial.id)), key=lambda trial: trial.id == champion)
    if not drawn:
        return None
    values = [value for trial in drawn for value in curves[trial.id].values()]
    x = alt.X(
        "step:Q",
        title="optimizer steps",
        scale=Axis.around(step for trial in drawn for step in curves[trial.id]).scale,
    )
    y = alt.Y("value:Q", title=name, scale=Axis.around(values).scale)
    lines, ends = [], []
    for trial in drawn:
        finished = trial.state == "finished"
        pen = _pen(CHAMPION if trial.id == champion else PLAIN if finished else POOR)
        curve = sorted(curves[trial.id].items())
        values_in_words = ", ".join(f"{_number(value)} at step {step}" for step, value in curve)
        label = f"trial {trial.id}, {trial.state}: {name} {values_in_words}"
        line = [{"step": step, "value": value, **pen} for step, value in curve]
        lines += [{**point, "mark": trial.id, "label": label, "href": f"#trial-{trial.id}"} for point in line]
        if not finished or len(line) == 1:
            ends.append({**line[-1], "shape": "circle" if finished else CROSS})
    marks = alt.Chart(alt.Data(values=ends)).mark_point(aria=False, size=60, strokeWidth=2, opacity=1)
    stroke, fill = alt.Stroke("colour:N", scale=None), alt.Fill("colour:N", scale=None)
    marks = marks.encode(x, y, stroke, fill, shape=alt.Shape("shape:N", scale=None))
    return _chart(_lines(lines).encode(x, y, href="href:N"), marks)


def parallel_chart(trials: Sequence[TrialResult], space: Space, champion: str | None) -> alt.LayerChart | None:
    """A line a trial through what was searched and what came of it; its colour says which third by objective it is in.

    Args:
        trials: Those without a score are left out, as are those that lack one of the settings.
        space: What varied.
        champion: Name of the champion's trial.

    Returns:
        None where nothing was scored.
    """
    names = [name for name in space if any(name in trial.params for trial in trials)]
    drawn = [trial for trial in trials if OBJECTIVE in trial.metrics and set(names) <= set(trial.params)]
    if not drawn:
        return None
    axes = {name: _setting_axis(space, name, [trial.params[name] for trial in drawn]) for name in names}
    for name in (LIKENESS, FIDELITY, OBJECTIVE):
        axes[name] = Axis.around(trial.metrics[name] for trial in drawn)
    ranking = sorted(drawn, key=lambda trial: trial.metrics[OBJECTIVE])
    colours = {trial.id: (POOR, MIDDLING, GOOD)[3 * place // len(ranking)] for place, trial in enumerate(ranking)}
    rows = []
    for trial in sorted(ranking, key=lambda trial: trial.id == champion):
        settings = ", ".join(f"{name} {_number(trial.params[name])}" for name in names)
        mark = {
            "mark": trial.id,
            "label": f"trial {trial.id}: {settings}; {_measures(trial.metrics)}",
            "href": f"#trial-{trial.id}",
            **_pen(CHAMPION if trial.id == champion else colours[trial.id]),
        }
        values = {**trial.metrics, **{name: trial.params[name] for name in names}}
        rows += [
            {"axis": number, "place": axis.place(values[name]), **mark}
            for number, (name, axis) in enumerate(axes.items())
        ]
    last = len(axes) - 1
    x = alt.X("axis:Q", axis=None, scale=alt.Scale(domain=[0, last], nice=False))
    y = alt.Y("place:Q", axis=None, scale=Axis().scale)
    upright = [_upright(name, axis, number, WIDTH / last) for number, (name, axis) in enumerate(axes.items())]
    return _chart(_lines(rows).encode(x, y, href="href:N"), *upright)


def importance_chart(shares: Mapping[str, float]) -> alt.LayerChart | None:
    """How much each setting mattered, a bar each.

    Args:
        shares: Of 1, by setting, the greatest first (`search.report.figures.importance`).

    Returns:
        None where nothing is known.
    """
    if not shares:
        return None
    rows = [{"name": name, "share": share, "label": f"{name}: {_number(share)}"} for name, share in shares.items()]
    x = alt.X("share:Q", title="share", scale=Axis().scale)
    y = alt.Y("name:N", sort=None, title=None)
    base = alt.Chart(alt.Data(values=rows)).encode(x, y)
    return _chart(
        base.mark_bar(height=12, color=SECOND).encode(description="label:N"),
        base.mark_text(aria=False, align="left", dx=6, fontSize=12).encode(text=alt.Text("share:Q", format=".3f")),
        height=ROW_HEIGHT * len(rows),
    )


def interval_chart(finalists: Sequence[FinalistResult], champion: str | None) -> alt.LayerChart | None:
    """The finalists' objective over their trainings, prompts and seeds, each with its interval.

    Returns:
        None without a final.
    """
    shown = [(one.trial, one.across_seeds[OBJECTIVE]) for one in finalists if OBJECTIVE in one.across_seeds]
    if not shown:
        return None
    ends, means = [], []
    for trial, interval in shown:
        lower, mean, upper = interval.lower, interval.mean, interval.upper
        row = {
            "mark": f"trial {trial}",
            "label": f"trial {trial}: objective {_number(mean)}, interval {_number(lower)} to {_number(upper)}",
            "href": f"#trial-{trial}",
            **_pen(CHAMPION if trial == champion else PLAIN),
        }
        ends += [{**row, "value": lower}, {**row, "value": upper}]
        means.append({**row, "value": mean})
    x = alt.X(
        "value:Q",
        title=OBJECTIVE,
        scale=Axis.around(end for _, interval in shown for end in vars(interval).values()).scale,
    )
    y = alt.Y("mark:N", sort=None, title=None)
    lines, dots = _lines(ends).encode(x, y, href="href:N"), _dots(means).encode(x, y)
    return _chart(lines, dots, height=ROW_HEIGHT * len(shown))


def strength_chart(strengths: Sequence[StrengthPoint]) -> alt.LayerChart | None:
    """Likeness and fidelity of the champion by the strength with which its adapter is applied.

    Returns:
        None where no strengths were tried.
    """
    if not strengths:
        return None
    ordered = sorted(strengths, key=lambda one: one.strength)
    rows = []
    for name, colour in ((LIKENESS, CHAMPION), (FIDELITY, SECOND)):
        label = f"{name}: " + ", ".join(f"{_number(one.metrics[name])} at {one.strength:g}" for one in ordered)
        rows += [
            {"x": one.strength, "y": one.metrics[name], "mark": name, "label": label, **_pen(colour)} for one in ordered
        ]
    x = alt.X("x:Q", title="adapter strength", scale=Axis.around(one.strength for one in ordered).scale)
    y = alt.Y(
        "y:Q",
        title=f"{LIKENESS}, {FIDELITY}",
        scale=Axis.around(one.metrics[name] for one in ordered for name in (LIKENESS, FIDELITY)).scale,
    )
    return _chart(_lines(rows).encode(x, y), _dots(rows).encode(x, y))


def _chart(*layers: alt.Chart, height: int = HEIGHT) -> alt.LayerChart:
    quiet, ink = "var(--quiet)", "var(--ink)"
    chart: alt.LayerChart = (
        alt.LayerChart(layer=list(layers))
        .resolve_scale(y="independent" if len(layers) > 2 else "shared")
        .properties(width=WIDTH, height=height, padding={"left": 30, "right": 12, "top": 10, "bottom": 6})
        .configure(font="system-ui, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            domainColor=quiet,
            gridColor="var(--line)",
            labelColor=quiet,
            labelFontSize=12,
            labelLimit=190,
            tickColor=quiet,
            tickCount=6,
            titleColor=ink,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_axisY(minExtent=45, titlePadding=8)
        .configure_text(color=quiet)
    )
    return chart


def _lines(rows: Sequence[Mapping[str, object]]) -> alt.Chart:
    """One line through the rows of each `mark`."""
    lines: alt.Chart = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_line(strokeCap="round", strokeJoin="round")
        .encode(
            detail="mark:N",
            description="label:N",
            stroke=alt.Stroke("colour:N", scale=None),
            strokeWidth=alt.StrokeWidth("width:Q", scale=None),
            strokeOpacity=alt.StrokeOpacity("opacity:Q", scale=None),
        )
    )
    return lines


def _dots(rows: Sequence[Mapping[str, object]], *, aria: bool = False) -> alt.Chart:
    """A disc at each row; a mark of its own with `aria`, else a part of the line below it."""
    dots: alt.Chart = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_circle(aria=aria, opacity=1, stroke="var(--card)", strokeWidth=1)
        .encode(fill=alt.Fill("colour:N", scale=None), size=alt.Size("size:Q", scale=None))
    )
    return dots


def _pen(colour: str) -> dict[str, object]:
    strong = colour in (CHAMPION, SECOND)
    return {
        "colour": colour,
        "width": 3.0 if strong else 1.3,
        "opacity": 1.0 if strong else 0.65,
        "size": 150 if colour == CHAMPION else 80,
    }


def _upright(name: str, axis: Axis, number: int, gap: float) -> alt.Chart:
    """An axis of parallel coordinates, without marks; titles stand at two heights, so that long ones do not meet."""
    drawn = alt.Axis(
        orient="right",
        offset=round(number * gap) - WIDTH,
        grid=False,
        labelLimit=gap - 14,
        titleAlign="center",
        titleAngle=0,
        titleX=0,
        titleY=HEIGHT + (36 if number % 2 else 18),
        zindex=1,
    )
    kind: Literal["ordinal", "quantitative"] = "ordinal" if axis.choices else "quantitative"
    unseen = alt.Chart(alt.Data(values=[{"value": axis.choices[0] if axis.choices else axis.lower}]))
    y = alt.Y("value", type=kind, title=name, scale=axis.scale, axis=drawn)
    chart: alt.Chart = unseen.mark_point(aria=False, opacity=0).encode(y)
    return chart


def _setting_axis(space: Space, name: str, values: Sequence[Value]) -> Axis:
    dimension = space[name]
    if isinstance(dimension, Choice):
        # An earlier run may have had other choices.
        return Axis(choices=tuple(dict.fromkeys([*map(str, dimension.values), *sorted(map(str, values))])))
    return Axis.around(map(float, values), log=isinstance(dimension, FloatRange | IntRange) and dimension.log)


def _measures(metrics: Mapping[str, float]) -> str:
    names = (OBJECTIVE, LIKENESS, FIDELITY, FACELESS_RATE)
    return ", ".join(f"{name} {_number(metrics[name])}" for name in names if name in metrics)


def _number(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
