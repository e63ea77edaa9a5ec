"""The figures of a search: which charts are drawn of it, once for its report and for `plots/` of its run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from evaluation.measures import FIDELITY, LIKENESS, OBJECTIVE, VALIDATION_LOSS
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig
from search.config.space import Space
from search.report import charts
from search.report.drawing import Drawing
from search.storage.result import SearchResult
from search.storage.result_schema import TrialResult
from search.storage.trial_record import CheckpointResult
from search.study.samplers.distributions import distributions
from trainer.files import write_file

CURVES = (OBJECTIVE, LIKENESS, FIDELITY, VALIDATION_LOSS)
"""Metrics that have a learning curve; the figure has the metric's name."""

FRONT, IMPORTANCE, PARALLEL = "likeness-fidelity", "importance", "parallel-coordinates"
INTERVALS, STRENGTHS = "intervals", "strengths"

PLOTS = (FRONT, IMPORTANCE, PARALLEL, *CURVES)
"""Names of the figures that are files as well."""

WORDS: Mapping[str, tuple[str, str]] = {
    FRONT: (
        "Likeness against fidelity",
        "A dot is a trial's best checkpoint, blue the champion's; the violet line joins the checkpoints that no other "
        "beats in both at once.",
    ),
    IMPORTANCE: (
        "Importance of settings",
        "What separates the best tenth of the trials from the others (PED-ANOVA), stopped ones included; shares of 1.",
    ),
    PARALLEL: (
        "What was searched and what came of it",
        "A line is a trial: green the best third by objective, red the worst, blue the champion. A trial whose images "
        "have no face lies on the edge.",
    ),
    INTERVALS: (
        "Objective in the final",
        "Each finalist over its own training and those with other seeds, over prompts and seeds; the highest mean "
        "leads.",
    ),
    STRENGTHS: (
        "By the adapter's strength",
        "Blue likeness, violet fidelity, on these few prompts alone; so strength 0 need not be exactly 0 and 1.",
    ),
    **{
        name: (name, "Every scored checkpoint of every trial; a cross where one was stopped or failed.")
        for name in CURVES
    },
}
"""Title and caption."""

FEWEST_TRIALS = 10
"""With fewer, the best tenth is not even one trial, and whatever it has would seem to matter."""


def draw_figures(result: SearchResult, config: SearchConfig) -> Mapping[str, Drawing]:
    """The figures that there is something to draw of, by name.

    Args:
        result: The outcome, also without a champion; its run folder holds the learning curves.
        config: Of its search.
    """
    outcome = result.outcome
    trials = outcome.trials
    champion = outcome.champion.trial if outcome.champion else None
    curves = read_curves(result.folder, trials)
    drawn = {
        FRONT: charts.front_chart(trials, outcome.front, champion),
        IMPORTANCE: charts.importance_chart(importance(trials, config.space)),
        PARALLEL: charts.parallel_chart(trials, config.space, champion),
        **{name: charts.curve_chart(name, trials, curves[name], champion) for name in CURVES},
        INTERVALS: charts.interval_chart(outcome.finalists, champion),
        STRENGTHS: charts.strength_chart(outcome.strengths.points if outcome.strengths else ()),
    }
    return {name: Drawing.of(*WORDS[name], chart) for name, chart in drawn.items() if chart is not None}


def write_plots(figures: Mapping[str, Drawing], folder: Path) -> tuple[Path, ...]:
    """Write `NAME.svg` into the folder `plots` of a run folder, and return the files."""
    paths = []
    for name in PLOTS:
        if name in figures:
            paths.append(folder / f"{name}.svg")
            write_file(paths[-1], partial(Path.write_text, data=figures[name].as_file(), encoding="utf-8"))
    return tuple(paths)


def read_curves(folder: Path, trials: Sequence[TrialResult]) -> Mapping[str, Mapping[str, charts.Curve]]:
    """Each of `CURVES` by trial, as metric by step. Where a report is gone, the result still has its objective.

    Args:
        folder: The run folder.
        trials: As in the result.
    """
    layout = RunLayout(folder)
    curves: dict[str, dict[str, dict[int, float]]] = {name: {} for name in CURVES}
    for trial in trials:
        for checkpoint in trial.checkpoints:
            report = CheckpointResult.find(layout.checkpoint(trial.id, checkpoint.step))
            metrics = report.metrics if report is not None else {OBJECTIVE: checkpoint.objective}
            for name in CURVES:
                if name in metrics:
                    curves[name].setdefault(trial.id, {})[checkpoint.step] = metrics[name]
    return curves


def importance(trials: Sequence[TrialResult], space: Space) -> Mapping[str, float]:
    """How much each setting separates the best tenth of the trials from the others: Optuna's PED-ANOVA (Watanabe et al.
    2023, arXiv:2304.10255); shares of 1, the greatest first.

    A trial counts with the objective of its best checkpoint, stopped or not: a setting with which trials are stopped
    matters. Ranks decide, so that the very low objective of a model without faces does not drown all else.

    Args:
        trials: As in the result; those without a score are left out.
        space: What varied.

    Returns:
        Nothing if there are too few trials, or if they do not differ.
    """
    ranges = distributions(space)
    scored = [
        optuna.trial.create_trial(
            params={name: trial.params[name] for name in ranges if name in trial.params},
            distributions={name: ranges[name] for name in ranges if name in trial.params},
            value=trial.metrics[OBJECTIVE],
        )
        for trial in trials
        if OBJECTIVE in trial.metrics
    ]
    if len(scored) < FEWEST_TRIALS or len({trial.value for trial in scored}) == 1:
        return {}
    study = optuna.create_study(direction="maximize")
    study.add_trials(scored)
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
