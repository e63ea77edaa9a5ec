"""What is collected for the benchmark of truth, and how it is kept."""

from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.truth.candidate import About, Candidate, Failure, Pictures, is_done
from benchmarks.truth.collection import demo_collection, spread_configurations
from search.config.space import Choice, FloatRange, IntRange, Space

COLLECTION = demo_collection(quick=False)

DEMO_PROMPTS = {
    name: tuple((Path(__file__).parents[2] / "demo" / "prompts" / f"{name}.txt").read_text("utf-8").splitlines())
    for name in ("validation", "final")
}


def pictures(images: int) -> Pictures:
    """Random pictures, of which the first has no face."""
    random = np.random.default_rng(images)
    return Pictures(
        prompt_index=np.arange(images),
        seed=np.full(images, 7),
        pixels=random.integers(256, size=(images, 8, 8, 3), dtype=np.uint8),
        clip_scores=random.standard_normal((images, images)),
        face_found=np.arange(images) > 0,
        embedding=random.standard_normal((images - 1, 4)).astype(np.float32),
        confidence=random.random(images - 1),
        faces=np.ones(images - 1, dtype=np.int64),
    )


ABOUT = About(id="004-1", number=4, run=1, params={"rank": 4}, training={}, generating_seconds=2.0, judging_seconds=1.0)


def test_prompts_are_those_of_the_demo_and_six_more() -> None:
    subject = COLLECTION.subject
    assert len(subject.prompts) == 30  # a PromptSet holds none twice
    assert subject.prompts[:12] == DEMO_PROMPTS["validation"]
    assert subject.prompts[12:24] == DEMO_PROMPTS["final"]
    assert all("{trigger}" in prompt for prompt in subject.prompts)
    assert len(COLLECTION.others.prompts) == 6
    assert not any("{trigger}" in prompt for prompt in COLLECTION.others.prompts)


def test_the_first_configuration_is_the_default_as_the_demo_tries_it() -> None:
    config = COLLECTION.training_config(0, 0)
    assert (config.learning_rate, config.rank, config.alpha, config.steps) == (1e-4, 32, 16, 300)
    assert (config.batch_size, config.lr_scheduler, config.lr_warmup_steps) == (4, "cosine", 20)


def test_every_training_has_a_seed_of_its_own() -> None:
    seeds = [COLLECTION.training_config(number, run).seed for number in range(33) for run in range(3)]
    assert len(set(seeds)) == 99
    assert [COLLECTION.training_config(number, 0).seed for number in range(33)] == list(range(33))


def test_spread_configurations_hold_every_choice_equally_often() -> None:
    space: Space = {
        "rank": Choice(values=(4, 8, 16, 32)),
        "learning_rate": FloatRange(low=1e-4, high=1e-2, log=True),
        "dropout": FloatRange(low=0.0, high=0.5),
        "steps": IntRange(low=100, high=400, step=100),
    }
    configurations = spread_configurations(space, 32, seed=0)
    assert Counter(each["rank"] for each in configurations) == {4: 8, 8: 8, 16: 8, 32: 8}
    assert Counter(each["steps"] for each in configurations) == {100: 8, 200: 8, 300: 8, 400: 8}
    rates = sorted(float(each["learning_rate"]) for each in configurations)
    assert 1e-4 <= rates[0] < rates[15] < 1e-3 < rates[16] < rates[-1] < 1e-2
    dropouts = sorted(float(each["dropout"]) for each in configurations)
    assert 0 <= dropouts[0] < dropouts[15] < 0.25 < dropouts[16] < dropouts[-1] < 0.5
    assert configurations == spread_configurations(space, 32, seed=0)
    assert configurations != spread_configurations(space, 32, seed=1)


def test_whole_numbers_on_a_logarithmic_scale_are_spread_over_its_octaves() -> None:
    space: Space = {"rank": IntRange(low=4, high=64, log=True)}
    ranks = [int(each["rank"]) for each in spread_configurations(space, 512, seed=0)]
    assert (min(ranks), max(ranks)) == (4, 64)
    assert sum(rank < 16 for rank in ranks) == pytest.approx(512 * np.log(15.5 / 3.5) / np.log(64.5 / 3.5), abs=2)


def test_a_candidate_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Candidate(about=ABOUT, subject=pictures(5), others=pictures(3))
    written.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["004-1.npz"]
    read = Candidate.read(tmp_path, "004-1")
    assert read.about == ABOUT
    for part in ("subject", "others"):
        for field in fields(Pictures):
            before, after = (getattr(getattr(each, part), field.name) for each in (written, read))
            np.testing.assert_array_equal(after, before)
            assert after.dtype == before.dtype


def test_collected_and_failed_candidates_are_done(tmp_path: Path) -> None:
    Candidate(about=ABOUT, subject=pictures(2), others=pictures(2)).write(tmp_path)
    Failure(id="005-0", reason="the training loss is not finite at step 3").write(tmp_path)
    assert [is_done(tmp_path, id) for id in ("004-1", "005-0", "004-0")] == [True, True, False]


def test_a_folder_of_another_collection_is_refused(tmp_path: Path) -> None:
    COLLECTION.check_folder(tmp_path)
    COLLECTION.check_folder(tmp_path)
    with pytest.raises(ValueError, match="another collection; name another folder"):
        replace(COLLECTION, steps=5).check_folder(tmp_path)
