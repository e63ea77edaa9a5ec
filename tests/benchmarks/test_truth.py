"""The benchmark of truth: its parts by hand, and a quick run for real."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from benchmarks.truth.candidate import About, Photos, Pictures
from benchmarks.truth.coverage import coverage, drawn_finals
from benchmarks.truth.draws import draw_configurations, draw_slices
from benchmarks.truth.interval_methods import METHODS
from benchmarks.truth.meters import leakage, likeness_spread, meters
from benchmarks.truth.rank_agreement import rank_agreement, tau
from benchmarks.truth.records import OBJECTIVE, Measures, Record, Records, Slice
from benchmarks.truth.replay import replay
from evaluation.bootstrap import Values
from evaluation.config import Anchor
from evaluation.faces import distances
from evaluation.image_row import ImageRow
from evaluation.objective import image_objective
from evaluation.terms import LIKENESS_TERM
from tests.support import quick_benchmark

SHAPE = PROMPTS, SEEDS, PHOTOS = 30, 6, 10
BASE_DISTANCE, REAL_DISTANCE = 0.6, 0.2


def photos() -> Photos:
    """One photo trained on and ten held out, each pair at the real distance."""
    # Unit vectors with a shared axis and one of their own of length s are sqrt(2) s apart.
    own = REAL_DISTANCE / np.sqrt(2.0)
    embedding = np.eye(PHOTOS + 1, PHOTOS + 2, k=1) * own
    embedding[:, 0] = np.sqrt(1.0 - own**2)
    return Photos(
        name=np.array([f"{index}.png" for index in range(PHOTOS + 1)]),
        trained_on=np.arange(PHOTOS + 1) == 0,
        pixels=np.zeros((PHOTOS + 1, 1, 1, 3), dtype=np.uint8),
        embedding=embedding.astype(np.float32),
    )


def record(number: int | None, run: int, distance: float, noise: float = 0.0) -> Record:
    """A training whose faces all lie at one distance, but for noise."""
    random = np.random.default_rng([number or 0, run])

    def measures(prompts: int, seeds: int) -> Measures:
        each = distance + noise * random.standard_normal((prompts, seeds, 1))
        own = np.eye(prompts)[:, None, :]
        return Measures(
            face_found=np.ones((prompts, seeds), dtype=bool),
            clip_scores=np.broadcast_to(10.0 + 40.0 * own, (prompts, seeds, prompts)),
            distance=np.broadcast_to(each, (prompts, seeds, PHOTOS)),
            trained_distance=each,
        )

    about = About(
        id="base" if number is None else f"{number:03d}-{run}",
        number=number,
        run=run,
        params={},
        training={"rank": 4, "steps": 100},
        generating_seconds=17.0,
        judging_seconds=1.9,
    )
    return Record(
        about=about,
        subject=measures(PROMPTS, SEEDS),
        others=measures(9, 1),
        picture_distance=np.ones((PROMPTS, SEEDS)),
    )


def collected(runs: Mapping[int, tuple[float, ...]], noise: float = 0.0) -> Records:
    """Configurations with the face distances of their trainings."""
    candidates = (
        record(number, run, each, noise) for number, values in runs.items() for run, each in enumerate(values)
    )
    return Records(
        base=record(None, 0, BASE_DISTANCE), candidates=tuple(candidates), photos=photos(), copy_distance=0.1
    )


def test_scores_are_those_of_the_project() -> None:
    random = np.random.default_rng(0)
    shown = photos()

    def measured(offset: float) -> tuple[Pictures, Measures]:
        found = random.random(12) < 0.8
        embedding = shown.embedding[0] + offset * random.standard_normal((found.sum(), PHOTOS + 2))
        embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
        pictures = Pictures(
            prompt_index=np.repeat(np.arange(4), 3),
            seed=np.tile([5, 6, 7], 4),
            pixels=np.zeros((12, 1, 1, 3), dtype=np.uint8),
            clip_scores=20 + 20 * np.repeat(np.eye(4), 3, axis=0) + random.standard_normal((12, 4)),
            face_found=found,
            embedding=embedding.astype(np.float32),
            confidence=np.ones(found.sum()),
            faces=np.ones(found.sum(), dtype=np.int64),
        )
        return pictures, Measures.of(pictures, shown)

    (_, base), (pictures, candidate) = measured(0.3), measured(0.1)
    about = About(id="", params={}, training={}, generating_seconds=0.0, judging_seconds=0.0)
    records = Records(
        base=Record(about=about, subject=base, others=base, picture_distance=np.ones((4, 3))),
        candidates=(Record(about=about, subject=candidate, others=candidate, picture_distance=np.ones((4, 3))),),
        photos=shown,
        copy_distance=0.1,
    )
    part = Slice(prompts=np.array([2, 0]), seeds=np.array([1, 2]), photos=np.array([3, 1, 8]))
    anchors = records.anchors(part)

    reference = shown.embedding[1:][[3, 1, 8]]
    faces = iter(pictures.embedding)
    rows = []
    for index in range(12):
        face = next(faces) if pictures.face_found[index] else None
        rows.append(
            ImageRow.of(
                int(pictures.prompt_index[index]),
                int(pictures.seed[index]),
                face_distance=None if face is None else float(distances(face[None], reference).mean()),
                clip_score=float(pictures.clip_scores[index, pictures.prompt_index[index]]),
            )
        )
    chosen = [rows[prompt * 3 + seed] for prompt in (2, 0) for seed in (1, 2)]
    assert not all(row.face_found for row in rows)
    # The same images stand for those of others, which are all compared, with the photos of the slice.
    gained = [each.distance[..., [3, 1, 8]].mean(axis=2)[each.face_found].mean() for each in (base, candidate)]
    expected = min(1.0, (gained[0] - gained[1]) / anchors.gap)
    assert records.leakage(records.candidates[0], part) == pytest.approx(expected)
    cost = OBJECTIVE.leakage * max(expected, 0.0)
    np.testing.assert_allclose(
        records.objective(records.candidates[0], part).ravel(),
        [image_objective(row, anchors, OBJECTIVE) - cost for row in chosen],
    )
    np.testing.assert_allclose(
        records.likeness(records.candidates[0], part).ravel(), [LIKENESS_TERM.share(row, anchors) for row in chosen]
    )
    assert anchors.real["face_distance"] == pytest.approx(REAL_DISTANCE, abs=1e-6)
    base_faces = base.distance[np.ix_([2, 0], [1, 2], [3, 1, 8])].mean(axis=2)[base.face_found[np.ix_([2, 0], [1, 2])]]
    assert anchors.untuned["face_distance"] == pytest.approx(base_faces.mean())
    other = [base.clip_scores[2, [1, 2], 0], base.clip_scores[0, [1, 2], 2]]
    assert anchors.end("clip_score", Anchor.MISMATCHED) == pytest.approx(np.mean(other))


def test_a_draw_deals_everything_once() -> None:
    draw = draw_slices(SHAPE, np.random.default_rng(0))
    parts = (draw.validation, draw.final, draw.truth)
    assert [(len(part.prompts), len(part.seeds), len(part.photos)) for part in parts] == [
        (12, 2, 5),
        (8, 2, 5),
        (10, 2, 5),
    ]
    assert sorted(np.concatenate([part.prompts for part in parts])) == list(range(PROMPTS))
    assert sorted(np.concatenate([part.seeds for part in parts])) == list(range(SEEDS))
    assert sorted(np.concatenate([draw.final.photos, draw.truth.photos])) == list(range(PHOTOS))
    assert draw.validation.photos.tolist() == draw.final.photos.tolist()


def test_the_default_is_always_tried_beside_eleven_others() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        numbers = draw_configurations(range(1, 9), range(9, 33), 12, random)
        assert numbers[0] == 0
        assert len(set(numbers)) == 12
        assert sum(1 <= number <= 8 for number in numbers) == 5
    assert draw_configurations([1], [2], 12, random) == [0, 1, 2]


def test_a_replay_without_noise_finds_the_best_and_reports_its_true_score() -> None:
    records = collected({0: (0.6, 0.6), 1: (0.5, 0.3), 2: (0.4, 0.5), 3: (0.2,)})
    draw = draw_slices(SHAPE, np.random.default_rng(0))
    outcome = replay(records, [0, 1, 2, 3], draw, confidence=0.95, seed=0)
    # Number 3 has one training and may not enter the final, 2 leads in the search, 1 over both of its trainings.
    assert outcome.winner == 1
    assert outcome.likeness.search == pytest.approx(0.25, abs=1e-5)  # (0.6 - 0.5) / (0.6 - 0.2)
    assert outcome.likeness.reported == pytest.approx(0.5, abs=1e-5)
    assert outcome.likeness.true == pytest.approx(0.5, abs=1e-5)
    # 0.5 x 0.5 + 0.4 x 1 - 0.05 x 0.5, for the images of others stand where those of the person do
    assert outcome.objective.true == pytest.approx(0.625, abs=1e-5)
    assert outcome.default.true == pytest.approx(0.4, abs=1e-5)
    assert outcome.best_true == outcome.objective.true
    assert outcome.won
    assert outcome.lead_holds
    assert outcome.lead.mean == pytest.approx(0.225, abs=1e-5)


def test_the_default_that_wins_has_not_beaten_itself() -> None:
    records = collected({0: (0.3,), 1: (0.5,)})
    outcome = replay(records, [0, 1], draw_slices(SHAPE, np.random.default_rng(0)), confidence=0.95, seed=0)
    assert outcome.winner == 0
    assert not outcome.won


def test_tau_by_hand() -> None:
    assert tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)  # two pairs in order, one not
    assert tau([1, 2, 3], [1, 2, 3]) == 1


@pytest.mark.parametrize(("prompts", "seeds"), [(3, 1), (30, 5)])
def test_without_noise_the_cheapest_score_ranks_as_the_full_one(prompts: int, seeds: int) -> None:
    records = collected({number: (0.5 - number / 100,) for number in range(8)})
    agreement = rank_agreement(
        records, records.candidates, prompts=prompts, seeds=seeds, draws=2, random=np.random.default_rng(0)
    )
    assert (agreement.tau, agreement.lower, agreement.upper, agreement.other_photos) == pytest.approx((1, 1, 1, 1))
    assert agreement.seconds == pytest.approx(0.1 * prompts * seeds)  # 18.9 s for 189 images


def normal_finals(count: int, *, shared: float, random: np.random.Generator) -> Iterator[tuple[Values, float]]:
    """Finals of 20 prompts x 2 seeds around 0, with unit noise and a part that the images of a prompt share."""
    for _ in range(count):
        noise = random.standard_normal((1, 20, 2)) + shared * random.standard_normal((1, 20, 1))
        yield noise, 0.0


def test_intervals_of_independent_images_have_their_level() -> None:
    random = np.random.default_rng(0)
    held = {
        name: each.held
        for name, each in coverage(normal_finals(600, shared=0.0, random=random), level=0.9, random=random).items()
    }
    assert held["prompts, t"] == pytest.approx(0.9, abs=0.03)
    assert held["images"] == pytest.approx(0.9, abs=0.04)  # percentiles of few images run a little short
    assert held["runs x prompts x seeds"] > 0.93  # Owen 2007: conservative where nothing is shared


def test_only_intervals_over_prompts_hold_what_images_of_a_prompt_share() -> None:
    random = np.random.default_rng(0)
    outcome = coverage(normal_finals(600, shared=3.0, random=random), level=0.9, random=random)
    assert outcome["images"].held < 0.8
    for name in ("prompts", "prompts, t", "runs x prompts x seeds"):
        assert outcome[name].held == pytest.approx(0.9, abs=0.04)
        assert outcome[name].width > outcome["images"].width


def test_an_interval_of_equal_values_has_no_width() -> None:
    for method in METHODS.values():
        assert method(np.full((2, 3, 4), 0.5), 0.95, np.random.default_rng(0)) == pytest.approx((0.5, 0.5))


def test_drawn_finals_come_with_the_mean_over_everything() -> None:
    records = collected({0: (0.5, 0.5), 1: (0.4, 0.3)}, noise=0.02)
    everything = records.first(PROMPTS, SEEDS)
    means = {
        number: np.mean([records.objective(run, everything) for run in runs]) for number, runs in records.runs.items()
    }
    finals = list(
        drawn_finals(
            records,
            [records.runs[1]],
            against=records.runs[0],
            runs=2,
            prompts=8,
            seeds=3,
            draws=2,
            random=np.random.default_rng(0),
        )
    )
    assert [values.shape for values, _ in finals] == [(2, 8, 3)] * 2
    assert [truth for _, truth in finals] == pytest.approx([means[1] - means[0]] * 2)


def test_meters_by_hand() -> None:
    records = collected({0: (0.5,), 1: (0.1,)})
    tuned = records.candidates[1]
    assert meters(records)["copied faces"].greatest == 1  # all at 0.1, real photos 0.2 from each other
    assert meters(records)["copied faces"].base == 0
    assert leakage(records, tuned) == 1.0  # others moved along, from 0.6 to 0.1, further than the real photos' 0.2
    assert leakage(records, records.base) == 0.0
    assert likeness_spread(records, tuned) == pytest.approx(0.0), "every prompt alike"


def test_quick_run_collects_replays_and_goes_on_where_it_was(tmp_path: Path) -> None:
    def run(name: str, *options: str) -> list[str]:
        done = quick_benchmark.run(name, "--quick", "--folder", str(tmp_path), *options)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    lines = run("truth", "--json", str(tmp_path / "outcome.json"))
    assert lines[0].startswith("4 of 4 candidates to collect, 2 later")
    outcome = json.loads(lines[-1])
    assert (tmp_path / "outcome.json").read_text("utf-8") == lines[-1] + "\n"
    assert (outcome["repeats"], outcome["configurations"], outcome["trainings"]) == (4, 3, 5)
    assert set(outcome["gap"]) == {"objective", "likeness"}
    assert [(each["prompts"], each["seeds"]) for each in outcome["tau"]] == [(3, 1), (6, 1)]
    assert {name for methods in outcome["intervals"].values() for name in methods} == set(METHODS)

    assert [line.split(" to collect")[0] for line in run("truth.candidates") if "to collect" in line] == [
        "0 of 4 candidates",
        "0 of 2 candidates",
    ]
