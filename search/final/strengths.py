"""The champion's adapter at several strengths, on a few final prompts: what more or less of it does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.config import ObjectiveConfig
from evaluation.grid import image_grid
from evaluation.scores import Anchors, candidate_metrics
from search.config.run_layout import GRID_FILE, RunLayout
from search.config.search_config import SearchConfig
from search.final.final import Final
from search.storage.trial_record import CheckpointResult
from search.workers.client import JobFailedError, WorkersClient
from search.workers.jobs import ScoreJob
from trainer.files import write_file, written_folder


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What came of it."""

    reports: tuple[tuple[float, CheckpointResult], ...] = ()
    """(strength, its report), ascending; 0 is the untuned model and 1 the champion, both as the final drew them."""
    reason: str = ""
    """Why there is none; empty if there is."""

    @property
    def drawn(self) -> tuple[tuple[float, CheckpointResult], ...]:
        """Those that cost images of their own."""
        return tuple((strength, report) for strength, report in self.reports if strength not in (0.0, 1.0))

    def as_result(self, folder: Path) -> dict[str, Any]:
        """Its entry in the result, whose paths are relative to the run folder."""
        points = [
            {
                "strength": strength,
                "folder": str(report.folder.relative_to(folder)),
                "metrics": dict(report.metrics),
            }
            for strength, report in self.reports
        ]
        return {"points": points, "reason": self.reason}


def sweep_strengths(client: WorkersClient, config: SearchConfig, final: Final, layout: RunLayout) -> Sweep | None:
    """Have workers draw the champion at the configured strengths. Whatever fails here costs no champion.

    A strength that the folder holds already is not drawn again.

    Args:
        client: Hands the work to the workers.
        config: The search.
        final: The outcome, which is left as it is.
        layout: Of the run folder, which gets a folder a strength.

    Returns:
        None if no strengths are asked for.
    """
    strengths = sorted(set(config.final.strengths) - {1.0})
    if not strengths:
        return None
    anchors = final.base.anchors()
    prompts = config.final.strength_prompts
    champion = final.champion
    places = {
        strength: layout.strength(champion.record.id, champion.candidate.step, strength)
        for strength in {0.0, 1.0, *strengths}
    }
    jobs = [
        ScoreJob(
            id=f"strength-{champion.record.id}-{strength:g}",
            folder=place,
            adapter=champion.shipped.folder,
            prompt_set="final",
            anchors=anchors,
            strength=strength,
            prompts=prompts,
        )
        for strength in strengths
        if CheckpointResult.find(place := places[strength]) is None
    ]
    try:
        client.run(jobs)
        reports = {strength: CheckpointResult.read(places[strength]) for strength in strengths}
        for strength, known in ((0.0, final.base), (1.0, champion.shipped.report)):
            reports[strength] = _excerpt(known, prompts, anchors, config.evaluation.objective, places[strength])
    except (JobFailedError, OSError, ValueError) as error:
        return Sweep(reason=str(error))
    return Sweep(reports=tuple(sorted(reports.items())))


def _excerpt(
    report: CheckpointResult, prompts: int, anchors: Anchors, objective: ObjectiveConfig, folder: Path
) -> CheckpointResult:
    """The first prompts of a report with the first seed, as a report of its own."""
    first = slice(0, prompts * report.columns, report.columns)
    rows = report.rows[first]
    excerpt = CheckpointResult(
        step=report.step,
        metrics=candidate_metrics(rows, anchors, objective),
        rows=rows,
        folder=folder,
    )
    images = report.images()[first]
    with written_folder(folder) as temporary:
        write_file(temporary / GRID_FILE, lambda path: image_grid(images, columns=1).save(path, "PNG"))
        excerpt.write(temporary)
    return excerpt
