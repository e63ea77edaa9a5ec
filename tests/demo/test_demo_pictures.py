"""Making the training set: backgrounds, morphs, variations; and the training loop's memory."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from demo.kit.backgrounds import COLOURS, background_mask, replace_background
from demo.kit.crops import FaceCrop, face_crops
from demo.kit.dataset import as_source, vary
from demo.kit.morphs import morph
from demo.kit.people import SPARE
from demo.kit.training import Budget, TrainingRun, averaged_weights


@pytest.fixture(scope="module")
def crops() -> dict[str, FaceCrop]:
    return {crop.name: crop for crop in face_crops(SPARE)}


def test_a_replaced_background_has_its_colour_and_the_face_is_untouched(crops: dict[str, FaceCrop]) -> None:
    crop = crops["neutral"]
    changed = replace_background(crop.pixels, background_mask(crop.pixels), "red", np.random.default_rng(0))
    corner = changed[:8, :8].reshape(-1, 3).mean(axis=0)
    assert np.abs(corner - np.array(COLOURS["red"])).max() < 45
    left, top = crop.landmarks.min(axis=0).astype(int)
    right, bottom = crop.landmarks.max(axis=0).astype(int)
    inner = (slice(top, bottom), slice(left + 10, right - 10))
    assert np.abs(changed[inner].astype(int) - crop.pixels[inner]).mean() < 1.0


def test_a_morph_of_weight_zero_is_the_head_itself(crops: dict[str, FaceCrop]) -> None:
    head, donor = crops["neutral"], crops["happy"]
    pixels, landmarks = morph(head.pixels, head.landmarks, donor.pixels, donor.landmarks, 0.0)
    assert np.abs(pixels.astype(int) - head.pixels).mean() < 1.5
    np.testing.assert_allclose(landmarks, head.landmarks, atol=1e-9)


def test_a_morph_moves_the_inner_points_by_its_weight(crops: dict[str, FaceCrop]) -> None:
    head = crops["neutral"]
    moved = head.landmarks.copy()
    moved[30] += [6.0, 4.0]  # the tip of the nose, one of 68 points: the aligning similarity hardly notices
    _, landmarks = morph(head.pixels, head.landmarks, head.pixels, moved, 0.5)
    np.testing.assert_allclose(landmarks[30] - head.landmarks[30], [3.0, 2.0], atol=0.2)


def test_a_varied_picture_is_small_and_says_what_it_shows(crops: dict[str, FaceCrop]) -> None:
    source = as_source(crops["happy"])
    for seed in range(20):
        picture, known = vary(source, np.random.default_rng(seed))
        assert picture.shape == (64, 64, 3)
        assert picture.dtype == np.uint8
        assert replace(known, background="gray") == source.attributes
        if known.background != "gray":
            seen = picture[:3, :3].reshape(-1, 3).mean(axis=0)
            nearest = min(COLOURS, key=lambda name: float(np.linalg.norm(seen - np.array(COLOURS[name]))))
            assert nearest == known.background


def test_a_training_run_goes_on_where_it_was_saved(tmp_path: Path) -> None:
    def loss_of(model: nn.Linear, generator: torch.Generator) -> Tensor:
        output: Tensor = model(torch.randn(8, 3, generator=generator))
        return (output - 1).square().mean()

    budget = Budget(minutes=1 / 600, learning_rate=1e-2)
    model = nn.Linear(3, 1)
    run = TrainingRun({"model": model}, budget, tmp_path / "state.safetensors", seed=1)
    run.train(lambda generator: loss_of(model, generator))
    assert run.finished

    again = nn.Linear(3, 1)
    resumed = TrainingRun({"model": again}, budget, tmp_path / "state.safetensors", seed=1)
    assert (resumed.step, resumed.finished) == (run.step, True)
    assert torch.equal(again.weight, model.weight)
    averaged = averaged_weights(tmp_path / "state.safetensors", "model")
    assert averaged.keys() == {"weight", "bias"}
    for name, value in run.averaged("model").items():
        assert torch.equal(averaged[name], value)
        assert torch.equal(resumed.averaged("model")[name], value)


def test_an_untrained_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"clip\.safetensors does not exist; train it first"):
        averaged_weights(tmp_path / "clip.safetensors", "clip")
