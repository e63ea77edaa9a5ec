"""`report.html`: the outcome of a search on one page that needs nothing else, not even a network.

`python -m search.report runs/NAME` writes it again from the run folder.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image

from evaluation.scores import METRICS, OBJECTIVE, PRINTED, Anchors
from search.config.run_layout import RunLayout
from search.config.search_config import ConfigurationError, SearchConfig
from search.photos.split import REFERENCE_PHOTOS, read_split
from search.report.curves import CURVES
from search.report.figures import interval_figure, strength_figure
from search.report.gallery import SIDE, Gallery, Grid, Thumbnails
from search.report.importance import importance
from search.report.page import page_environment
from search.report.plots import FRONT, PARALLEL, draw_plots
from search.report.tables import Account
from search.storage.result import SearchResult, read_result
from search.storage.run_folder import RunFolderError, read_config
from trainer.data.photos import CaptionedPhoto, PhotoFolderError, open_photo
from trainer.exit_codes import BAD_INPUT
from trainer.files import write_file

WHOLE_GRIDS = 4
"""Finalists of which every checkpoint is shown, the champion first."""


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a run that has ended, such as runs/demo.")],
) -> None:
    """Write a run's report.html again, from what its folder holds.

    Exit codes: 0 written, 2 bad input.
    """
    logging.getLogger("optuna").setLevel(logging.ERROR)
    try:
        config, result = read_config(run), read_result(run)
        try:
            photos: Sequence[CaptionedPhoto] = read_split(config.photos, config.evaluation.faces).reference
        except (PhotoFolderError, ValueError) as error:
            typer.secho(f"the report goes without photos: {error}", err=True)
            photos = ()
        typer.echo(write_report(result, photos))
    except (RunFolderError, ConfigurationError) as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None


def write_report(result: SearchResult, photos: Sequence[CaptionedPhoto]) -> Path:
    """Write `report.html` into the run folder; pictures are part of the file.

    Args:
        result: The outcome, also without a champion. Its run folder holds what else is shown.
        photos: Reference photos, of which a few are shown.

    Raises:
        RunFolderError: the run folder has no usable configuration.
    """
    config = read_config(result.folder)
    values = result.values
    environment = page_environment()
    environment.filters |= {"number": _number, "measure": _measure, "interval": _interval}
    page = environment.get_template("report.html").render(
        g={"nonce": secrets.token_urlsafe(16)},
        result=values,
        champion=values["champion"],
        shown=PRINTED,
        metrics=METRICS,
        params=_params(values["trials"]),
        states=Counter(trial["state"] for trial in values["trials"]),
        stopped=[trial for trial in values["trials"] if trial["state"] != "finished"],
        importance=importance(values["trials"], config.space),
        account=Account.of(config.budget, values["cost"]["budget"]),
        **_pictures(result, photos),
        **_figures(result, config),
    )
    path = RunLayout(result.folder).report
    write_file(path, lambda temporary: temporary.write_text(page, "utf-8"))
    return path


def _pictures(result: SearchResult, photos: Sequence[CaptionedPhoto]) -> dict[str, Any]:
    """What is shown as pictures, the most needed first: the album may become full."""
    values = result.values
    album = Thumbnails()
    gallery = Gallery(result.folder, album)
    real = None
    try:
        real = album.add(_opened(photos)) if photos else None
    except (OSError, ValueError) as error:  # Moved or changed since the search began.
        gallery.damaged.append(f"the real photos cannot be read ({error})")
    comparison = strengths = None
    whole: list[Grid] = []
    champion, sweep = values["champion"], values.get("strengths")
    if champion is not None:
        comparison = gallery.comparison(champion["trial"], champion["step"])
        if sweep is not None:
            strengths = gallery.strengths(sweep["points"], Anchors.from_metrics(values["anchors"]["final"]))
        best = {one["trial"]: one["step"] for one in (champion, *values["finalists"])}
    else:
        ranking = sorted(_scored(values["trials"]), key=lambda trial: -trial["metrics"][OBJECTIVE])
        best = {trial["id"]: trial["best_step"] for trial in ranking}
    for trial, step in list(best.items())[:WHOLE_GRIDS]:
        grid = gallery.checkpoints(trial, step)
        if grid is not None:
            whole.append(grid)
    every = gallery.trials(values["trials"], champion["trial"] if champion else None)
    return {
        "real": real,
        "comparison": comparison,
        "strengths": strengths,
        "sweep": sweep,
        "whole": whole,
        "every": every,
        "side": SIDE,
        "damaged": gallery.damaged,
    }


def _opened(photos: Sequence[CaptionedPhoto]) -> list[Image.Image]:
    return [open_photo(photo.path, SIDE, photo.crop) for photo in photos[:REFERENCE_PHOTOS]]


def _figures(result: SearchResult, config: SearchConfig) -> dict[str, Any]:
    values = result.values
    plots = draw_plots(result, config)
    strengths = values.get("strengths") or {"points": []}
    return {
        "front_figure": plots.get(FRONT),
        "curve_figures": [plots[name] for name in CURVES if name in plots],
        "parallel_figure": plots.get(PARALLEL),
        "interval_figure": interval_figure(
            values["finalists"], values["champion"]["trial"] if values["champion"] else None
        ),
        "strength_figure": strength_figure(strengths["points"]),
    }


def _params(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the settings that were searched."""
    return list(dict.fromkeys(name for trial in trials for name in trial["params"]))


def _scored(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [trial for trial in trials if trial["best_step"] is not None]


def _number(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _measure(value: float | None) -> str:
    # Plus 0: what rounds to nothing has no sign.
    return "-" if value is None else f"{round(value, 3) + 0.0:.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


if __name__ == "__main__":
    typer.run(main)
