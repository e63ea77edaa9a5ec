"""The champion: the best candidates once more, on prompts and seeds that did not steer the search, and its files."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from evaluation.config import ObjectiveConfig
from evaluation.scores import FACELESS_RATE, OBJECTIVE, Anchors, ImageRow
from evaluation.uncertainty import Interval, bootstrap_interval, image_values, paired_difference_interval
from search.dispatch import Dispatch
from search.front import entrants, own_entrant, standing
from search.job import AnchorJob, Job, JobState, JobStatus, PromptSetName, Report, ScoreJob
from search.record import TrialRecord

POLL_SECONDS = 30.0


class JobFailedError(RuntimeError):
    """A measurement that the search cannot do without has failed; the message says why."""


class Verdict(StrEnum):
    """The champion against the first trial (by default the homework's configuration), in the final."""

    BETTER = "better"
    """The interval of the paired difference of objectives lies above 0."""
    TIE = "tie"
    """It holds 0: the images at hand cannot tell them apart."""
    WORSE = "worse"
    """It lies below 0: the rule of mode `pareto` may prefer what the weights do not."""
    SAME = "same"
    """The champion IS the first trial."""
    NOT_COMPARED = "not compared"
    """The first trial has no candidate: it failed, or draws no face."""


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A trial's best checkpoint in the final."""

    record: TrialRecord
    candidate: Report
    """As scored in the search."""
    final: Report
    """As scored on the final prompts and seeds."""
    intervals: Mapping[str, Interval]
    """Bootstrap intervals of the final metrics over images."""


@dataclass(frozen=True, kw_only=True)
class Final:
    """The outcome of a search."""

    base: Report
    """The untuned model on the final prompts and seeds."""
    finalists: tuple[Finalist, ...]
    """Best first; the first is the champion."""
    verdict: Verdict
    difference: Interval | None
    """Champion minus first trial, objective, paired image by image; None where the first trial has no candidate."""
    choice: str
    """Why the champion is the champion, in words: the rule, and where something asked for could not be had."""

    @property
    def champion(self) -> Finalist:
        return self.finalists[0]


def measure_anchors(dispatch: Dispatch, folder: Path, prompt_set: PromptSetName) -> tuple[Report, Anchors]:
    """Have a seat measure the untuned model and the real photos on a prompt set.

    Raises:
        JobFailedError: it could not; the message says why.
    """
    job = AnchorJob(id=f"base-{prompt_set}", folder=folder / f"base-{prompt_set}", prompt_set=prompt_set)
    (report,) = _run(dispatch, [job])
    assert isinstance(report, Report)
    return report, Anchors(**{name: report.metrics[name] for name in Anchors.__dataclass_fields__})


def run_final(
    dispatch: Dispatch,
    records: Sequence[TrialRecord],
    folder: Path,
    *,
    candidates: int,
    objective: ObjectiveConfig,
    confidence: float,
    seed: int,
) -> Final | None:
    """Score the best `candidates` trials, and the first trial, on the final prompts and seeds; the best wins.

    Who enters and who wins is decided in `search.front`.

    Args:
        dispatch: Hands the scoring to the seats.
        records: All trials.
        folder: Gets one folder a finalist.
        candidates: How many trials enter by their rank.
        objective: Weights of the objective, and the rule.
        confidence: Level of the intervals, a probability.
        seed: Of the bootstrap.

    Returns:
        None if no trial has a usable candidate: none at all, or none that draws a face in the final.

    Raises:
        JobFailedError: the final could not be scored; the message says why.
    """
    entering = entrants(records, objective, candidates)
    if not entering:
        return None
    first = own_entrant(records[0], objective)
    if first is not None and all(record is not records[0] for record, _ in entering):
        entering.append((records[0], first))
    base, anchors = measure_anchors(dispatch, folder, "final")
    jobs = [
        ScoreJob(
            id=f"final-{record.id}",
            folder=folder / record.id,
            adapter=report.folder,
            prompt_set="final",
            anchors=anchors,
        )
        for record, report in entering
    ]
    scored = zip(entering, _run(dispatch, jobs), strict=True)
    with_faces = [(entrant, final) for entrant, final in scored if final.metrics[FACELESS_RATE] < 1.0]
    if not with_faces:
        return None
    entering, finals = [entrant for entrant, _ in with_faces], [final for _, final in with_faces]
    values = [image_values([ImageRow(**row) for row in final.rows], anchors, objective) for final in finals]
    finalists = [
        Finalist(
            record=record,
            candidate=report,
            final=final,
            intervals={name: bootstrap_interval(value, seed=seed, level=confidence) for name, value in images.items()},
        )
        for (record, report), final, images in zip(entering, finals, values, strict=True)
    ]
    order, choice = standing(finals, objective)
    champion, compared = order[0], next((n for n, (record, _) in enumerate(entering) if record is records[0]), None)
    verdict, difference = Verdict.NOT_COMPARED, None
    if champion == compared:
        verdict = Verdict.SAME
    elif compared is not None:
        difference = paired_difference_interval(
            values[champion][OBJECTIVE], values[compared][OBJECTIVE], seed=seed, level=confidence
        )
        verdict = Verdict.BETTER if difference.lower > 0 else Verdict.WORSE if difference.upper < 0 else Verdict.TIE
    return Final(
        base=base,
        finalists=tuple(finalists[place] for place in order),
        verdict=verdict,
        difference=difference,
        choice=choice,
    )


def export_champion(final: Final, folder: Path, name: str) -> Path:
    """Write the champion's weights: for diffusers under its own name, for ComfyUI and A1111 as `NAME.safetensors`.

    Returns:
        The diffusers file.
    """
    from trainer.adapter_files import WEIGHTS_FILE, export_kohya  # torch: only now

    source = final.champion.candidate.folder
    target = folder / WEIGHTS_FILE
    shutil.copyfile(source / WEIGHTS_FILE, target)
    export_kohya(folder, folder / f"{name}.safetensors")
    return target


def _run(dispatch: Dispatch, jobs: Sequence[Job]) -> list[Report]:
    """Have seats do jobs that report once; the reports in the jobs' order."""
    for job in jobs:
        dispatch.submit(job)
    reports = []
    for job in jobs:
        status: JobStatus | None = None
        while status is None or not status.ended:
            status = dispatch.status(job.id, reports=1, timeout=POLL_SECONDS)
        if status.state is not JobState.FINISHED or not status.reports:
            raise JobFailedError(f"job {job.id} {status.state}: {status.reason or 'it reported nothing'}")
        reports.append(status.reports[0])
    return reports
