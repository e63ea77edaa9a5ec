"""What is exported beside the champion's weights: the adapter card and the picture of base and champion."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evaluation.bootstrap import Interval
from evaluation.image_row import ImageRow
from search.config.search_config import SearchConfig, load_config
from search.final.decision import Decision
from search.final.export import write_card, write_samples
from search.final.final import Final, Verdict
from search.final.finalist import Finalist, Retraining, Shipped
from search.storage.trial_record import CheckpointResult, TrialRecord

METRICS = {"objective": 0.3, "likeness": 0.0, "fidelity": 1.0, "faceless_rate": 0.0, "likeness_spread": 0.0}


def interval(mean: float) -> Interval:
    return Interval(lower=mean - 0.05, mean=mean, upper=mean + 0.05)


def row(prompt_index: int, seed: int) -> ImageRow:
    return ImageRow.of(prompt_index, seed, face_distance=None, clip_score=30.0)


def report(folder: Path, **metrics: float) -> CheckpointResult:
    """A checkpoint of two prompts with two seeds each."""
    rows = tuple(row(prompt, seed) for prompt in range(2) for seed in (7, 8))
    return CheckpointResult(step=100, metrics={**METRICS, **metrics}, rows=rows, folder=folder)


@pytest.fixture
def config(document: dict[str, Any], write_config: Callable[[dict[str, Any]], Path]) -> SearchConfig:
    loaded = load_config(write_config(document | {"training": {**document["training"], "seed": 40}}))
    return loaded.model_copy(update={"model": "models/base"})


@pytest.fixture
def final(tmp_path: Path) -> Final:
    shipped = report(tmp_path / "final", objective=0.58, likeness=0.5678, memorisation=0.25)
    finalist = Finalist(
        record=TrialRecord(id="003", params={"rank": 16, "steps": 150}, steps=150),
        candidate=report(tmp_path / "candidate", objective=0.61, likeness=0.62, leakage=0.01),
        final=shipped,
        retrained=(
            Retraining(seed=1_000_043, report=report(tmp_path / "again")),
            Retraining(seed=2_000_043, report=None, reason="out of memory"),
        ),
        intervals={"objective": interval(0.58), "likeness": interval(0.5678)},
        across_seeds={"objective": interval(0.57)},
        shipped=Shipped(
            report=shipped,
            folder=tmp_path / "candidate",
            seed=None,
            intervals={"objective": interval(0.58), "likeness": interval(0.5678)},
        ),
    )
    return Final(
        base=report(tmp_path / "base-final"),
        finalists=(finalist, finalist),
        champion=finalist,
        decision=Decision(winner="003", standings=(), tied=(), reason="the highest objective"),
        verdict=Verdict.BETTER,
        difference=interval(0.123),
    )


def card(config: SearchConfig, final: Final, folder: Path, second_judge: str) -> str:
    folder.mkdir()
    (folder / "anna.safetensors").write_bytes(b"kohya")
    (folder / "pytorch_lora_weights.safetensors").write_bytes(b"diffusers")
    path = write_card(
        config, final, folder, photos=(12, 4), prompt='a photo of sks man, "happy" & <é>', second_judge=second_judge
    )
    assert path == folder / "README.md"
    return path.read_text("utf-8").replace(str(folder), "CHAMPION")


def test_the_card_says_what_a_stranger_needs(config: SearchConfig, final: Final, tmp_path: Path) -> None:
    text = card(config, final, tmp_path / "champion", "second judge Dlib with opencv: agrees (tau 0.82)")
    assert text == Path(__file__).with_name("adapter_card.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.TIE, "a tie, the difference is within the noise of these images"),
        (Verdict.WORSE, "worse by the weighted objective, which did not choose"),
        (Verdict.SAME, "it is the first trial"),
        (Verdict.NOT_COMPARED, "not compared, for the first trial has no usable candidate"),
    ],
)
def test_without_a_difference_or_a_second_judge_the_card_is_the_same_but_for_these(
    config: SearchConfig, final: Final, tmp_path: Path, verdict: Verdict, words: str
) -> None:
    values: Mapping[str, Any] = {**vars(final), "verdict": verdict, "difference": None}
    told = Path(__file__).with_name("adapter_card.txt").read_text("utf-8")
    expected = told.replace("better (objective +0.123, +0.073 to +0.173)", words).replace(
        "Second judge Dlib with opencv: agrees (tau 0.82).", ""
    )
    assert card(config, Final(**values), tmp_path / "champion", "") == expected


def test_the_picture_has_the_first_seed_of_every_prompt_the_untuned_model_above(final: Final, tmp_path: Path) -> None:
    shades = {"base-final": (10, 20, 30, 40), "final": (110, 120, 130, 140)}
    for name, values in shades.items():
        (tmp_path / name).mkdir()
        sheet = Image.new("L", (16, 16))
        for place, value in enumerate(values):
            sheet.paste(value, (place % 2 * 8, place // 2 * 8, place % 2 * 8 + 8, place // 2 * 8 + 8))
        sheet.convert("RGB").save(tmp_path / name / "grid.png")
    path = write_samples(final, tmp_path / "samples.png")
    with Image.open(path) as picture:
        assert [picture.getpixel(place)[0] for place in ((2, 2), (10, 2), (2, 10), (10, 10))] == [10, 30, 110, 130]  # type: ignore[index]
        assert picture.size == (16, 16)
