"""The front of a search: which checkpoints lie on it, and which of them meet in the final.

Every scored checkpoint of every trial is a candidate, unless it is unfit to win.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from evaluation.config import ObjectiveConfig
from evaluation.measures import FACELESS_RATE, FIDELITY, LIKENESS
from evaluation.pareto import Point, front, ranking
from search.storage.trial_record import CheckpointResult, TrialRecord, ranked

Candidate: TypeAlias = tuple[TrialRecord, CheckpointResult]
"""A trial and one of its checkpoints."""


def candidates(records: Sequence[TrialRecord]) -> list[Candidate]:
    """All candidates, trial by trial and step by step."""
    return [(record, report) for record in records for report in record.checkpoints if not report.unfit]


def front_as_result(records: Sequence[TrialRecord], config: ObjectiveConfig) -> list[dict[str, Any]]:
    """The front as the result holds it, from the most faithful candidate to the likest."""
    pairs = candidates(records)
    places = front(_points(pairs), maximum_faceless_rate=config.maximum_faceless_rate)
    return [
        {
            "trial": record.id,
            "step": report.step,
            **{name: report.metrics[name] for name in (LIKENESS, FIDELITY, FACELESS_RATE)},
        }
        for record, report in (pairs[place] for place in places)
    ]


def entrants(records: Sequence[TrialRecord], config: ObjectiveConfig, count: int) -> list[Candidate]:
    """Who enters the final: at most `count` trials with one checkpoint each, in the order of their right to.

    Mode `weighted`: the trials with the highest objective, by their best checkpoint. Mode `pareto`: the checkpoint that
    the rule would choose, then those nearest to it along the front; where the front has fewer trials, the next
    front's.
    """
    if config.mode == "weighted":
        return [(record, record.candidate) for record in ranked(list(records))[:count] if record.candidate is not None]
    pairs = candidates(records)
    entered: dict[str, Candidate] = {}
    for place in ranking(_points(pairs), config):
        if len(entered) == count:
            break
        record, report = pairs[place]
        entered.setdefault(record.id, (record, report))
    return list(entered.values())


def finalists(records: Sequence[TrialRecord], config: ObjectiveConfig, count: int) -> list[Candidate]:
    """Who is scored in the final: the entrants and, whatever its rank, the first trial, if it has a candidate."""
    chosen = entrants(records, config, count)
    if chosen and all(record is not records[0] for record, _ in chosen):
        chosen += entrants(records[:1], config, 1)
    return chosen


def _points(pairs: Sequence[Candidate]) -> list[Point]:
    return [Point.of(report.metrics) for _, report in pairs]
