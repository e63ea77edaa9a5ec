"""Two searches side by side: what each found, what differs between them, and whether their scores may be compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from evaluation.bootstrap import Interval, Values, paired_difference_interval
from evaluation.hw10 import hw10_generation
from evaluation.measures import FACE_DISTANCE, OBJECTIVE
from evaluation.scores import Anchors
from search.config.presets import flat
from search.config.run_layout import BASE_SUM, RunLayout, checkpoint_folder
from search.config.search_config import SearchConfig
from search.report.tables import BASE
from search.storage.result import read_result
from search.storage.result_schema import AnchorsResult, Outcome
from search.storage.run_folder import RunFolderError, read_config
from search.storage.trial_record import CheckpointResult

NEUTRAL = ("name", "runs", "tracking", "seats")
"""Settings that say where and how a search runs, and nothing about what it finds."""

FIRST, SECOND, TIE, NOT_COMPARED = "first", "second", "tie", "not compared"


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """Something that the two runs do not share."""

    what: str
    first: Any
    second: Any


@dataclass(frozen=True, kw_only=True)
class ComparisonVerdict:
    """Which champion is the better one."""

    better: str
    """`first`, `second`, `tie` (the images cannot tell) or `not compared`."""
    lead: Interval | None = None
    """The first's objective less the second's, paired by prompt and seed, over all trainings of both configurations."""
    reason: str = ""
    """Why they are not compared."""


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run as it enters a comparison."""

    folder: Path
    config: SearchConfig
    outcome: Outcome

    @classmethod
    def read(cls, folder: Path) -> ComparedRun:
        """Read a run folder.

        Raises:
            RunFolderError: it is no run folder, or it has no usable result.
        """
        return cls(folder=folder, config=read_config(folder), outcome=read_result(folder).outcome)

    @property
    def states(self) -> Mapping[str, int]:
        """How many trials ended how."""
        return Counter(trial.state for trial in self.outcome.trials)

    def protocol(self) -> dict[str, Any]:
        """What a score of the final depends on besides the adapter; None for what is not known without a final."""
        evaluation, final = self.config.evaluation, self.outcome.anchors.get("final")
        hw10 = evaluation.protocol == "hw10"
        generation = asdict(hw10_generation(evaluation.generation) if hw10 else evaluation.generation)
        if not hw10:
            del generation["batch_size"]  # Images do not depend on how many are made together.
        prompts, seeds = self._drawn()
        return {
            "base model": self._base(final),
            "judge": asdict(evaluation.faces),
            "CLIP model": evaluation.clip,
            "class word": self.config.photos.class_word,
            "further judges": list(evaluation.judges),
            "how images are made": {"protocol": evaluation.protocol, **generation},
            "weights of the objective": asdict(evaluation.objective),
            "prompts of the final": prompts,
            "seeds of the final": seeds,
            "reference photos": self._reference(final) if final else None,
        }

    def objective(self) -> Values:
        """The champion's objective in the final, [trainings, prompts, seeds].

        Raises:
            RunFolderError: its images' rows are gone or damaged.
        """
        champion, layout = self.outcome.champion, RunLayout(self.folder)
        assert champion is not None
        folders = [layout.finalist(champion.trial, champion.step)] + [
            checkpoint_folder(layout.retraining(champion.trial, again.seed), champion.step)
            for again in champion.retrained
            if again.metrics
        ]
        final = self.outcome.anchors["final"].anchors
        try:
            return np.stack([self._objective(CheckpointResult.read(folder), final) for folder in folders])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunFolderError(f"the final of {self.folder} cannot be read: {error}") from error

    def _objective(self, report: CheckpointResult, anchors: Anchors) -> Values:
        return report.values(anchors, self.config.evaluation.objective)[OBJECTIVE]

    def _drawn(self) -> tuple[list[str] | None, list[int] | None]:
        """Prompts and seeds as the final drew them, for the files may have changed since."""
        path = RunLayout(self.folder).image_table
        columns = ["prompt_set", "candidate", "shows", "prompt_index", "prompt", "seed"]
        rows = pyarrow.parquet.read_table(path, columns=columns).to_pylist() if path.is_file() else []
        own = [row for row in rows if (row["prompt_set"], row["candidate"], row["shows"]) == ("final", BASE, "person")]
        if not own:
            return None, None
        prompts = dict(sorted((row["prompt_index"], row["prompt"]) for row in own))
        return list(prompts.values()), sorted({row["seed"] for row in own})

    def _pairings(self, anchors: AnchorsResult) -> dict[str, Any]:
        """What was measured beside the anchors; empty where the file is gone."""
        try:
            found: dict[str, Any] = json.loads((self.folder / anchors.pairings).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def _reference(self, anchors: AnchorsResult) -> dict[str, Any]:
        """Their names, and their mean distance to each other, by which other photos of the same names are noticed."""
        photos = self._pairings(anchors).get("generated", {}).get("reference_photos")
        return {"photos": photos, "mean distance": round(anchors.real[FACE_DISTANCE], 4)}

    def _base(self, anchors: AnchorsResult | None) -> str:
        """The sum of the base model's weights, wherever they lie; its name where that is not known."""
        known = self._pairings(anchors).get(BASE_SUM) if anchors else None
        return str(known or self.config.model)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs side by side."""

    first: ComparedRun
    second: ComparedRun
    protocol: tuple[Discrepancy, ...]
    """What makes their scores incomparable; empty if they may be compared."""
    settings: tuple[Discrepancy, ...]
    """Every other setting that differs, by its key with dots."""
    verdict: ComparisonVerdict

    @classmethod
    def of(cls, first: ComparedRun, second: ComparedRun) -> Comparison:
        """Compare.

        Raises:
            RunFolderError: the rows of a final are gone or damaged.
        """
        protocol = tuple(_discrepancies(first.protocol(), second.protocol()))
        settings = [
            {
                key: value
                for key, value in flat(run.config.model_dump(mode="json"), whole_dimensions=False).items()
                if key.split(".")[0] not in NEUTRAL
            }
            for run in (first, second)
        ]
        return cls(
            first=first,
            second=second,
            protocol=protocol,
            settings=tuple(_discrepancies(settings[0], settings[1])),
            verdict=_verdict(first, second, protocol),
        )


def _verdict(first: ComparedRun, second: ComparedRun, protocol: tuple[Discrepancy, ...]) -> ComparisonVerdict:
    for run in (first, second):
        if run.outcome.champion is None:
            return ComparisonVerdict(better=NOT_COMPARED, reason=f"{run.folder.name} has no champion")
    if protocol:
        return ComparisonVerdict(better=NOT_COMPARED, reason="other " + ", other ".join(one.what for one in protocol))
    lead = paired_difference_interval(
        first.objective(), second.objective(), seed=first.config.seed, level=first.config.final.confidence
    )
    return ComparisonVerdict(better=FIRST if lead.lower > 0.0 else SECOND if lead.upper < 0.0 else TIE, lead=lead)


def _discrepancies(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Discrepancy]:
    for name in dict.fromkeys([*first, *second]):
        if first.get(name) != second.get(name):
            yield Discrepancy(what=name, first=first.get(name), second=second.get(name))
