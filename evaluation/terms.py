"""Terms: measures counted between two anchors, of which the objective is the weighted sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluation.config import Anchor, ObjectiveConfig
from evaluation.measures import CLIP_SCORE, FACE_DISTANCE, FACE_FOUND, FACELESS_RATE, FIDELITY, LIKENESS

if TYPE_CHECKING:
    from evaluation.image_row import ImageRow
    from evaluation.scores import Anchors


@dataclass(frozen=True, kw_only=True)
class Term:
    """A measure of an image on a scale of its own: 0 at one anchor, 1 at the other, clipped.

    The scale means the same whatever model measures: a CLIP whose cosines lie close together, or a face recogniser with
    other distances, moves both ends alike.
    """

    name: str
    """The metric that its mean over the images is reported under."""
    measure: str
    zero: Anchor | float
    one: Anchor | float
    low: float = -1.0
    high: float = 1.0
    missing: float = 0.0
    """What an image counts that does not have the measure."""

    def unclipped(self, row: ImageRow, anchors: Anchors) -> float:
        """(x - zero) / (one - zero) of one image."""
        value = row.value(self.measure)
        if value is None:
            return self.missing
        zero, one = anchors.end(self.measure, self.zero), anchors.end(self.measure, self.one)
        if zero == one:
            raise ValueError(f"the ends of {self.name} are both {zero:g}, so it has no scale; give other ends")
        return (value - zero) / (one - zero)

    def share(self, row: ImageRow, anchors: Anchors) -> float:
        """The same within [low, high]: no image pays for others without end."""
        return max(self.low, min(self.high, self.unclipped(row, anchors)))


LIKENESS_TERM = Term(name=LIKENESS, measure=FACE_DISTANCE, zero=Anchor.UNTUNED, one=Anchor.REAL)
"""0 the untuned model, 1 the person's own photos; 0 without a face."""

FIDELITY_TERM = Term(name=FIDELITY, measure=CLIP_SCORE, zero=Anchor.MISMATCHED, one=Anchor.UNTUNED, high=2.0)
"""0 the untuned model's images with the OTHER prompts, 1 with their own. An image may lie as far beyond the untuned
model's mean as that lies beyond 0: clipped at 1, the luck of single images would cost and never pay."""

FACELESS_TERM = Term(name=FACELESS_RATE, measure=FACE_FOUND, zero=1.0, one=0.0)
"""1 for an image without a face."""


@dataclass(frozen=True, kw_only=True)
class WeightedTerm:
    """A term and what one unit of it adds to the objective."""

    term: Term
    weight: float


def anchored(measure: str) -> str:
    """The name of the term of a measure that `evaluation.objective.measures` weighs."""
    return f"anchored_{measure}"


def weighted_terms(config: ObjectiveConfig) -> tuple[WeightedTerm, ...]:
    """The terms of an objective. Of each image of the person; leakage is measured on others.

    Likeness counts no lower than a lost face costs: a face unlike the person never pays less than none.
    """
    lowest = -min(1.0, config.faceless / config.likeness) if config.likeness else -1.0
    likeness = Term(name=LIKENESS, measure=FACE_DISTANCE, zero=Anchor.UNTUNED, one=Anchor.REAL, low=lowest)
    return (
        WeightedTerm(term=likeness, weight=config.likeness),
        WeightedTerm(term=FIDELITY_TERM, weight=config.fidelity),
        WeightedTerm(term=FACELESS_TERM, weight=-config.faceless),
        *(
            WeightedTerm(
                term=Term(
                    name=anchored(name),
                    measure=name,
                    zero=each.zero,
                    one=each.one,
                    low=each.low,
                    high=each.high,
                    missing=each.missing,
                ),
                weight=each.weight,
            )
            for name, each in config.measures.items()
        ),
    )
