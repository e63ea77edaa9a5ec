"""From rows, one an image, to the scores of a candidate, between the two ends that anchors set.

Pure: no model, no file, no randomness.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from evaluation.config import Anchor, ObjectiveConfig
from evaluation.image_row import ImageRow, mean, measure_means
from evaluation.measures import (
    BEYOND_REAL,
    CLIP_SCORE,
    COPY_DISTANCE,
    FACE_DISTANCE,
    FACE_FOUND,
    FACELESS,
    IMAGE_MEASURES,
    LEAKAGE,
    LIKENESS_SPREAD,
    MEMORISATION,
    MISMATCHED_CLIP_SCORE,
    OTHERS_FACELESS,
    OTHERS_FIDELITY,
    PICTURE_DISTANCE,
    REAL,
    RETRIEVED,
    TRAINING_DISTANCE,
    TRAINING_GAP,
    check_measured,
    check_metric,
)
from evaluation.proportion import Estimate, wilson_interval
from evaluation.terms import FIDELITY_TERM, LIKENESS_TERM, weighted_terms

MINIMUM_GAP = 0.02
"""Least difference between the base model's face distance and the real photos', below which likeness would be noise."""

MINIMUM_CLIP_GAP = 0.5
"""Least CLIP score (100 x cosine) of the base model's images with their own prompts beyond that with the others'."""

CLIP_GAP = 2.0
"""The same, below which fidelity is coarse."""

BY_CHANCE = 2
"""How many times as many prompts must be found as by chance, for CLIP to tell the untuned model's images apart."""

FEW_FACES = 1 / 3
"""Share of the untuned model's images with a face, below which likeness has a poor zero."""

SPREAD_SHARE = 0.25
"""Share of the prompts, rounded up, at either end of `likeness_spread`."""


class NoFaceError(ValueError):
    """The untuned model drew no face, so that likeness has no zero."""


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The ends that measures are counted between; one set for all candidates on the same prompts and seeds."""

    untuned: Mapping[str, float]
    """Means over the untuned model's images that have the measure."""
    real: Mapping[str, float]
    """The same of the person's own photos; of `face_distance` over the reference photos, each pair once."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Means over the untuned model's images of OTHER people; empty if there are none."""
    copy_distance: float | None = None
    """Picture distance below which an image copies a training photo (`evaluation.copies`); None: not measured."""
    faceless_prompts: frozenset[int] = frozenset()
    """Prompts on which the untuned model draws no face."""
    base_spread: float | None = None
    """The untuned model's own `spread_over_prompts` (likeness_spread 0), what prompts and luck do without any
    training; None: not measured, taken as 0."""

    def __post_init__(self) -> None:
        base, real = (self.end(FACE_DISTANCE, end) for end in (Anchor.UNTUNED, Anchor.REAL))
        own, other = (self.end(CLIP_SCORE, end) for end in (Anchor.UNTUNED, Anchor.MISMATCHED))
        for means in (self.untuned, self.real, self.others):
            for name, value in means.items():
                check_measured(name, value)
        if self.copy_distance is not None:
            check_measured(PICTURE_DISTANCE, self.copy_distance)
        if self.base_spread is not None:
            check_metric(LIKENESS_SPREAD, self.base_spread)
        if base - real < MINIMUM_GAP:
            raise ValueError(
                f"the untuned model's faces are {base:.3f} from the reference photos, which are {real:.3f} from each "
                f"other: likeness needs a gap of at least {MINIMUM_GAP}. Check that every photo shows the same person, "
                "that the base model does not know them yet, and that the face recognizer suits the photos' size"
            )
        if own - other < MINIMUM_CLIP_GAP:
            raise ValueError(
                f"the untuned model's CLIP score is {own:.2f} with its own prompts and {other:.2f} with the others': "
                f"fidelity needs a gap of at least {MINIMUM_CLIP_GAP}. Check the CLIP model and the prompts' language, "
                "and that the prompts ask for different things"
            )

    @property
    def gap(self) -> float:
        """Face distance from the untuned model to the person's own photos: one unit of likeness."""
        return self.untuned[FACE_DISTANCE] - self.real[FACE_DISTANCE]

    @property
    def clip_gap(self) -> float:
        """CLIP score from the other prompts to the own one, of the untuned model: one unit of fidelity."""
        return self.end(CLIP_SCORE, Anchor.UNTUNED) - self.end(CLIP_SCORE, Anchor.MISMATCHED)

    def end(self, measure: str, end: Anchor | float) -> float:
        """The number that an end of a term stands for.

        Raises:
            ValueError: it was not measured, for no image has the measure.
        """
        if not isinstance(end, Anchor):
            return end
        if end is Anchor.MISMATCHED:
            return self.untuned.get(f"mismatched_{measure}", 0.0)  # a single prompt has no others
        try:
            return {Anchor.UNTUNED: self.untuned, Anchor.REAL: self.real}[end][measure]
        except KeyError:
            raise ValueError(
                f"{measure} has no value on {'the untuned model' if end is Anchor.UNTUNED else 'the real photos'}, "
                "so it cannot be counted from there; give a number as the end of its term"
            ) from None

    @classmethod
    def between(
        cls,
        *,
        untuned_distance: float,
        real_distance: float,
        clip_score: float,
        mismatched_clip_score: float = 0.0,
        copy_distance: float | None = None,
        base_spread: float | None = None,
    ) -> "Anchors":
        """Anchors of these ends of likeness and fidelity alone."""
        return cls(
            untuned={
                FACE_DISTANCE: untuned_distance,
                CLIP_SCORE: clip_score,
                MISMATCHED_CLIP_SCORE: mismatched_clip_score,
            },
            real={FACE_DISTANCE: real_distance},
            copy_distance=copy_distance,
            base_spread=base_spread,
        )

    @classmethod
    def of(cls, rows: Sequence[ImageRow], other_rows: Sequence[ImageRow], metrics: Mapping[str, float]) -> "Anchors":
        """The anchors out of what was measured of the untuned model.

        Args:
            rows: of its images of the person.
            other_rows: of its images of other people, without the trigger.
            metrics: hold the means over real photos by their names after `real_`, and `copy_distance`.

        Raises:
            ValueError: the untuned model draws no face at all, or two ends are too close.
        """
        untuned = measure_means(rows)
        if FACE_DISTANCE not in untuned:
            raise NoFaceError(f"the untuned model drew no face in {len(rows)} images, so likeness has no zero")
        with_face = {row.prompt_index for row in rows if row.face_found}
        ends = cls(
            untuned=untuned,
            real={name.removeprefix(REAL): value for name, value in metrics.items() if name.startswith(REAL)},
            others=measure_means(other_rows),
            copy_distance=metrics.get(COPY_DISTANCE),
            faceless_prompts=frozenset(row.prompt_index for row in rows) - with_face,
        )
        return replace(ends, base_spread=spread_over_prompts(rows, ends))


def anchor_warnings(rows: Sequence[ImageRow], anchors: Anchors) -> tuple[str, ...]:
    """What makes the ends of likeness poor, in words.

    Args:
        rows: of the untuned model's images of the person.
        anchors: out of them.
    """
    found = [row.face_distance for row in rows if row.face_distance is not None]
    warnings = []
    if len(found) < FEW_FACES * len(rows):
        warnings.append(
            f"the untuned model drew a face in {len(found)} of {len(rows)} images only, so likeness has a poor zero; "
            "use prompts that show a face"
        )
    deviation = math.sqrt(mean([(distance - anchors.untuned[FACE_DISTANCE]) ** 2 for distance in found]))
    if anchors.gap < 2.0 * (error := deviation / math.sqrt(len(found))):
        warnings.append(
            f"the untuned model's faces are {anchors.gap:.3f} farther from the person than the real photos, with a "
            f"standard error of {error:.3f}: likeness is coarse; use more prompts and seeds, or another recognizer"
        )
    if (clip := anchors.clip_gap) < CLIP_GAP:
        warnings.append(
            f"CLIP gives the untuned model's images {clip:.2f} more with their own prompts than with the others': "
            "fidelity is coarse; use prompts that differ more, or another CLIP model"
        )
    prompts = len({row.prompt_index for row in rows})
    if anchors.untuned.get(RETRIEVED, 1.0) <= BY_CHANCE / prompts and prompts > BY_CHANCE:
        warnings.append(
            f"CLIP finds the prompt of {anchors.untuned[RETRIEVED]:.0%} of the untuned model's images, hardly more "
            f"than by chance ({1 / prompts:.0%}): fidelity says little; use prompts that this CLIP model and this base "
            "model know, or another CLIP model"
        )
    return tuple(warnings)


def candidate_metrics(
    rows: Sequence[ImageRow],
    anchors: Anchors,
    objective: ObjectiveConfig,
    *,
    other_rows: Sequence[ImageRow] = (),
) -> dict[str, float]:
    """Every metric of a candidate by name; what could not be measured is left out.

    Each term's mean is over ALL images. So no image leaves a mean by losing its face: it costs likeness (it counts 0)
    and faceless_rate, and its CLIP score stays in.

    Args:
        rows: of its images of the person.
        anchors: of the untuned model on the same prompts and seeds.
        objective: whose terms are counted, each under its name.
        other_rows: of its images of other people, without the trigger.

    Raises:
        ValueError: there are no rows, or a metric left its range.
    """
    if not rows:
        raise ValueError("there are no images to score; give at least one prompt and one seed")
    means = measure_means(rows)
    copied = memorisation(rows, anchors)
    metrics: dict[str, float | None] = {
        **{reported: means[name] for name, reported in mean_names(means).items()},
        **{each.term.name: mean([each.term.share(row, anchors) for row in rows]) for each in weighted_terms(objective)},
        FACELESS: float(sum(not row.face_found for row in rows)),
        LIKENESS_SPREAD: spread_over_prompts(rows, anchors) - (anchors.base_spread or 0.0),
        BEYOND_REAL: mean([max(0.0, LIKENESS_TERM.unclipped(row, anchors) - LIKENESS_TERM.high) for row in rows]),
        MEMORISATION: copied.value if copied else None,
        TRAINING_GAP: None
        if TRAINING_DISTANCE not in means
        else (means[FACE_DISTANCE] - means[TRAINING_DISTANCE]) / anchors.gap,
        LEAKAGE: leakage(other_rows, anchors),
        **_drift(other_rows, anchors),
    }
    found = {name: value for name, value in metrics.items() if value is not None}
    for name, value in found.items():
        check_metric(name, value)
    return found


def mean_names(measured: Iterable[str]) -> dict[str, str]:
    """Measures of images to the names under which their means are reported: built-in ones as declared, others as they
    are."""
    names = {measure.name: measure.mean for measure in IMAGE_MEASURES}
    return {name: reported for name in measured if (reported := names.get(name, name))}


def memorisation(rows: Sequence[ImageRow], anchors: Anchors, *, level: float = 0.95) -> Estimate | None:
    """Share of images that are nearer to a training photo than `copy_distance`, [0, 1]; None: not measured.

    With Wilson's interval, as if each image were drawn on its own.
    """
    measured = [value for row in rows if (value := row.value(PICTURE_DISTANCE)) is not None]
    if not measured or anchors.copy_distance is None:
        return None
    copies = sum(value < anchors.copy_distance for value in measured)
    return wilson_interval(copies, len(measured), level=level)


def leakage(rows: Sequence[ImageRow], anchors: Anchors) -> float | None:
    """How much nearer to the person images of OTHERS come than under the base model, in units of likeness, [-1, 1].

    (base - d) / gap as for likeness, but with the base model's distance on the same prompts of others: 0 for a model
    that leaves others alone, 1 for one whose others come as much nearer as it takes from the untuned model to the
    person's own photos. Images without a face say nothing about it, and cost `others_faceless`.

    Args:
        rows: of images of other people, without the trigger.
        anchors: with the untuned model's on the same prompts and seeds.

    Returns:
        None when there is nothing to compare: no such images, none with a face, or none under the base model.
    """
    found = [row.face_distance for row in rows if row.face_distance is not None]
    if not found or FACE_DISTANCE not in anchors.others:
        return None
    return max(-1.0, min(1.0, (anchors.others[FACE_DISTANCE] - mean(found)) / anchors.gap))


def _drift(rows: Sequence[ImageRow], anchors: Anchors) -> dict[str, float | None]:
    """What training did to images of other people that are not likenesses: their prompts and their faces."""
    if not rows or not anchors.others:
        return {}
    own, other = anchors.others[CLIP_SCORE], anchors.others.get(MISMATCHED_CLIP_SCORE, 0.0)
    term = replace(FIDELITY_TERM, zero=other, one=own)
    fidelity = mean([term.share(row, anchors) for row in rows]) if own - other >= MINIMUM_CLIP_GAP else None
    faceless = mean([0.0 if row.face_found else 1.0 for row in rows])
    return {OTHERS_FIDELITY: fidelity, OTHERS_FACELESS: faceless - (1.0 - anchors.others[FACE_FOUND])}


def spread_over_prompts(rows: Sequence[ImageRow], anchors: Anchors) -> float:
    """Mean likeness over the best quarter of the prompts less that over the worst, each at least one prompt.

    A prompt's likeness is the mean over its images with a face; prompts on which the untuned model draws none, such as
    a view from behind, are left out: nobody can be like there, and faces that were lost cost faceless_rate. A candidate
    that has learnt one prompt, or one outfit, may have a fair mean; here it stands out. Below two prompts it is 0.
    """
    means = sorted(mean(values) for values in likeness_by_prompt(rows, anchors).values())
    if len(means) < 2:
        return 0.0
    quarter = math.ceil(SPREAD_SHARE * len(means))
    return mean(means[-quarter:]) - mean(means[:quarter])


def likeness_by_prompt(rows: Sequence[ImageRow], anchors: Anchors) -> dict[int, list[float]]:
    """Likeness of each image with a face, by prompt, without prompts on which the untuned model draws none."""
    by_prompt: dict[int, list[float]] = {}
    for row in rows:
        if row.face_found and row.prompt_index not in anchors.faceless_prompts:
            by_prompt.setdefault(row.prompt_index, []).append(LIKENESS_TERM.share(row, anchors))
    return by_prompt
