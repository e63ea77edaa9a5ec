"""The anchors of a search: what the untuned model draws and how alike the person's real photos are, measured once."""

from __future__ import annotations

from pathlib import Path

from evaluation.scores import Anchors
from search.dispatch import Dispatch
from search.job import ANCHORS_FILE, AnchorJob, PromptSetName, Report


def measure_anchors(dispatch: Dispatch, folder: Path, prompt_set: PromptSetName) -> tuple[Report, Anchors]:
    """Have a seat measure the untuned model and the real photos on a prompt set.

    What an earlier part of the search has measured is read from the folder.

    Raises:
        JobFailedError: it could not; the message says why.
    """
    job = AnchorJob(id=f"base-{prompt_set}", folder=folder / f"base-{prompt_set}", prompt_set=prompt_set)
    report = Report.find(job.folder) if (job.folder / ANCHORS_FILE).exists() else None
    if report is None:
        (report,) = dispatch.run([job])
    return report, Anchors.from_metrics(report.metrics)
