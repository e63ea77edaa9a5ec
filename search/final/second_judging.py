"""How the second judge is heard: at the start, whether it can judge at all, and at the end, what it says.

It looks at the images that the search has made. Its likeness has anchors of its own, for its distances have a scale
of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.bootstrap import bootstrap_interval, image_values, paired_difference_interval
from evaluation.config import FaceConfig, ObjectiveConfig
from evaluation.scores import FACE_DISTANCE, LEAKAGE, LIKENESS, OBJECTIVE, Anchors
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig
from search.final.final import Final
from search.final.second_opinion import JudgedFinalist, NoOpinion, SecondOpinion, rank_correlation
from search.storage.trial_record import CheckpointResult, TrialRecord
from search.workers.client import JobFailedError, WorkersClient
from search.workers.jobs import JudgeJob


@dataclass(frozen=True, kw_only=True)
class SecondJudging:
    """The second judge of a search, which has shown at its start that it can judge."""

    client: WorkersClient
    judge: FaceConfig
    anchors: Anchors
    """On the validation prompts."""
    objective: ObjectiveConfig
    confidence: float
    """Level of the intervals, a probability."""
    seed: int
    """Of the bootstrap."""
    run_folder: Path | None = None
    """Keeps its verdicts, so that a search that goes on does not ask again; None keeps none."""

    @classmethod
    def begin(
        cls, client: WorkersClient, config: SearchConfig, base: CheckpointResult, run_folder: Path | None = None
    ) -> SecondJudging | None:
        """Have it judge the untuned model, so that one who cannot judge is refused before hours of search.

        Args:
            dispatch: Hands the judging to the seats.
            config: The search, as resolved.
            base: The untuned model on the validation prompts.
            run_folder: Keeps its verdicts.

        Returns:
            None for a search without a second judge.

        Raises:
            JobFailedError: it cannot be used; the message says why, and the remedy.
        """
        judge = config.evaluation.second_judge
        if judge is None:
            return None
        try:
            anchors = _anchors(base, _judge(client, {"base-validation": base}, run_folder)["base-validation"])
        except (JobFailedError, ValueError) as error:
            raise JobFailedError(
                f"the second judge {judge.name} cannot be used: {error}; set another evaluation.second_judge, or none"
            ) from error
        return cls(
            client=client,
            judge=judge,
            anchors=anchors,
            objective=config.evaluation.objective,
            confidence=config.final.confidence,
            seed=config.seed,
            run_folder=run_folder,
        )

    def opinion(self, records: Sequence[TrialRecord], final: Final) -> SecondOpinion | NoOpinion:
        """Have it judge every trial's best checkpoint and the final. Whatever fails here costs no champion.

        Args:
            records: All trials.
            final: The outcome, which is left as it is.
        """
        try:
            return self._opinion(records, final)
        except (JobFailedError, ValueError) as error:
            return NoOpinion(judge=self.judge, reason=str(error))

    def _opinion(self, records: Sequence[TrialRecord], final: Final) -> SecondOpinion:
        best = {record.id: record.best for record in records if record.best is not None}
        finals = {finalist.record.id: finalist.final for finalist in final.finalists}
        judged = _judge(
            self.client,
            {
                **{f"trial-{name}": report for name, report in best.items()},
                "base-final": final.base,
                **{f"final-{name}": report for name, report in finals.items()},
            },
            self.run_folder,
        )
        trials = {
            name: float(self._values(report, judged[f"trial-{name}"], self.anchors)[LIKENESS].mean())
            for name, report in best.items()
        }
        anchors = _anchors(final.base, judged["base-final"])
        likeness = {
            name: self._values(report, judged[f"final-{name}"], anchors)[LIKENESS] for name, report in finals.items()
        }
        objective = {name: self._objective(report, final.base, likeness[name]) for name, report in finals.items()}
        champion = final.champion.record.id
        fit = [finalist.record.id for finalist in final.finalists if not finalist.unfit]
        prefers = max(fit, key=lambda name: float(objective[name].mean()))
        lead = None
        if prefers != champion:
            lead = paired_difference_interval(
                objective[prefers], objective[champion], seed=self.seed, level=self.confidence
            )
        return SecondOpinion(
            judge=self.judge,
            trials=trials,
            correlation=rank_correlation(
                [report.metrics[LIKENESS] for report in best.values()], [trials[name] for name in best]
            ),
            finalists=tuple(
                JudgedFinalist(
                    trial=name,
                    likeness=bootstrap_interval(likeness[name], seed=self.seed, level=self.confidence),
                    objective=float(objective[name].mean()),
                )
                for name in finals
            ),
            champion=champion,
            prefers=prefers,
            lead=lead,
        )

    def _values(
        self, report: CheckpointResult, judged: CheckpointResult, anchors: Anchors
    ) -> Mapping[str, NDArray[np.float64]]:
        """Its measures of a report's images, one value an image each."""
        return image_values(judged.rows, anchors, self.objective, leakage=report.metrics.get(LEAKAGE))

    def _objective(
        self, report: CheckpointResult, base: CheckpointResult, likeness: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The first judge's objective of each image, which is linear in likeness, with another likeness in it."""
        anchors = Anchors.from_metrics(base.metrics)
        first = image_values(report.rows, anchors, self.objective, leakage=report.metrics.get(LEAKAGE))
        return first[OBJECTIVE] + self.objective.likeness * (likeness - first[LIKENESS])


def _judge(
    client: WorkersClient, sheets: Mapping[str, CheckpointResult], run_folder: Path | None
) -> dict[str, CheckpointResult]:
    """Have the workers judge the sheets of reports; what they say by the same names.

    What was judged in an earlier part of the search is read from the run folder.

    Raises:
        JobFailedError: a sheet could not be judged.
    """
    kept = {name: _verdict_folder(report, run_folder) for name, report in sheets.items()}
    judged = {
        name: verdict
        for name, folder in kept.items()
        if folder is not None and (verdict := CheckpointResult.find(folder))
    }
    missing = [name for name in sheets if name not in judged]
    jobs = [JudgeJob(id=f"second-judge-{name}", folder=sheets[name].folder) for name in missing]
    for name, verdict in zip(missing, client.run(jobs), strict=True):
        judged[name] = verdict
        if (folder := kept[name]) is not None:
            verdict.write(folder)
    return judged


def _verdict_folder(report: CheckpointResult, run_folder: Path | None) -> Path | None:
    return None if run_folder is None else RunLayout(run_folder).second_judge_of(report.folder)


def _anchors(base: CheckpointResult, judged: CheckpointResult) -> Anchors:
    """The judge's own ends of likeness, and the first report's of fidelity, which it does not judge.

    Raises:
        ValueError: it finds no face in the untuned model's images, or its anchors are too close.
    """
    if FACE_DISTANCE not in judged.metrics:
        raise ValueError(f"it finds no face in the untuned model's {len(judged.rows)} images, so likeness has no zero")
    return Anchors(
        base_distance=judged.metrics[FACE_DISTANCE],
        real_distance=judged.metrics["real_distance"],
        base_clip_score=base.metrics["base_clip_score"],
    )
