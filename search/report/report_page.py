"""`report.html`: the outcome of a search on one page that needs nothing else, not even a network."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from evaluation.judges import known_metrics
from evaluation.measures import JUDGED_BY, METERS, OBJECTIVE, printed
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig
from search.photos.split import REFERENCE_PHOTOS
from search.report.drawing import Drawing
from search.report.figures import CURVES, FRONT, IMPORTANCE, INTERVALS, PARALLEL, STRENGTHS
from search.report.gallery import SIDE, Gallery, Grid, Strip, Thumbnails
from search.report.page import page_environment
from search.report.tables import Account
from search.storage.result import SearchResult
from trainer.data.photos import CaptionedPhoto, open_photo
from trainer.files import write_file

WHOLE_GRIDS = 4
"""Finalists of which every checkpoint is shown, the champion first."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What is shown as pictures; None where there is nothing to show."""

    real: Strip | None
    """The person, in real photos."""
    comparison: Grid | None
    strengths: Grid | None
    whole: tuple[Grid, ...]
    """Trials of which every checkpoint is shown."""
    every: Grid | None
    """Every trial at its best checkpoint."""
    damaged: tuple[str, ...]
    """What could not be read, in words."""


def write_report(
    result: SearchResult, config: SearchConfig, photos: Sequence[CaptionedPhoto], figures: Mapping[str, Drawing]
) -> Path:
    """Write `report.html` into the run folder; pictures are part of the file.

    Args:
        result: The outcome, also without a champion. Its run folder holds what else is shown.
        config: Of its search.
        photos: Reference photos, of which a few are shown.
        figures: As `search.report.figures.draw_figures` makes them.
    """
    outcome = result.outcome
    environment = page_environment()
    environment.filters |= {"number": _number, "measure": _measure, "interval": _interval}
    page = environment.get_template("report.html").render(
        g={"nonce": secrets.token_urlsafe(16)},
        result=outcome,
        champion=outcome.champion,
        shown=printed(outcome.base.final),
        columns=(*JUDGED_BY, *METERS),
        metrics=known_metrics(config.evaluation.judges, config.evaluation.objective),
        params=list(dict.fromkeys(name for trial in outcome.trials for name in trial.params)),
        states=Counter(trial.state for trial in outcome.trials),
        stopped=[trial for trial in outcome.trials if trial.state != "finished"],
        cost=outcome.cost.model_dump(exclude={"budget"}),
        account=Account.of(config.budget, outcome.cost.budget),
        pictures=_pictures(result, photos),
        side=SIDE,
        front=figures.get(FRONT),
        importance=figures.get(IMPORTANCE),
        parallel=figures.get(PARALLEL),
        intervals=figures.get(INTERVALS),
        strengths=figures.get(STRENGTHS),
        curves=[figures[name] for name in CURVES if name in figures],
    )
    path = RunLayout(result.folder).report
    write_file(path, lambda temporary: temporary.write_text(page, "utf-8"))
    return path


def _pictures(result: SearchResult, photos: Sequence[CaptionedPhoto]) -> Pictures:
    """The most needed first: the thumbnails may take up all the room there is."""
    outcome = result.outcome
    thumbnails = Thumbnails()
    gallery = Gallery(result.folder, thumbnails)
    real = comparison = strengths = None
    try:
        real = thumbnails.add(_opened(photos)) if photos else None
    except (OSError, ValueError) as error:  # Moved or changed since the search began.
        gallery.damaged.append(f"the real photos cannot be read ({error})")
    champion = outcome.champion
    if champion is not None:
        comparison = gallery.comparison(champion.trial, champion.step, champion.shipped_seed)
        if outcome.strengths is not None:
            strengths = gallery.strengths(outcome.strengths.points, outcome.anchors["final"].anchors)
        best = {champion.trial: champion.step, **{one.trial: one.step for one in outcome.finalists}}
    else:
        ranking = sorted(outcome.trials, key=lambda trial: -trial.metrics.get(OBJECTIVE, 0.0))
        best = {trial.id: trial.best_step for trial in ranking if trial.best_step is not None}
    whole = [gallery.checkpoints(trial, step) for trial, step in list(best.items())[:WHOLE_GRIDS]]
    every = gallery.trials(outcome.trials, champion.trial if champion else None)
    return Pictures(
        real=real,
        comparison=comparison,
        strengths=strengths,
        whole=tuple(grid for grid in whole if grid is not None),
        every=every,
        damaged=tuple(gallery.damaged),
    )


def _opened(photos: Sequence[CaptionedPhoto]) -> list[Image.Image]:
    return [open_photo(photo, SIDE) for photo in photos[:REFERENCE_PHOTOS]]


def _number(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _measure(value: float | None) -> str:
    # Plus 0: what rounds to nothing has no sign.
    return "-" if value is None else f"{round(value, 3) + 0.0:.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"
