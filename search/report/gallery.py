"""The pictures of a run folder with their scores: which of them a report shows, in which rows and columns."""

from __future__ import annotations

import base64
import io
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet
from PIL import Image, ImageOps

from evaluation.grid import grid_images, image_grid
from evaluation.measures import OBJECTIVE
from evaluation.scores import Anchors
from evaluation.terms import FIDELITY_TERM, LIKENESS_TERM
from search.config.run_layout import GRID_FILE, RunLayout, checkpoint_folder
from search.report.tables import BASE
from search.storage.result_schema import StrengthPoint, TrialResult
from search.storage.trial_record import CheckpointResult

FULL_COLUMNS = 48
"""Most pictures of a checkpoint in a whole grid."""

SHORT_COLUMNS = 12
"""Most pictures of a checkpoint where every trial has a row: one a prompt."""

MOST_CHECKPOINTS = 10
"""Most rows of a whole grid; with more checkpoints, evenly spread ones and always the best."""

PROMPT_LENGTH = 80
"""Longest prompt in the words on a picture; the list of prompts has them whole."""


@dataclass(frozen=True, kw_only=True)
class ScoredPicture:
    """A picture and what is said of it."""

    prompt_index: int
    prompt: str
    seed: int
    face_found: bool
    likeness: float
    fidelity: float

    def __str__(self) -> str:
        face = f"likeness {self.likeness:.2f}" if self.face_found else "no face"
        return f"{face}, fidelity {self.fidelity:.2f}"


class Source(NamedTuple):
    """A scored checkpoint."""

    prompt_set: str
    candidate: str
    step: int
    training_seed: int | None = None
    """Of a retraining; None for the trial's own."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A row of a grid."""

    title: str
    strip: Strip
    labels: tuple[str, ...]
    """What each picture is and its scores."""
    trial: str = ""
    """The trial whose row in the table the title leads to."""
    champion: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Rows of pictures, all on the same prompts and seeds."""

    title: str
    columns: tuple[str, ...]
    """Heads."""
    prompts: tuple[str, ...]
    """In the order of their numbers in the heads."""
    lines: tuple[Line, ...]
    left_out: tuple[str, ...] = ()
    """What is not shown, and by which rule."""


class Gallery:
    """Pictures of one run folder.

    Args:
        folder: The run folder.
        thumbnails: Where the pictures go.
    """

    def __init__(self, folder: Path, thumbnails: Thumbnails) -> None:
        self._folder = folder
        self._thumbnails = thumbnails
        self.damaged: list[str] = []
        """What could not be read, in words."""
        self._rows: dict[Source, list[ScoredPicture]] = defaultdict(list)
        path = RunLayout(folder).image_table
        for row in pyarrow.parquet.read_table(path).to_pylist() if path.is_file() else ():
            if row["shows"] == "person":
                picture = ScoredPicture(**{field.name: row[field.name] for field in fields(ScoredPicture)})
                self._rows[Source(**{name: row[name] for name in Source._fields})].append(picture)

    def comparison(self, trial: str, step: int, training_seed: int | None) -> Grid | None:
        """The untuned model and the champion on the final prompts, one picture a prompt."""
        base, champion = Source("final", BASE, 0), Source("final", trial, step, training_seed)
        lines = [
            self._line(base, "untuned model", every_seed=False),
            self._line(champion, f"champion, trial {trial}", every_seed=False, champion=True),
        ]
        return self._grid("Untuned model and champion", self._chosen(base, every_seed=False), lines)

    def strengths(self, points: Sequence[StrengthPoint], anchors: Anchors) -> Grid | None:
        """The champion at several strengths, on the final prompts that were drawn for it.

        Args:
            points: As in the result.
            anchors: Of the final.
        """
        rows = self._rows[Source("final", BASE, 0)]
        prompts = {row.prompt_index: row.prompt for row in rows}
        lines: list[Line | None] = []
        base: list[ScoredPicture] = []
        for point in points:
            try:
                report = CheckpointResult.read(self._folder / point.folder)
            except (OSError, ValueError, KeyError) as error:
                self.damaged.append(f"{point.folder}/report.json cannot be read ({type(error).__name__})")
                continue
            scored = [
                ScoredPicture(
                    prompt_index=row.prompt_index,
                    prompt=prompts.get(row.prompt_index, ""),
                    seed=row.seed,
                    face_found=row.face_found,
                    likeness=LIKENESS_TERM.share(row, anchors),
                    fidelity=FIDELITY_TERM.share(row, anchors),
                )
                for row in report.rows
            ]
            base = base or scored
            title = f"strength {point.strength:g}"
            if pictures := self._pictures(report.folder, lines=len(scored), columns=1):
                lines.append(self._strip(title, pictures, scored, champion=point.strength == 1.0))
        return self._grid("The champion by strength", base, lines)

    def checkpoints(self, trial: str, best: int) -> Grid | None:
        """Every checkpoint of a trial on every validation prompt and seed, the untuned model above."""
        base = Source("validation", BASE, 0)
        steps = sorted(each.step for each in self._rows if (each.prompt_set, each.candidate) == ("validation", trial))
        shown = _spread(steps, best)
        lines = [self._line(base, "untuned model")]
        for step in shown:
            title = f"step {step}, its best" if step == best else f"step {step}"
            lines.append(self._line(Source("validation", trial, step), title, trial=trial))
        left_out = []
        if len(shown) < len(steps):
            left_out.append(f"{len(steps) - len(shown)} of {len(steps)} checkpoints between those shown")
        if (pictures := len(self._rows[base])) > FULL_COLUMNS:
            left_out.append(f"all but the first {FULL_COLUMNS} of {pictures} pictures of a checkpoint")
        return self._grid(f"Trial {trial}, checkpoint by checkpoint", self._chosen(base), lines, left_out)

    def trials(self, trials: Sequence[TrialResult], champion: str | None) -> Grid | None:
        """The best checkpoint of every trial, one picture a prompt; the highest objective first."""
        base = Source("validation", BASE, 0)
        lines = [self._line(base, "untuned model", every_seed=False)]
        scored = [(trial, trial.best_step) for trial in trials if trial.best_step is not None]
        for trial, step in sorted(scored, key=lambda one: -one[0].metrics[OBJECTIVE]):
            title = f"trial {trial.id}, step {step}: {trial.metrics[OBJECTIVE]:.3f}"
            source = Source("validation", trial.id, step)
            lines.append(self._line(source, title, every_seed=False, trial=trial.id, champion=trial.id == champion))
        chosen, left_out = self._chosen(base, every_seed=False), []
        if len(self._rows[base]) > len(chosen):
            left_out.append(f"seeds but the first, and prompts beyond the first {SHORT_COLUMNS}")
        if self._thumbnails.full:
            shown = sum(line is not None for line in lines[1:])
            left_out.append(f"{len(scored) - shown} trials, from the lowest objective up, to keep this file small")
        return self._grid("Every trial at its best checkpoint", chosen, lines, left_out)

    def _chosen(self, source: Source, *, every_seed: bool = True) -> list[ScoredPicture]:
        """The pictures of a checkpoint that are shown."""
        rows = self._rows[source]
        if every_seed:
            return rows[:FULL_COLUMNS]
        return [row for row in rows if row.seed == rows[0].seed][:SHORT_COLUMNS]

    def _line(
        self, source: Source, title: str, *, every_seed: bool = True, trial: str = "", champion: bool = False
    ) -> Line | None:
        """None if there are no pictures, or no room for them."""
        rows = self._rows[source]
        if not rows:
            return None
        prompts = len({row.prompt_index for row in rows})
        pictures = self._pictures(self._place(source), lines=prompts, columns=len(rows) // prompts)
        if not pictures:
            return None
        chosen = self._chosen(source, every_seed=every_seed)
        return self._strip(title, [pictures[rows.index(row)] for row in chosen], chosen, trial=trial, champion=champion)

    def _strip(
        self,
        title: str,
        pictures: Sequence[Image.Image],
        rows: Sequence[ScoredPicture],
        *,
        trial: str = "",
        champion: bool,
    ) -> Line | None:
        strip = self._thumbnails.add(pictures)
        if strip is None:
            return None
        labels = tuple(f"{row} ({title}; seed {row.seed}; {_shortened(row.prompt)})" for row in rows)
        return Line(title=title, strip=strip, labels=labels, trial=trial, champion=champion)

    def _grid(
        self, title: str, rows: Sequence[ScoredPicture], lines: Sequence[Line | None], left_out: Sequence[str] = ()
    ) -> Grid | None:
        """None without a row."""
        shown = tuple(line for line in lines if line is not None)
        if not shown:
            return None
        prompts = list(dict.fromkeys(row.prompt for row in rows))
        return Grid(
            title=title,
            columns=tuple(f"prompt {prompts.index(row.prompt) + 1},\nseed {row.seed}" for row in rows),
            prompts=tuple(prompts),
            lines=shown,
            left_out=tuple(left_out),
        )

    def _pictures(self, folder: Path, *, lines: int, columns: int) -> list[Image.Image]:
        """The pictures of a sheet, prompt by prompt; none if it is gone or damaged, which costs only itself."""
        path = folder / GRID_FILE
        try:
            with Image.open(path, formats=("PNG",)) as sheet:
                return grid_images(sheet.convert("RGB"), rows=lines, columns=columns)
        except (OSError, ValueError) as error:
            self.damaged.append(f"{path.relative_to(self._folder)} cannot be read ({type(error).__name__})")
            return []

    def _place(self, source: Source) -> Path:
        layout = RunLayout(self._folder)
        if source.candidate == BASE:
            return layout.base(source.prompt_set)
        if source.training_seed is not None:
            return checkpoint_folder(layout.retraining(source.candidate, source.training_seed), source.step)
        if source.prompt_set == "final":
            return layout.finalist(source.candidate, source.step)
        return layout.checkpoint(source.candidate, source.step)


def _spread(steps: Sequence[int], best: int) -> list[int]:
    """At most `MOST_CHECKPOINTS` of ascending steps: evenly spread ones with the first and the last, and the best."""
    if len(steps) <= MOST_CHECKPOINTS:
        return list(steps)
    count = MOST_CHECKPOINTS - 1
    chosen = {steps[round(number * (len(steps) - 1) / (count - 1))] for number in range(count)}
    return sorted(chosen | {best})


def _shortened(prompt: str) -> str:
    return textwrap.shorten(prompt, PROMPT_LENGTH, placeholder=" …")


SIDE = 96
"""Largest width and height of a picture, pixels."""

QUALITY = 75
"""Of WebP, 0 to 100."""

EFFORT = 2
"""Of WebP, 0 to 6: half the time of the usual 4 for a few per cent more bytes."""

CAPACITY = 10_000_000
"""Characters that all pictures together may take: two thirds of the 15 MB that a report may weigh."""


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Pictures side by side, as one image."""

    address: str
    """A data URI."""
    count: int
    width: int
    """Of all pictures together, pixels."""
    height: int


class Thumbnails:
    """Takes pictures until it is full; what comes first is what the report cannot do without.

    Args:
        capacity: Characters of all addresses together.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._left = capacity
        self.full = False
        """Whether there was no room for some pictures; from then on there is room for none."""

    def add(self, pictures: Sequence[Image.Image]) -> Strip | None:
        """Put pictures of any sizes side by side, each cut to its middle square and never enlarged.

        Returns:
            None if the thumbnails have no room for them.

        Raises:
            ValueError: there are no pictures.
        """
        if not pictures:
            raise ValueError("there are no pictures to make thumbnails of; give at least one")
        if self.full:
            return None
        side = min([SIDE, *(min(picture.size) for picture in pictures)])
        strip = image_grid(
            [ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS) for picture in pictures], len(pictures)
        )
        buffer = io.BytesIO()
        # No metadata goes along: a photo's may say where it was taken.
        strip.save(buffer, "WEBP", quality=QUALITY, method=EFFORT)
        address = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
        if len(address) > self._left:
            self.full = True
            return None
        self._left -= len(address)
        return Strip(address=address, count=len(pictures), width=strip.width, height=strip.height)
