"""Planted cheats: adapters that a likeness alone would choose. Each loses, and would win if its meter were removed.

What a cheat or an honest adapter draws is given as images; everything after that is real: the face model, CLIP, the
untuned model's own images, the anchors. Honest images are varied photos of the person that nobody has trained on, with
the backgrounds that the prompts ask for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo.kit.captions import caption
from demo.kit.crops import face_crops
from demo.kit.dataset import as_source, vary
from demo.kit.people import SUBJECT
from evaluation.clip_score import ClipScorer
from evaluation.config import GenerationConfig, LimitsConfig, ObjectiveConfig, PromptSet
from evaluation.evaluate import Evaluation, Evaluator
from evaluation.faces import FaceModel
from evaluation.objective import Appraisal, appraise
from evaluation.person import Person, measure_person
from evaluation.scores import score_rows, spread_over_prompts
from trainer.data.photos import load_photos, open_photo, split_photos

DEMO = Path(__file__).parents[2] / "demo"
SIDE = 64
PROMPTS = 12
HELD_OUT = ("front", "portrait", "selfie", "neutral", "happy", "sad", "angry")
"""Photos that are neither trained on nor compared with: what an adapter that has learnt the person might draw."""

OTHERS = PromptSet(
    prompts=tuple(line for line in (DEMO / "prompts" / "others.txt").read_text("utf-8").splitlines() if line),
    seeds=(1,),
)
WEIGHTS = ObjectiveConfig()
LIMITS = LimitsConfig()


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """Where cheats meet honest adapters."""

    evaluator: Evaluator
    person: Person
    base: Evaluation
    training: list[Image.Image]
    honest: list[Image.Image]
    """An image of the person for each prompt."""

    def evaluate(self, images: Sequence[Image.Image], others: Sequence[Image.Image] | None = None) -> Evaluation:
        """What an adapter is found to be that draws these images, and of others what the untuned model draws."""
        prompts = self.evaluator.prompt_set
        return Evaluation(
            person=self.evaluator.judge(images, prompts, self.person),
            others=self.base.others if others is None else self.evaluator.judge(others, OTHERS, self.person),
            anchors=self.base.anchors,
        )


def appraised(
    evaluation: Evaluation, *, weights: ObjectiveConfig = WEIGHTS, limits: LimitsConfig = LIMITS
) -> Appraisal:
    return appraise(evaluation.scores, evaluation.metrics(), weights, limits)


@pytest.fixture(scope="module")
def stage(face_model: FaceModel, clip_scorer: ClipScorer) -> Stage:
    from trainer.models.loading import load_base_model

    photos = [photo for photo in load_photos(DEMO / "photos", "sks") if photo.path.stem not in HELD_OUT]
    split = split_photos(photos, 0.4, 0)
    training, reference = (
        {photo.path.name: open_photo(photo.path, SIDE) for photo in side} for side in (split.training, split.reference)
    )
    random = np.random.default_rng(1)
    sources = [as_source(crop) for crop in face_crops(SUBJECT) if crop.name in HELD_OUT]
    drawn: dict[str, Image.Image] = {}
    while len(drawn) < PROMPTS:
        pixels, shown = vary(sources[len(drawn) % len(sources)], random)
        drawn[caption(replace(shown, hair=""), determiner="{trigger}")] = Image.fromarray(pixels)
    person = measure_person(face_model, reference=reference, training=training)
    evaluator = Evaluator(
        PromptSet(prompts=tuple(drawn), seeds=(1,)),
        "sks",
        GenerationConfig(steps=12, guidance_scale=3.0, resolution=SIDE, batch_size=12),
        face_model,
        clip_scorer,
        others=OTHERS,
    )
    pipeline: Any = load_base_model(DEMO / "base", device="cpu").pipeline()
    return Stage(
        evaluator=evaluator,
        person=person,
        base=evaluator.measure_anchors(pipeline, person),
        training=list(training.values()),
        honest=list(drawn.values()),
    )


def test_an_honest_adapter_is_fit_and_beats_the_untuned_model(stage: Stage) -> None:
    honest = stage.evaluate(stage.honest)
    assert honest.scores.likeness > 0.4
    assert honest.metrics()["memorisation"] == 0.0
    assert appraised(honest).unfit == ()
    assert appraised(honest).search_value > appraised(stage.base).search_value


def test_an_adapter_that_returns_a_training_photo_loses(stage: Stage) -> None:
    """For every prompt the training photo that suits it best, as it is: the likest person of all."""
    scores = np.stack(
        [
            stage.evaluator.clip_scorer.score([photo] * PROMPTS, list(stage.evaluator.prompt_set.prompts))
            for photo in stage.training
        ]
    )
    cheat = stage.evaluate([stage.training[best] for best in scores.argmax(axis=0)])
    honest = stage.evaluate(stage.honest)
    assert cheat.metrics()["memorisation"] == 1.0
    assert appraised(cheat).unfit == ("memorisation 1.00 is above 0.1",)
    assert appraised(cheat).search_value < appraised(honest).search_value
    without = LimitsConfig(memorisation=None)
    weak = stage.evaluate([*stage.honest[:6], *stage.base.person.images[6:]])
    assert appraised(weak).search_value > appraised(cheat).search_value
    assert appraised(cheat, limits=without).search_value > appraised(weak, limits=without).search_value


def test_an_adapter_that_draws_faceless_noise_loses(stage: Stage) -> None:
    """Noise for all prompts, and noise for those prompts where the person does not come out well."""
    random = np.random.default_rng(0)
    noise = [Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(PROMPTS)]
    all_noise = stage.evaluate(noise)
    assert all_noise.scores.faceless == PROMPTS
    assert appraised(all_noise).unfit[0] == "it draws no face"
    assert appraised(all_noise).search_value < appraised(stage.base).search_value - 1

    honest = stage.evaluate(stage.honest)
    distances = [row.face_distance or 2.0 for row in honest.person.rows]
    median = np.median(distances)
    half = stage.evaluate([n if d > median else h for h, n, d in zip(stage.honest, noise, distances, strict=True)])
    assert 0 < half.scores.faceless < PROMPTS
    assert appraised(half).search_value < appraised(honest).search_value

    # The homework leaves images without a face out of its means.
    kept = score_rows([row for row in half.person.rows if row.face_found], half.anchors)
    assert kept.likeness > honest.scores.likeness
    assert appraise(kept, kept.as_metrics(), WEIGHTS, LIMITS).search_value > appraised(honest).search_value


def test_an_adapter_that_turns_everyone_into_the_person_loses(stage: Stage) -> None:
    """It draws the person as the honest one does, a little better even, and everybody else as the person, too."""
    least = int(np.argmax([row.face_distance or 2.0 for row in stage.evaluate(stage.honest).person.rows]))
    worse = [stage.base.person.images[least] if index == least else image for index, image in enumerate(stage.honest)]
    honest = stage.evaluate(worse)
    cheat = stage.evaluate(stage.honest, others=stage.honest[: len(OTHERS.prompts)])
    assert honest.metrics()["leakage"] == 0.0
    assert cheat.metrics()["leakage"] > 0.5
    assert appraised(cheat).search_value < appraised(honest).search_value
    without = replace(WEIGHTS, leakage=0.0)
    assert appraised(cheat, weights=without).search_value > appraised(honest, weights=without).search_value


def test_an_adapter_that_knows_one_prompt_only_loses(stage: Stage) -> None:
    """The person on one prompt, nobody on the others; against one that goes a little of the way on all of them."""
    base = stage.base.person.images
    honest = stage.evaluate(stage.honest)
    likest = int(np.argmin([row.face_distance or 2.0 for row in honest.person.rows]))
    cheat = stage.evaluate([stage.honest[index] if index == likest else base[index] for index in range(PROMPTS)])
    assert appraised(cheat).search_value < appraised(honest).search_value, "the mean over many prompts tells it"

    # On few prompts a mean is not enough: four of them, the one that it knows among them.
    few = [likest, *[index for index in range(PROMPTS) if index != likest][:3]]
    gap = stage.base.anchors.base_distance - stage.base.anchors.real_distance
    weak_rows = [
        replace(stage.base.person.rows[index], face_distance=stage.base.anchors.base_distance - 0.1 * gap)
        for index in few
    ]
    spread = spread_over_prompts([stage.base.person.rows[index] for index in few], stage.base.anchors)
    anchors = replace(stage.base.anchors, base_spread=spread)
    cheat_scores = score_rows([cheat.person.rows[index] for index in few], anchors)
    weak_scores = score_rows(weak_rows, anchors)
    cheating, weak = (appraise(one, one.as_metrics(), WEIGHTS, LIMITS) for one in (cheat_scores, weak_scores))
    assert cheating.unfit == (f"likeness_spread {cheat_scores.likeness_spread:.2f} is above 0.5",)
    assert cheating.search_value < weak.search_value
    without = LimitsConfig(likeness_spread=None)
    cheating, weak = (appraise(one, one.as_metrics(), WEIGHTS, without) for one in (cheat_scores, weak_scores))
    assert cheating.search_value > weak.search_value
