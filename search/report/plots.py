"""The figures of a search as SVG files of their own, for MLflow and for other pages: `plots/` of a run folder.

Each stands alone: styles and words are within, nothing is fetched, and a mark tells its values under the pointer.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from evaluation.objective import objective_floor
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig
from search.report.curves import CURVES, read_curves
from search.report.figure import Figure
from search.report.figures import curve_figure, front_figure, importance_figure, parallel_figure
from search.report.importance import importance
from search.report.page import page_environment
from search.storage.result import SearchResult
from search.storage.run_folder import read_config
from trainer.files import write_file

FRONT, IMPORTANCE, PARALLEL = "likeness-fidelity", "importance", "parallel-coordinates"
"""Names of plots; those of learning curves have their metric's."""

CAPTIONS: Mapping[str, str] = {
    FRONT: "A dot is a trial's best checkpoint, blue the champion's; the violet line joins the checkpoints that no "
    "other beats in both at once.",
    IMPORTANCE: "What tells the best tenth of the trials from the others (PED-ANOVA), stopped ones included; "
    "shares of 1.",
    PARALLEL: "A line is a trial: green the best third by objective, red the worst, blue the champion. A trial whose "
    "images have no face lies on the edge.",
    **dict.fromkeys(CURVES, "Every scored checkpoint of every trial; a cross where one was stopped or failed."),
}

LINE_LENGTH = 110
"""Letters of a caption that fit below a figure."""


def draw_plots(result: SearchResult, config: SearchConfig) -> dict[str, Figure]:
    """The figures that there is something to draw of, by name.

    Args:
        result: The outcome, also without a champion; its run folder holds the learning curves.
        config: Of its search.
    """
    values = result.values
    trials = values["trials"]
    champion = values["champion"]["trial"] if values["champion"] else None
    floor = objective_floor(config.evaluation.objective)
    curves = read_curves(result.folder, trials)
    figures = {
        FRONT: front_figure(trials, values["front"], champion),
        IMPORTANCE: importance_figure(importance(trials, config.space)),
        PARALLEL: parallel_figure(trials, config.space, champion, floor=floor),
        **{name: curve_figure(name, trials, curves[name], champion, floor=floor) for name in CURVES},
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def write_plots(result: SearchResult) -> tuple[Path, ...]:
    """Write `plots/NAME.svg` into the run folder.

    Args:
        result: The outcome.

    Returns:
        The files.

    Raises:
        RunFolderError: the run folder has no usable configuration.
    """
    figures = draw_plots(result, read_config(result.folder))
    return tuple(_write(name, figure, RunLayout(result.folder).plots) for name, figure in figures.items())


def _write(name: str, figure: Figure, folder: Path) -> Path:
    caption = textwrap.wrap(CAPTIONS[name], LINE_LENGTH)
    text = page_environment().get_template("figure.svg").render(figure=figure, caption=caption)
    path = folder / f"{name}.svg"
    write_file(path, lambda temporary: temporary.write_text(text, "utf-8"))
    return path
