"""One search replayed on collected candidates, and what is true of its winner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.truth.draws import Draw
from benchmarks.truth.records import Record, Records, Slice
from evaluation.bootstrap import Interval, Values, paired_difference_interval
from search.config.sections import FinalConfig
from search.final.decision import Entrant, decide

FINALISTS = 3
INDIFFERENCE = FinalConfig.model_fields["indifference"].default


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One configuration in one repeat, in objective and in likeness, each with the anchors of its own slice."""

    search: float
    reported: float
    """In the final, over all trainings."""
    true: float
    """On the truth's prompts, seeds and photos, over all trainings."""
    true_same_photos: float
    """On the truth's prompts and seeds, but with the photos of the search."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """One repeat."""

    winner: int
    """Number of the configuration."""
    objective: Standing
    """Of the winner."""
    likeness: Standing
    """Of the winner."""
    default: Standing
    """Objective of the default."""
    best_true: float
    """Highest true objective of all that could enter the final: what a perfect choice would have got."""
    interval: Interval
    """Of the winner's objective, as reported."""
    lead: Interval
    """Of the winner's objective minus the default's, as reported."""
    tied: int
    """How many entrants the final could not tell from its leader."""

    @property
    def won(self) -> bool:
        """Whether the winner is truly better than the default."""
        return self.objective.true > self.default.true

    @property
    def holds(self) -> bool:
        """Whether the reported interval holds the true objective."""
        return self.interval.lower <= self.objective.true <= self.interval.upper

    @property
    def lead_holds(self) -> bool:
        """Whether the reported interval of the lead holds the true lead."""
        return self.lead.lower <= self.objective.true - self.default.true <= self.lead.upper


def replay(records: Records, numbers: Sequence[int], draw: Draw, *, confidence: float, seed: int) -> Replay:
    """Replay one search and ask for the truth.

    The search ranks by its first trainings. Only configurations that were trained several times can enter the final, as
    in a real one, which trains its finalists again; the default always does.

    Args:
        records: Everything collected.
        numbers: Configurations that the search tries, the default, 0, among them.
        draw: Prompts, seeds and photos.
        confidence: Level of the intervals.
        seed: Of the final's bootstrap.
    """
    runs = records.runs
    several = [number for number in numbers if len(runs[number]) == len(runs[0])]
    search = {number: _mean(records.objective, runs[number][:1], draw.validation) for number in numbers}
    order = sorted(several, key=lambda number: -search[number])
    entrants = order[:FINALISTS] + [number for number in order[FINALISTS:] if number == 0]
    final = {number: _values(records.objective, runs[number], draw.final) for number in entrants}
    decision = decide(
        [
            Entrant(
                id=str(number),
                cost=runs[number][0].about.parameters * runs[number][0].about.training["steps"],
                objective=final[number],
            )
            for number in entrants
        ],
        confidence=confidence,
        seed=seed,
        indifference=INDIFFERENCE,
    )
    winner = int(decision.winner)
    return Replay(
        winner=winner,
        objective=_standing(records.objective, runs[winner], draw),
        likeness=_standing(records.likeness, runs[winner], draw),
        default=_standing(records.objective, runs[0], draw),
        best_true=max(_mean(records.objective, runs[number], draw.truth) for number in several),
        interval=next(each.objective for each in decision.standings if each.id == decision.winner),
        lead=paired_difference_interval(final[winner], final[0], seed=seed, level=confidence),
        tied=len(decision.tied),
    )


Score = Callable[[Record, Slice], Values]


def _standing(score: Score, runs: Sequence[Record], draw: Draw) -> Standing:
    return Standing(
        search=_mean(score, runs[:1], draw.validation),
        reported=_mean(score, runs, draw.final),
        true=_mean(score, runs, draw.truth),
        true_same_photos=_mean(score, runs, replace(draw.truth, photos=draw.final.photos)),
    )


def _values(score: Score, runs: Sequence[Record], part: Slice) -> Values:
    """[runs, prompts, seeds]"""
    return np.stack([score(record, part) for record in runs])


def _mean(score: Score, runs: Sequence[Record], part: Slice) -> float:
    return float(_values(score, runs, part).mean())
