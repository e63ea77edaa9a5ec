"""The figures of a search's report, each drawn from the result and the metrics of its checkpoints. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from evaluation.scores import FACELESS_RATE, FIDELITY, LIKENESS, OBJECTIVE
from search.config.space import Choice, FloatRange, Space, Value
from search.report.axis import Axis, ChoiceAxis
from search.report.figure import Figure, Mark, ParallelPlot, Plot

Trial = Mapping[str, Any]
"""An entry of `trials` in the result."""

Curve = Mapping[int, float]
"""A metric by optimizer step."""

Tone = Literal["plain", "good", "middling", "poor", "champion", "second"]

ROW_HEIGHT = 34
"""Of a row in `interval_figure` and `importance_figure`."""

NAMES_WIDTH = 190
"""Room for the names of settings beside an axis."""


def front_figure(trials: Sequence[Trial], front: Sequence[Mapping[str, Any]], champion: str | None) -> Figure | None:
    """Likeness against fidelity of every trial's best checkpoint, and the front through the undominated ones.

    Args:
        trials: All of them; those without a score are left out.
        front: As in the result.
        champion: Name of the champion's trial.

    Returns:
        None where nothing was scored.
    """
    scored = [trial for trial in trials if LIKENESS in trial["metrics"]]
    if not scored:
        return None
    points = [trial["metrics"] for trial in scored] + list(front)
    plot = Plot(
        horizontal=Axis.around(FIDELITY, (point[FIDELITY] for point in points)),
        vertical=Axis.around(LIKENESS, (point[LIKENESS] for point in points)),
    )

    def at(metrics: Mapping[str, float]) -> tuple[float, float]:
        return plot.at(metrics[FIDELITY], metrics[LIKENESS])

    marks = [
        Mark(
            label=f"trial {trial['id']} at step {trial['best_step']}: {_measures(trial['metrics'])}",
            dots=(at(trial["metrics"]),),
            tone="champion" if trial["id"] == champion else "plain",
            trial=trial["id"],
        )
        for trial in sorted(scored, key=lambda trial: trial["metrics"][FIDELITY])
    ]
    if front:
        stations = "; ".join(f"trial {point['trial']} at step {point['step']}, {_measures(point)}" for point in front)
        line = Mark(label=f"the front: {stations}", line=tuple(at(point) for point in front), tone="second")
        marks.insert(0, line)
    return Figure(title="Likeness against fidelity", marks=tuple(marks), rules=plot.rules())


def curve_figure(
    name: str, trials: Sequence[Trial], curves: Mapping[str, Curve], champion: str | None, *, floor: float
) -> Figure | None:
    """A metric along the training of every trial; a cross where a trial was stopped or failed.

    Args:
        name: Of the metric.
        trials: All of them.
        curves: By trial; those without one are left out.
        champion: Name of the champion's trial.
        floor: Objective of a candidate that draws no face (`evaluation.objective.objective_floor`).

    Returns:
        None where there is no curve.
    """
    drawn = [trial for trial in trials if curves.get(trial["id"])]
    if not drawn:
        return None
    steps = [step for trial in drawn for step in curves[trial["id"]]]
    values = [value for trial in drawn for value in curves[trial["id"]].values()]
    plot = Plot(
        horizontal=Axis.around("optimizer steps", steps),
        vertical=Axis.around(name, _within_reach(values, floor)),
    )
    marks = []
    for trial in drawn:
        curve = sorted(curves[trial["id"]].items())
        points = tuple(plot.at(step, value) for step, value in curve)
        told = ", ".join(f"{_number(value)} at step {step}" for step, value in curve)
        ended = trial["state"] == "finished"
        marks.append(
            Mark(
                label=f"trial {trial['id']}, {trial['state']}: {name} {told}",
                line=points if len(points) > 1 else (),
                dots=points if ended and len(points) == 1 else (),
                crosses=() if ended else points[-1:],
                tone="champion" if trial["id"] == champion else "plain" if ended else "poor",
                trial=trial["id"],
            )
        )
    # What is drawn last lies on top.
    marks.sort(key=lambda mark: mark.tone == "champion")
    return Figure(title=name, marks=tuple(marks), rules=plot.rules())


def parallel_figure(trials: Sequence[Trial], space: Space, champion: str | None, *, floor: float) -> Figure | None:
    """A line a trial through what was searched and what came of it; the tone tells the third it is in by objective.

    Args:
        trials: Those without a score are left out, as are those that lack one of the settings.
        space: What varied.
        champion: Name of the champion's trial.
        floor: Objective of a candidate that draws no face.

    Returns:
        None where nothing was scored.
    """
    names = [name for name in space if any(name in trial["params"] for trial in trials)]
    drawn = [trial for trial in trials if OBJECTIVE in trial["metrics"] and set(names) <= set(trial["params"])]
    if not drawn:
        return None
    axes: list[Axis | ChoiceAxis] = []
    for name in names:
        axes.append(_setting_axis(name, space, [trial["params"][name] for trial in drawn]))
    measures = (LIKENESS, FIDELITY, OBJECTIVE)
    for name in measures:
        axes.append(Axis.around(name, _within_reach((trial["metrics"][name] for trial in drawn), floor)))
    plot = ParallelPlot(axes=tuple(axes))
    ranking = sorted(drawn, key=lambda trial: trial["metrics"][OBJECTIVE])
    tones: tuple[Tone, ...] = ("poor", "middling", "good")
    marks = []
    for place, trial in enumerate(ranking):
        settings = ", ".join(f"{name} {_number(trial['params'][name])}" for name in names)
        values = [trial["params"][name] for name in names] + [trial["metrics"][name] for name in measures]
        marks.append(
            Mark(
                label=f"trial {trial['id']}: {settings}; {_measures(trial['metrics'])}",
                line=plot.line(values),
                tone="champion" if trial["id"] == champion else tones[3 * place // len(ranking)],
                trial=trial["id"],
            )
        )
    marks.sort(key=lambda mark: mark.tone == "champion")
    return Figure(title="What was searched and what came of it", marks=tuple(marks), rules=plot.rules())


def importance_figure(shares: Mapping[str, float]) -> Figure | None:
    """How much each setting mattered, a bar each.

    Args:
        shares: Of 1, by setting, the greatest first (`search.report.importance`).

    Returns:
        None where nothing is known.
    """
    if not shares:
        return None
    plot = Plot(
        horizontal=Axis(title="share", lower=0.0, upper=1.0),
        vertical=ChoiceAxis(title="", choices=tuple(reversed(list(shares)))),
        left=NAMES_WIDTH,
        height=80 + ROW_HEIGHT * len(shares),
    )
    marks = [
        Mark(
            label=f"{name}: {_number(share)}",
            line=(plot.at(0.0, name), plot.at(share, name)),
            dots=(plot.at(share, name),),
            tone="second",
        )
        for name, share in shares.items()
    ]
    return Figure(title="Which settings mattered", marks=tuple(marks), rules=plot.rules(), height=plot.height)


def interval_figure(finalists: Sequence[Mapping[str, Any]], champion: str | None) -> Figure | None:
    """The finalists' objective over their trainings, prompts and seeds, each with its interval.

    Returns:
        None without a final.
    """
    shown = [(one["trial"], one["across_seeds"][OBJECTIVE]) for one in finalists if OBJECTIVE in one["across_seeds"]]
    if not shown:
        return None
    names = [f"trial {name}" for name, _ in shown]
    plot = Plot(
        horizontal=Axis.around(
            OBJECTIVE, [interval[end] for _, interval in shown for end in ("lower", "mean", "upper")]
        ),
        vertical=ChoiceAxis(title="", choices=tuple(reversed(names))),
        left=90,
        height=80 + ROW_HEIGHT * len(names),
    )
    marks = []
    for (name, interval), text in zip(shown, names, strict=True):
        lower, mean, upper = (plot.at(interval[end], text) for end in ("lower", "mean", "upper"))
        marks.append(
            Mark(
                label=f"{text}: objective {_number(interval['mean'])}, interval {_number(interval['lower'])} to "
                f"{_number(interval['upper'])}",
                line=(lower, upper),
                dots=(mean,),
                tone="champion" if name == champion else "plain",
                trial=name,
            )
        )
    return Figure(title="Objective in the final", marks=tuple(marks), rules=plot.rules(), height=plot.height)


def strength_figure(strengths: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Likeness and fidelity of the champion by the strength with which its adapter is applied.

    Returns:
        None where no strengths were tried.
    """
    if not strengths:
        return None
    ordered = sorted(strengths, key=lambda one: float(one["strength"]))
    plot = Plot(
        horizontal=Axis.around("adapter strength", (one["strength"] for one in ordered)),
        vertical=Axis.around(
            f"{LIKENESS}, {FIDELITY}", [one["metrics"][name] for one in ordered for name in (LIKENESS, FIDELITY)]
        ),
    )
    tones: Mapping[str, Tone] = {LIKENESS: "champion", FIDELITY: "second"}
    marks = []
    for name, tone in tones.items():
        points = tuple(plot.at(one["strength"], one["metrics"][name]) for one in ordered)
        told = ", ".join(f"{_number(one['metrics'][name])} at {one['strength']:g}" for one in ordered)
        marks.append(Mark(label=f"{name}: {told}", line=points, dots=points, tone=tone))
    return Figure(title="By the adapter's strength", marks=tuple(marks), rules=plot.rules())


def _setting_axis(name: str, space: Space, values: Sequence[Value]) -> Axis | ChoiceAxis:
    dimension = space[name]
    if isinstance(dimension, Choice):
        choices = [str(value) for value in dimension.values]
        # What came from elsewhere than the space, such as an earlier run.
        choices += sorted({str(value) for value in values} - set(choices))
        return ChoiceAxis(title=name, choices=tuple(choices))
    log = isinstance(dimension, FloatRange) and dimension.log
    return Axis.around(name, [float(value) for value in values], log=log)


def _within_reach(values: Iterable[float], floor: float) -> list[float]:
    """The values without those of candidates that draw no face: their objective is so low that all others would be one
    point. They lie on the edge."""
    known = list(values)
    return [value for value in known if value > floor] or known


def _measures(metrics: Mapping[str, float]) -> str:
    names = (OBJECTIVE, LIKENESS, FIDELITY, FACELESS_RATE)
    return ", ".join(f"{name} {_number(metrics[name])}" for name in names if name in metrics)


def _number(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
