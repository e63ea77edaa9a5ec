"""The front of a search: which checkpoints lie on it, which of them meet in the final, and who wins there.

Every scored checkpoint of every trial is a candidate, unless it draws no face at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from evaluation.config import ObjectiveConfig
from evaluation.front import Point, choose, front, ranking
from evaluation.scores import FACELESS_RATE, FIDELITY, LIKENESS, OBJECTIVE
from search.job import Report
from search.record import TrialRecord, ranked

Entrant: TypeAlias = tuple[TrialRecord, Report]
"""A trial and one of its checkpoints."""


def candidates(records: Sequence[TrialRecord]) -> list[Entrant]:
    """All candidates, trial by trial and step by step."""
    return [(record, report) for record in records for report in record.reports if report.metrics[FACELESS_RATE] < 1.0]


def front_as_result(records: Sequence[TrialRecord], config: ObjectiveConfig) -> list[dict[str, Any]]:
    """The front as `result.json` holds it, from the most faithful candidate to the likest."""
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


def entrants(records: Sequence[TrialRecord], config: ObjectiveConfig, count: int) -> list[Entrant]:
    """Who enters the final: at most `count` trials with one checkpoint each, in the order of their right to.

    Mode `weighted`: the trials with the highest objective, by their best checkpoint. Mode `pareto`: the checkpoint that
    the rule would choose, then those nearest to it along the front; where the front has fewer trials, the next
    front's.
    """
    if config.mode == "weighted":
        return [(record, record.candidate) for record in ranked(list(records))[:count] if record.candidate is not None]
    pairs = candidates(records)
    entered: dict[str, Entrant] = {}
    for place in ranking(_points(pairs), config):
        if len(entered) == count:
            break
        record, report = pairs[place]
        entered.setdefault(record.id, (record, report))
    return list(entered.values())


def own_entrant(record: TrialRecord, config: ObjectiveConfig) -> Report | None:
    """The checkpoint with which a trial enters the final whatever its rank; None if it has no candidate."""
    return next((report for _, report in entrants([record], config, 1)), None)


def standing(finals: Sequence[Report], config: ObjectiveConfig) -> tuple[list[int], str]:
    """The outcome of a final by the same rule as its entrants were chosen by.

    Args:
        finals: The finalists' reports on the final's prompts and seeds, at least one, in the entrants' order.
        config: The rule.

    Returns:
        Places in `finals`, the winner's first, and why the winner is the winner, in words.
    """
    if config.mode == "weighted":
        places = sorted(range(len(finals)), key=lambda place: -finals[place].metrics[OBJECTIVE])
        return places, "the highest objective"
    points = [Point.of(report.metrics) for report in finals]
    return list(ranking(points, config)), choose(points, config).reason


def _points(pairs: Sequence[Entrant]) -> list[Point]:
    return [Point.of(report.metrics) for _, report in pairs]
