"""From rows, one an image, to the scores of a candidate, and the table of all measures.

Pure: no model, no file, no randomness.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

FACE_DISTANCE = "face_distance"
LIKENESS = "likeness"
SECOND_LIKENESS = "second_likeness"
CLIP_SCORE = "clip_score"
FIDELITY = "fidelity"
FACELESS = "faceless"
FACELESS_RATE = "faceless_rate"
LIKENESS_SPREAD = "likeness_spread"
MEMORISATION = "memorisation"
LEAKAGE = "leakage"
OBJECTIVE = "objective"
SEARCH_VALUE = "search_value"
VALIDATION_LOSS = "validation_loss"
HW10_FACE_SCORE = "hw10_face_score"
HW10_CLIP_SCORE = "hw10_clip_score"
HW10_FACELESS = "hw10_faceless"

JUDGED_BY = (OBJECTIVE, LIKENESS, FIDELITY, FACELESS_RATE)
"""What a candidate is judged by, in the order in which it is printed."""

METERS = (LIKENESS_SPREAD, MEMORISATION, LEAKAGE)
"""What is printed after that, where it was measured."""

PRINTED = (*JUDGED_BY, *METERS)

MAXIMUM_DISTANCE = 2.0
"""Two vectors of length 1 are at most this far apart."""

MINIMUM_GAP = 0.02
"""Least difference between the base model's face distance and the real photos', below which likeness would be noise."""

MINIMUM_BASE_CLIP_SCORE = 5.0
"""Least CLIP score of the base model (100 x cosine), below which the scorer does not understand the prompts."""

LIKENESS_BOUND = MAXIMUM_DISTANCE / MINIMUM_GAP
"""|base - d| is at most 2 and base - real at least the minimum gap."""

FIDELITY_BOUND = 100.0 / MINIMUM_BASE_CLIP_SCORE

SPREAD_SHARE = 0.25
"""Share of the prompts, rounded up, at either end of `likeness_spread`."""


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """What was measured on one generated image."""

    prompt_index: int
    seed: int
    face_found: bool
    face_distance: float | None
    """Mean distance of the image's face to the reference photos, [0, 2]; None exactly when no face was found."""
    clip_score: float
    """100 x cosine with the prompt, [-100, 100]."""
    face_confidence: float | None = None
    """Of the detection, (0, 1]; None without a face."""
    nearest_distance: float | None = None
    """Distance to the nearest reference photo, [0, 2]; None without a face."""
    faces: int | None = None
    """How many faces count, of which the largest was measured; None without a face."""
    training_photo: str | None = None
    """The training photo that this picture is most like; None if that was not measured."""
    picture_distance: float | None = None
    """Distance to that photo as a picture, re-framed to fit (`evaluation.copies`), [0, 2]."""

    def __post_init__(self) -> None:
        METRICS[CLIP_SCORE].check(self.clip_score)
        if self.face_found != (self.face_distance is not None):
            raise ValueError(
                f"image {self.prompt_index}/{self.seed}: face_found is {self.face_found} and face_distance "
                f"{self.face_distance!r}; a distance is given exactly when a face was found"
            )
        for distance in (self.face_distance, self.nearest_distance, self.picture_distance):
            if distance is not None:
                METRICS[FACE_DISTANCE].check(distance)


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The two ends that likeness and fidelity are measured between; one set for a whole search."""

    base_distance: float
    """Mean face distance of the untuned model's images to the reference photos (likeness 0)."""
    real_distance: float
    """Mean distance of the reference photos to each other, each pair once (likeness 1)."""
    base_clip_score: float
    """Mean CLIP score of the untuned model's images (fidelity 1)."""
    copy_distance: float | None = None
    """Picture distance below which an image copies a training photo (`evaluation.copies`); None: not measured."""
    other_distance: float | None = None
    """Mean face distance of the untuned model's images of OTHER people to the reference photos (leakage 0); None if
    there are no such images, or none with a face."""
    base_spread: float | None = None
    """The untuned model's own `spread_over_prompts` (likeness_spread 0), what prompts and luck do without any
    training; None: not measured, taken as 0."""

    def __post_init__(self) -> None:
        METRICS[FACE_DISTANCE].check(self.base_distance)
        METRICS[FACE_DISTANCE].check(self.real_distance)
        METRICS[CLIP_SCORE].check(self.base_clip_score)
        for distance in (self.copy_distance, self.other_distance):
            if distance is not None:
                METRICS[FACE_DISTANCE].check(distance)
        if self.base_spread is not None:
            METRICS[LIKENESS_SPREAD].check(self.base_spread)
        if self.base_distance - self.real_distance < MINIMUM_GAP:
            raise ValueError(
                f"the untuned model's faces are {self.base_distance:.3f} from the reference photos, which are "
                f"{self.real_distance:.3f} from each other: likeness needs a gap of at least {MINIMUM_GAP}. Check that "
                "every photo shows the same person, that the base model does not know them yet, and that the face "
                "recognizer suits the photos' size"
            )
        if self.base_clip_score < MINIMUM_BASE_CLIP_SCORE:
            raise ValueError(
                f"the untuned model's CLIP score is {self.base_clip_score:.2f}, below {MINIMUM_BASE_CLIP_SCORE}: the "
                "CLIP model does not recognise what the prompts ask for. Check the CLIP model and the prompts' language"
            )

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, float]) -> "Anchors":
        """The anchors out of a table of metrics by name; those that were not measured are missing there."""
        return cls(**{name: metrics[name] for name in cls.__dataclass_fields__ if name in metrics})


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The measures of one candidate; none that is out of range, not finite or at odds with the others can be built."""

    face_distance: float | None
    """None when every image is faceless: there is nothing to measure, and no number would be honest."""
    likeness: float
    clip_score: float
    fidelity: float
    faceless: int
    faceless_rate: float
    images: int
    """Number of images measured, at least 1."""
    likeness_spread: float
    """Likeness on the best quarter of the prompts less that on the worst, beyond the untuned model's: a few prompts
    must not carry it all."""

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"images is {self.images}; scores are of at least one image")
        for name, value in self.as_metrics().items():
            METRICS[name].check(value)
        if self.faceless > self.images or not math.isclose(self.faceless_rate, self.faceless / self.images):
            raise ValueError(
                f"faceless is {self.faceless} of {self.images} images, faceless_rate {self.faceless_rate}; they differ"
            )
        if (self.face_distance is None) != (self.faceless == self.images):
            raise ValueError(
                f"face_distance is {self.face_distance!r} with {self.faceless} of {self.images} images faceless; it is "
                "None exactly when all are"
            )

    def as_metrics(self) -> dict[str, float]:
        """Measures by name, for tracking; `face_distance` is left out when there is none."""
        names = (FACE_DISTANCE, LIKENESS, CLIP_SCORE, FIDELITY, FACELESS, FACELESS_RATE, LIKENESS_SPREAD)
        values = {name: getattr(self, name) for name in names}
        return {name: float(value) for name, value in values.items() if value is not None}


def image_likeness(row: ImageRow, anchors: Anchors) -> float:
    """(base - d) / (base - real) of one image; 0 without a face."""
    if row.face_distance is None:
        return 0.0
    return (anchors.base_distance - row.face_distance) / (anchors.base_distance - anchors.real_distance)


def image_fidelity(row: ImageRow, anchors: Anchors) -> float:
    """CLIP score of one image relative to the base model's mean."""
    return row.clip_score / anchors.base_clip_score


def score_rows(rows: Sequence[ImageRow], anchors: Anchors) -> Scores:
    """Scores of a candidate from all of its images; each mean but `face_distance` is over ALL of them.

    So no image leaves a mean by losing its face: it costs likeness (it counts 0) and faceless_rate, and its CLIP
    score stays in.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("there are no images to score; give at least one prompt and one seed")
    face_distances = [row.face_distance for row in rows if row.face_distance is not None]
    faceless = len(rows) - len(face_distances)
    clip_score = _mean([row.clip_score for row in rows])
    return Scores(
        face_distance=_mean(face_distances) if face_distances else None,
        likeness=_mean([image_likeness(row, anchors) for row in rows]),
        clip_score=clip_score,
        fidelity=clip_score / anchors.base_clip_score,
        faceless=faceless,
        faceless_rate=faceless / len(rows),
        images=len(rows),
        likeness_spread=spread_over_prompts(rows, anchors) - (anchors.base_spread or 0.0),
    )


def spread_over_prompts(rows: Sequence[ImageRow], anchors: Anchors) -> float:
    """Mean likeness over the best quarter of the prompts less that over the worst, each at least one prompt.

    A prompt's likeness is the mean over its seeds. A candidate that has learnt one prompt, or one outfit, may have a
    fair mean; here it stands out. (Twelve prompts with two seeds: 0.25 for the demo's untuned model, 0.2 to 0.6 for 32
    of its configurations, whatever their mean.)
    """
    by_prompt: dict[int, list[float]] = {}
    for row in rows:
        by_prompt.setdefault(row.prompt_index, []).append(image_likeness(row, anchors))
    means = sorted(_mean(values) for values in by_prompt.values())
    quarter = math.ceil(SPREAD_SHARE * len(means))
    return _mean(means[-quarter:]) - _mean(means[:quarter])


def _mean(values: Sequence[float]) -> float:
    # fsum: the mean does not depend on the order of the images.
    return math.fsum(values) / len(values)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A measure: its name, what it means, which direction is better, and the range that it cannot leave."""

    name: str
    meaning: str
    direction: Literal["maximize", "minimize"] = "minimize"
    lower: float = 0.0
    upper: float = math.inf

    def check(self, value: float) -> None:
        """Raises ValueError unless the value is finite and in range."""
        if not math.isfinite(value) or not self.lower <= value <= self.upper:
            raise ValueError(f"{self.name} is {value!r}; it is a finite number from {self.lower:g} to {self.upper:g}")


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                name=FACE_DISTANCE,
                meaning="mean L2 distance of normalised face embeddings, generated x reference, faces only",
                upper=MAXIMUM_DISTANCE,
            ),
            Metric(
                name=LIKENESS,
                meaning="(base - d) / (base - real): 0 the untuned model, 1 the person's own photos; faceless counts 0",
                direction="maximize",
                lower=-LIKENESS_BOUND,
                upper=LIKENESS_BOUND,
            ),
            Metric(
                name=SECOND_LIKENESS,
                meaning="likeness in the eyes of the second judge, which steers nothing, between its own anchors",
                direction="maximize",
                lower=-LIKENESS_BOUND,
                upper=LIKENESS_BOUND,
            ),
            Metric(
                name=CLIP_SCORE,
                meaning="100 x cosine(image, prompt), mean over all images",
                direction="maximize",
                lower=-100.0,
                upper=100.0,
            ),
            Metric(
                name=FIDELITY,
                meaning="clip_score / the base model's on the same prompts and seeds",
                direction="maximize",
                lower=-FIDELITY_BOUND,
                upper=FIDELITY_BOUND,
            ),
            Metric(
                name=FACELESS,
                meaning="images without a detected face, count",
            ),
            Metric(
                name=FACELESS_RATE,
                meaning="images without a detected face, share",
                upper=1.0,
            ),
            Metric(
                name=LIKENESS_SPREAD,
                meaning="likeness on the best quarter of the prompts less the worst, beyond the base model's own",
                lower=-2.0 * LIKENESS_BOUND,
                upper=2.0 * LIKENESS_BOUND,
            ),
            Metric(
                name=MEMORISATION,
                meaning="share of images that show a training photo again, re-framed, mirrored or recompressed",
                upper=1.0,
            ),
            Metric(
                name=LEAKAGE,
                meaning="likeness that images of OTHER people gain over the base model's, without the trigger",
                lower=-LIKENESS_BOUND,
                upper=LIKENESS_BOUND,
            ),
            Metric(
                name=OBJECTIVE,
                meaning="weighted sum of likeness, fidelity, faceless_rate and leakage; all faceless ranks last",
                direction="maximize",
                # Weights are at most 1; a model whose images are all faceless stands 1 below the worst sum.
                lower=-(2.0 * LIKENESS_BOUND + FIDELITY_BOUND + 1.0) - 1.0,
                upper=LIKENESS_BOUND + FIDELITY_BOUND,
            ),
            Metric(
                name=SEARCH_VALUE,
                meaning="what the search maximises: objective, less 1 and the excess for a candidate beyond a limit",
                direction="maximize",
                lower=-math.inf,
                upper=LIKENESS_BOUND + FIDELITY_BOUND,
            ),
            Metric(
                name=VALIDATION_LOSS,
                meaning="denoising loss on reference photos, fixed noise and timesteps",
            ),
            Metric(
                name=HW10_FACE_SCORE,
                meaning="the homework's face distance: images with a face x all photos",
                upper=MAXIMUM_DISTANCE,
            ),
            Metric(
                name=HW10_CLIP_SCORE,
                meaning="the homework's CLIP score: with the trigger in the prompt, mean over images with a face only",
                direction="maximize",
                lower=-100.0,
                upper=100.0,
            ),
            Metric(
                name=HW10_FACELESS,
                meaning="the homework's count of images without a face",
            ),
        )
    }
)
"""Every measure by name: the one table that tracking, search, report and tests share."""
