"""Measures: what is said of an image and of a candidate; the name, meaning, direction and range of each. Pure."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

FACE_FOUND = "face_found"
FACES = "faces"
FACE_CONFIDENCE = "face_confidence"
FACE_DISTANCE = "face_distance"
NEAREST_DISTANCE = "nearest_distance"
TRAINING_DISTANCE = "training_distance"
VERIFIED = "verified"
SEVERAL_FACES = "several_faces"
CLIP_SCORE = "clip_score"
MISMATCHED_CLIP_SCORE = "mismatched_clip_score"
RETRIEVED = "retrieved"
SEED_DISTANCE = "seed_distance"
TRAINING_PHOTO = "training_photo"
PICTURE_DISTANCE = "picture_distance"

LIKENESS = "likeness"
SECOND_LIKENESS = "second_likeness"
FIDELITY = "fidelity"
FACELESS = "faceless"
FACELESS_RATE = "faceless_rate"
LIKENESS_SPREAD = "likeness_spread"
BEYOND_REAL = "beyond_real"
MEMORISATION = "memorisation"
LEAKAGE = "leakage"
VERIFICATION_RATE = "verification_rate"
TRAINING_GAP = "training_gap"
SEVERAL_FACES_RATE = "several_faces_rate"
PROMPT_RETRIEVAL = "prompt_retrieval"
SEED_DIVERSITY = "seed_diversity"
OTHERS_FIDELITY = "others_fidelity"
OTHERS_FACELESS = "others_faceless"
OBJECTIVE = "objective"
SEARCH_VALUE = "search_value"
EXCESS = "excess"
VALIDATION_LOSS = "validation_loss"
HW10_FACE_SCORE = "hw10_face_score"
HW10_CLIP_SCORE = "hw10_clip_score"
HW10_FACELESS = "hw10_faceless"

JUDGED_BY = (OBJECTIVE, LIKENESS, FIDELITY, FACELESS_RATE)
"""What a candidate is judged by, in the order in which it is printed."""

METERS = (LIKENESS_SPREAD, MEMORISATION, LEAKAGE, OTHERS_FACELESS)
"""What can be limited, each under its own name in `LimitsConfig`; less is better in all of them."""

FREE = (
    VERIFICATION_RATE,
    BEYOND_REAL,
    TRAINING_GAP,
    SEVERAL_FACES_RATE,
    PROMPT_RETRIEVAL,
    SEED_DIVERSITY,
    OTHERS_FIDELITY,
)
"""What costs no image more and decides nothing."""

PRINTED = (*JUDGED_BY, *METERS, *FREE)
"""What is said of a candidate, where it was measured."""

REAL = "real_"
"""Before the name of a measure in the baseline's metrics: its mean over the person's own photos."""

COPY_DISTANCE = "copy_distance"
"""In the baseline's metrics: the picture distance below which an image is a copy."""

MAXIMUM_DISTANCE = 2.0
"""Two vectors of length 1 are at most this far apart."""

Value: TypeAlias = bool | int | float | str
"""Of a measure of an image."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure: its name, what it means, which direction is better, and the range that it cannot leave."""

    name: str
    meaning: str
    direction: Literal["maximize", "minimize"] = "minimize"
    lower: float = 0.0
    upper: float = math.inf
    mean: str = ""
    """Of a measure of images: the name under which the mean over all images that have it is reported; empty: it is not.
    """
    kind: type[Value] = float
    """Of its values in files; texts have no mean and no range."""

    def check(self, value: float) -> None:
        """Raises ValueError unless the value is finite and in range."""
        if not math.isfinite(value) or not self.lower <= value <= self.upper:
            raise ValueError(f"{self.name} is {value!r}; it is a finite number from {self.lower:g} to {self.upper:g}")


FACE_MEASURES = (
    Measure(
        name=FACE_FOUND, meaning="whether a face was found that counts", direction="maximize", upper=1.0, kind=bool
    ),
    Measure(name=FACES, meaning="faces that count, of which the largest was measured", lower=1.0, kind=int),
    Measure(name=FACE_CONFIDENCE, meaning="of the detection", direction="maximize", upper=1.0),
    Measure(
        name=FACE_DISTANCE,
        meaning="mean L2 distance of normalised face embeddings, generated x reference, faces only",
        upper=MAXIMUM_DISTANCE,
        mean=FACE_DISTANCE,
    ),
    Measure(name=NEAREST_DISTANCE, meaning="face distance to the nearest reference photo", upper=MAXIMUM_DISTANCE),
    Measure(name=TRAINING_DISTANCE, meaning="mean face distance to the photos trained on", upper=MAXIMUM_DISTANCE),
    Measure(
        name=VERIFIED,
        meaning="share of the reference photos that the recogniser takes for the same person, 0 without a face",
        direction="maximize",
        upper=1.0,
        mean=VERIFICATION_RATE,
    ),
    Measure(
        name=SEVERAL_FACES,
        meaning="whether more than one face counts, 0 or 1",
        upper=1.0,
        mean=SEVERAL_FACES_RATE,
    ),
)
"""Of `evaluation.judges.FaceJudge`."""

CLIP_MEASURES = (
    Measure(
        name=CLIP_SCORE,
        meaning="100 x cosine(image, prompt), mean over all images",
        direction="maximize",
        lower=-100.0,
        upper=100.0,
        mean=CLIP_SCORE,
    ),
    Measure(
        name=MISMATCHED_CLIP_SCORE,
        meaning="mean CLIP score with the other prompts of the set",
        lower=-100.0,
        upper=100.0,
    ),
    Measure(
        name=RETRIEVED,
        meaning="whether CLIP finds the image's own prompt the best of all prompts of the set, 0 or 1",
        direction="maximize",
        upper=1.0,
        mean=PROMPT_RETRIEVAL,
    ),
    Measure(
        name=SEED_DISTANCE,
        meaning="mean distance of CLIP's image embedding to those of the same prompt's other seeds",
        direction="maximize",
        upper=MAXIMUM_DISTANCE,
        mean=SEED_DIVERSITY,
    ),
)
"""Of `evaluation.judges.ClipJudge`."""

COPY_MEASURES = (
    Measure(name=TRAINING_PHOTO, meaning="the photo trained on that the picture is most like", kind=str),
    Measure(
        name=PICTURE_DISTANCE,
        meaning="distance to that photo as a picture",
        direction="maximize",
        upper=MAXIMUM_DISTANCE,
    ),
)
"""Of `evaluation.judges.CopyJudge`."""

IMAGE_MEASURES = (*FACE_MEASURES, *CLIP_MEASURES, *COPY_MEASURES)
"""Every built-in measure of an image."""


def _rate(name: str, meaning: str, direction: Literal["maximize", "minimize"] = "minimize") -> Measure:
    return Measure(name=name, meaning=meaning, direction=direction, upper=1.0)


METRICS: Mapping[str, Measure] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            next(measure for measure in FACE_MEASURES if measure.name == FACE_DISTANCE),
            Measure(
                name=LIKENESS,
                meaning="(base - d) / (base - real), [-1, 1] an image: 0 the untuned model, 1 the person's own photos; "
                "faceless counts 0",
                direction="maximize",
                lower=-1.0,
                upper=1.0,
            ),
            Measure(
                name=SECOND_LIKENESS,
                meaning="likeness in the eyes of the second judge, which steers nothing, between its own anchors",
                direction="maximize",
                lower=-1.0,
                upper=1.0,
            ),
            next(measure for measure in CLIP_MEASURES if measure.name == CLIP_SCORE),
            Measure(
                name=FIDELITY,
                meaning="CLIP score: 0 the untuned model's images with the other prompts, 1 with their own",
                direction="maximize",
                lower=-1.0,
                upper=2.0,
            ),
            Measure(name=FACELESS, meaning="images without a detected face, count"),
            _rate(FACELESS_RATE, "images without a detected face, share"),
            Measure(
                name=LIKENESS_SPREAD,
                meaning="likeness on the best quarter of the prompts less the worst, beyond the base model's own; "
                "prompts on which the untuned model draws no face and faceless images are left out",
                lower=-4.0,
                upper=4.0,
            ),
            Measure(
                name=BEYOND_REAL,
                meaning="mean likeness beyond that of the person's own photos, which counts for nothing",
            ),
            _rate(
                MEMORISATION, "share of images that show a training photo again, re-framed, mirrored or recompressed"
            ),
            Measure(
                name=LEAKAGE,
                meaning="likeness that images of OTHER people gain over the base model's, without the trigger",
                lower=-1.0,
                upper=1.0,
            ),
            _rate(
                VERIFICATION_RATE,
                "share of (image, reference photo) pairs that the recogniser takes for one person at its own threshold",
                "maximize",
            ),
            Measure(
                name=TRAINING_GAP,
                meaning="likeness to the photos trained on less that to the reference photos",
                lower=-math.inf,
            ),
            _rate(SEVERAL_FACES_RATE, "images with more than one face, share"),
            _rate(
                PROMPT_RETRIEVAL, "share of images for which CLIP prefers their own prompt to all others", "maximize"
            ),
            Measure(
                name=SEED_DIVERSITY,
                meaning="mean distance of CLIP's embeddings of images of one prompt with other seeds",
                direction="maximize",
                upper=MAXIMUM_DISTANCE,
            ),
            Measure(
                name=OTHERS_FIDELITY,
                meaning="fidelity of images of OTHER people, between the base model's own ends",
                direction="maximize",
                lower=-1.0,
                upper=2.0,
            ),
            Measure(
                name=OTHERS_FACELESS,
                meaning="share of images of OTHER people without a face, less the base model's",
                lower=-1.0,
                upper=1.0,
            ),
            Measure(
                name=OBJECTIVE,
                meaning="weighted sum of likeness, fidelity, faceless_rate and leakage; all faceless ranks last",
                direction="maximize",
                lower=-math.inf,
            ),
            Measure(
                name=SEARCH_VALUE,
                meaning="what the search maximises: objective, less 1 and the excess for a candidate beyond a limit",
                direction="maximize",
                lower=-math.inf,
            ),
            Measure(name=EXCESS, meaning="by how much a candidate surely exceeds its limits; 0 for one that is fit"),
            Measure(name=VALIDATION_LOSS, meaning="denoising loss on reference photos, fixed noise and timesteps"),
            Measure(
                name=HW10_FACE_SCORE,
                meaning="the homework's face distance: images with a face x all photos",
                upper=MAXIMUM_DISTANCE,
            ),
            Measure(
                name=HW10_CLIP_SCORE,
                meaning="the homework's CLIP score: with the trigger in the prompt, mean over images with a face only",
                direction="maximize",
                lower=-100.0,
                upper=100.0,
            ),
            Measure(name=HW10_FACELESS, meaning="the homework's count of images without a face"),
        )
    }
)
"""Every built-in measure of a candidate by name: the one table that tracking, search, report and tests share."""


_OF_IMAGES = {measure.name: measure for measure in IMAGE_MEASURES}


def check_measured(name: str, value: float) -> None:
    """Raises ValueError unless a measure of an image is in its range; one that is not built in has to be finite."""
    _OF_IMAGES.get(name, Measure(name=name, meaning="", lower=-math.inf)).check(value)


def check_metric(name: str, value: float) -> None:
    """The same of a metric of a candidate."""
    METRICS.get(name, Measure(name=name, meaning="", lower=-math.inf)).check(value)


RESERVED = (
    "prompt_set",
    "candidate",
    "step",
    "training_seed",
    "strength",
    "shows",
    "prompt_index",
    "prompt",
    "seed",
)
"""What a table of images says of each beside its measures, which therefore no measure may be called."""


def printed(metrics: Iterable[str]) -> tuple[str, ...]:
    """Which metrics are said of a candidate, in their order: the built-in ones, then those of further judges."""
    given = list(metrics)
    further = [name for name in given if name not in METRICS and not name.startswith(REAL) and name != COPY_DISTANCE]
    return (*(name for name in PRINTED if name in given), *further)


RATES = (FACELESS_RATE, MEMORISATION, PROMPT_RETRIEVAL, SEVERAL_FACES_RATE)
"""Shares of images that each have a property or not: their intervals are Wilson's, which have a width at 0 and 1."""
