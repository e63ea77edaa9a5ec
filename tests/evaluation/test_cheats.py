"""Planted cheats: adapters that a likeness alone would choose. Each loses, and would win if its meter were removed.

What a cheat or an honest adapter draws is given as images; everything after that is real: the face model, CLIP, the
untuned model's own images, the anchors. Honest images are varied photos of the person that nobody has trained on, with
the backgrounds that the prompts ask for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.copies.reframing import COPIES
from demo.kit.captions import caption
from demo.kit.crops import face_crops
from demo.kit.dataset import as_source, vary
from demo.kit.people import SUBJECT
from evaluation.clip_score import ClipScorer
from evaluation.config import GenerationConfig, LimitsConfig, ObjectiveConfig, PromptSet, as_read_by_clip
from evaluation.evaluate import Evaluation, Evaluator, Measurement
from evaluation.faces import FaceModel
from evaluation.image_row import ImageRow
from evaluation.measures import FACE_DISTANCE
from evaluation.objective import Appraisal, appraise, objective_floor
from evaluation.person import Person, measure_person
from evaluation.scores import spread_over_prompts
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
RETURNED = ("unchanged", "moved by 0.8 to 5 %", "zoomed, moved, mirrored and JPEG", "through the demo's autoencoder")
"""How a training photo comes back, by the names of `COPIES`."""
WEIGHTS = ObjectiveConfig()
LIMITS = LimitsConfig()


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """Where cheats meet honest adapters."""

    evaluator: Evaluator
    person: Person
    base: Evaluation
    training: list[Image.Image]
    pictures: list[Image.Image]
    """An image of the person for each prompt: what the honest adapter draws."""

    @cached_property
    def honest(self) -> Evaluation:
        """What the honest adapter is found to be."""
        return self.evaluate(self.pictures)

    @cached_property
    def a_little_worse(self) -> Evaluation:
        """The honest adapter, but for its least like image, which is the untuned model's."""
        least = int(np.argmax([row.face_distance or 2.0 for row in self.honest.person.rows]))
        base = self.base.person.images[least]
        return self.evaluate([base if index == least else image for index, image in enumerate(self.pictures)])

    def evaluate(self, images: Sequence[Image.Image], others: Sequence[Image.Image] | None = None) -> Evaluation:
        """What an adapter is found to be that draws these images, and of others what the untuned model draws."""
        prompts = self.evaluator.prompt_set
        return Evaluation(
            person=self.evaluator.judge(images, prompts, self.person),
            others=self.base.others if others is None else self.evaluator.judge(others, OTHERS, self.person),
            anchors=self.base.anchors,
        )

    def best_training_photos(self) -> list[Image.Image]:
        """For every prompt the training photo that CLIP finds best."""
        texts = [as_read_by_clip(prompt) for prompt in self.evaluator.prompt_set.prompts]
        scores = np.stack([self.evaluator.clip_scorer.score([photo] * PROMPTS, texts) for photo in self.training])
        return [self.training[best] for best in scores.argmax(axis=0)]

    def part_way(self, share: float) -> Evaluation:
        """An honest adapter whose faces are so much of the way nearer to the person, on each of the base's images."""
        rows = tuple(nearer(row, share * self.base.anchors.gap) for row in self.base.person.rows)
        return replace(self.base, person=replace(self.base.person, rows=rows))


def nearer(row: ImageRow, difference: float) -> ImageRow:
    """The same image with another face distance."""
    assert row.face_distance is not None
    return replace(row, measures={**row.measures, FACE_DISTANCE: row.face_distance - difference})


def appraised(
    evaluation: Evaluation, *, weights: ObjectiveConfig = WEIGHTS, limits: LimitsConfig = LIMITS
) -> Appraisal:
    metrics = evaluation.metrics(weights)
    return appraise(metrics, evaluation.lower_ends(metrics), weights, limits)


@pytest.fixture(scope="module")
def stage(face_model: FaceModel, clip_scorer: ClipScorer) -> Stage:
    from trainer.models.loading import load_base_model

    photos = [photo for photo in load_photos(DEMO / "photos", "sks") if photo.path.stem not in HELD_OUT]
    split = split_photos(photos, 0.4, 0)
    training, reference = (
        {photo.path.name: open_photo(photo, SIDE) for photo in side} for side in (split.training, split.reference)
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
        pictures=list(drawn.values()),
    )


def test_an_honest_adapter_is_fit_and_beats_the_untuned_model(stage: Stage) -> None:
    honest = stage.honest
    metrics = honest.metrics(WEIGHTS)
    assert metrics["likeness"] > 0.8
    assert metrics["fidelity"] > 0.9
    assert metrics["prompt_retrieval"] == metrics["verification_rate"] == 1.0
    assert metrics["memorisation"] == 0.0
    assert appraised(honest).unfit == ()
    assert appraised(honest).search_value > appraised(stage.base).search_value


def test_an_adapter_that_goes_part_of_the_way_is_fit_and_the_further_the_better(stage: Stage) -> None:
    some, more = appraised(stage.part_way(0.1)), appraised(stage.part_way(0.3))
    assert some.unfit == more.unfit == ()
    assert appraised(stage.base).search_value < some.search_value < more.search_value
    assert more.search_value < appraised(stage.honest).search_value


@pytest.mark.parametrize("name", RETURNED)
def test_an_adapter_that_returns_a_training_photo_loses(stage: Stage, name: str) -> None:
    """For every prompt the training photo that suits it best, as it is or re-framed: a likeness as of real photos."""
    random = np.random.default_rng(0)
    cheat = stage.evaluate([COPIES[name](photo, random) for photo in stage.best_training_photos()])
    assert cheat.metrics(WEIGHTS)["memorisation"] == 1.0
    assert appraised(cheat).unfit == ("memorisation 1.00 (surely 0.76 or more) is above 0.1",)
    assert appraised(cheat).search_value < appraised(stage.honest).search_value
    # Against one that hardly knows the person the limit decides, and nothing else.
    weak, without = stage.part_way(0.05), LimitsConfig(memorisation=None)
    assert appraised(weak).search_value > appraised(cheat).search_value
    assert appraised(cheat, limits=without).search_value > appraised(weak, limits=without).search_value


def test_a_single_copy_among_honest_images_may_be_chance_and_half_of_them_are_not(stage: Stage) -> None:
    copied = stage.best_training_photos()
    found = {count: stage.evaluate([*copied[:count], *stage.pictures[count:]]) for count in (1, 6)}
    assert [found[count].metrics(WEIGHTS)["memorisation"] for count in found] == pytest.approx([1 / 12, 0.5])
    assert [bool(appraised(found[count]).unfit) for count in found] == [False, True]


@pytest.mark.parametrize("name", ["neutral", "portrait", "front"])
def test_an_adapter_that_draws_one_portrait_for_every_prompt_loses(stage: Stage, name: str) -> None:
    """A real photo that was not trained on, so no copy: as like as can be, whatever is asked."""
    photo = next(photo for photo in load_photos(DEMO / "photos", "sks") if photo.path.stem == name)
    cheat = stage.evaluate([open_photo(photo, SIDE)] * PROMPTS)
    check_that_ignored_prompts_lose(stage, cheat)
    assert cheat.metrics(WEIGHTS)["prompt_retrieval"] == pytest.approx(1 / PROMPTS), "the prompt that it was taken for"


def test_an_adapter_that_draws_passport_photos_loses(stage: Stage) -> None:
    """The same good face in ever another light and framing, before the gray of a photo booth, whatever is asked."""
    source = next(as_source(crop) for crop in face_crops(SUBJECT) if crop.name == "neutral")
    random = np.random.default_rng(3)
    passports: list[Image.Image] = []
    while len(passports) < PROMPTS:
        pixels, shown = vary(source, random)
        if shown.background == "gray":
            passports.append(Image.fromarray(pixels))
    check_that_ignored_prompts_lose(stage, stage.evaluate(passports))


def check_that_ignored_prompts_lose(stage: Stage, cheat: Evaluation) -> None:
    """Nothing but fidelity holds this against them: they are likest of all, and fit."""
    metrics, honest = cheat.metrics(WEIGHTS), stage.honest
    assert metrics["likeness"] > honest.metrics(WEIGHTS)["likeness"]
    assert metrics["fidelity"] < 0.2
    assert metrics["prompt_retrieval"] < 0.2
    assert metrics["memorisation"] == 0.0
    assert appraised(cheat).unfit == ()
    # It loses even to one that is only a third of the way to the person.
    for one in (honest, stage.part_way(1 / 3)):
        assert appraised(cheat).search_value < appraised(one).search_value
        without = replace(WEIGHTS, fidelity=0.0)
        assert appraised(cheat, weights=without).search_value > appraised(one, weights=without).search_value


def test_an_adapter_that_draws_faceless_noise_loses(stage: Stage) -> None:
    """Noise for all prompts, and noise for those prompts where the person does not come out well."""
    noise = noise_pictures(PROMPTS)
    all_noise = stage.evaluate(noise)
    assert all_noise.metrics(WEIGHTS)["faceless"] == PROMPTS
    assert appraised(all_noise).unfit[0] == "it draws no face"
    assert appraised(all_noise).objective == objective_floor(WEIGHTS)
    assert appraised(all_noise).search_value < appraised(stage.base).search_value - 1

    honest = stage.honest
    distances = [row.face_distance or 2.0 for row in honest.person.rows]
    median = np.median(distances)
    half = stage.evaluate([n if d > median else h for h, n, d in zip(stage.pictures, noise, distances, strict=True)])
    assert 0 < half.metrics(WEIGHTS)["faceless"] < PROMPTS
    assert appraised(half).search_value < appraised(honest).search_value

    # The homework leaves images without a face out of its means.
    kept = replace(half, person=replace(half.person, rows=tuple(row for row in half.person.rows if row.face_found)))
    assert kept.metrics(WEIGHTS)["likeness"] > honest.metrics(WEIGHTS)["likeness"]
    assert appraised(kept).search_value > appraised(honest).search_value


def test_an_adapter_that_hides_the_faces_that_it_cannot_draw_loses(stage: Stage) -> None:
    """Noise in place of those faces of the untuned model that are unlike the person, against the faces themselves."""
    base = stage.base.person
    noise = noise_pictures(PROMPTS)
    unlike = [(row.face_distance or 0.0) > stage.base.anchors.untuned[FACE_DISTANCE] for row in base.rows]
    assert 0 < sum(unlike) < PROMPTS
    cheat = stage.evaluate([n if hide else image for n, hide, image in zip(noise, unlike, base.images, strict=True)])
    assert cheat.metrics(WEIGHTS)["likeness"] > stage.base.metrics(WEIGHTS)["likeness"]
    assert appraised(cheat).search_value < appraised(stage.base).search_value


def test_an_adapter_that_turns_everyone_into_the_person_loses(stage: Stage) -> None:
    """It draws the person as the honest one does, a little better even, and everybody else as the person, too."""
    honest = stage.a_little_worse
    cheat = stage.evaluate(stage.pictures, others=stage.pictures[: len(OTHERS.prompts)])
    assert honest.metrics(WEIGHTS)["leakage"] == 0.0
    assert cheat.metrics(WEIGHTS)["leakage"] > 0.5
    assert appraised(cheat).search_value < appraised(honest).search_value
    without = replace(WEIGHTS, leakage=0.0)
    assert appraised(cheat, weights=without).search_value > appraised(honest, weights=without).search_value
    # A limit of one's own refuses it.
    strict = LimitsConfig(leakage=0.5)
    assert appraised(honest, limits=strict).unfit == ()
    assert appraised(cheat, limits=strict).unfit[0].startswith("leakage 1.00 (surely 0.")


def test_an_adapter_that_wrecks_the_faces_of_strangers_loses(stage: Stage) -> None:
    """It draws the person as the honest one does, a little better even, and noise for everybody else."""
    honest = stage.a_little_worse
    cheat = stage.evaluate(stage.pictures, others=noise_pictures(len(OTHERS.prompts)))
    metrics = cheat.metrics(WEIGHTS)
    assert metrics["others_faceless"] == 1.0
    assert metrics["others_fidelity"] < 0.3
    assert "leakage" not in metrics, "nobody there is like anybody"
    assert appraised(cheat).unfit == ("others_faceless 1.00 (surely 0.61 or more) is above 0.25",)
    assert appraised(cheat).search_value < appraised(honest).search_value
    without = LimitsConfig(others_faceless=None)
    assert appraised(cheat, limits=without).search_value > appraised(honest, limits=without).search_value


def test_a_single_stranger_without_a_face_makes_nobody_unfit(stage: Stage) -> None:
    others = [*noise_pictures(1), *stage.base.others.images[1:]]
    found = stage.evaluate(stage.pictures, others=others)
    assert found.metrics(WEIGHTS)["others_faceless"] == pytest.approx(1 / 6)
    assert appraised(found).unfit == ()


def test_an_adapter_that_wrecks_the_prompts_of_strangers_is_told_apart_and_gains_nothing(stage: Stage) -> None:
    """The strangers' pictures among each other: their faces are whole and nobody's, and none is what was asked for."""
    images = stage.base.others.images
    honest, cheat = stage.honest, stage.evaluate(stage.pictures, others=[*images[1:], images[0]])
    assert honest.metrics(WEIGHTS)["others_fidelity"] == pytest.approx(1.0)
    assert cheat.metrics(WEIGHTS)["others_fidelity"] < 0.2
    assert cheat.metrics(WEIGHTS)["others_faceless"] == 0.0
    assert appraised(cheat).search_value <= appraised(honest).search_value


def test_an_adapter_that_knows_one_prompt_only_loses(stage: Stage) -> None:
    """The person on one prompt, nobody on the others; against one that goes a little of the way on all of them."""
    base = stage.base.person.images
    honest = stage.honest
    likest = int(np.argmin([row.face_distance or 2.0 for row in honest.person.rows]))
    cheat = stage.evaluate([stage.pictures[index] if index == likest else base[index] for index in range(PROMPTS)])
    assert appraised(cheat).search_value < appraised(honest).search_value, "the mean over many prompts tells it"

    # On few prompts a mean is not enough: four of them, the one that it knows among them, the same with each seed.
    few = [likest, *[index for index in range(PROMPTS) if index != likest][:3]]

    def of_few(evaluation: Evaluation) -> tuple[ImageRow, ...]:
        return tuple(replace(evaluation.person.rows[index], seed=seed) for index in few for seed in (1, 2))

    spread = spread_over_prompts(of_few(stage.base), stage.base.anchors)
    anchors = replace(stage.base.anchors, base_spread=spread)
    mean = stage.base.anchors.untuned[FACE_DISTANCE]
    level = tuple(nearer(row, (row.face_distance or 0.0) - mean + 0.1 * anchors.gap) for row in of_few(stage.base))
    nobody = Measurement(rows=(), images=())
    cheating, weak = (
        Evaluation(person=Measurement(rows=rows, images=()), others=nobody, anchors=anchors)
        for rows in (of_few(cheat), level)
    )
    told = cheating.metrics(WEIGHTS)["likeness_spread"]
    assert appraised(cheating).unfit == (f"likeness_spread {told:.2f} (surely {told:.2f} or more) is above 0.5",)
    assert appraised(weak).unfit == ()
    assert appraised(cheating).search_value < appraised(weak).search_value
    without = LimitsConfig(likeness_spread=None)
    assert appraised(cheating, limits=without).search_value > appraised(weak, limits=without).search_value


def noise_pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    return [Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(count)]
