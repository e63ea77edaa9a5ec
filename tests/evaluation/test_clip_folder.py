"""A CLIP folder that is not whole: refused, never scored with random weights."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection, SiglipConfig, SiglipModel

from evaluation.clip_score import ClipScorer

Weights = dict[str, torch.Tensor]
REMEDY = r"; give a folder that holds a CLIPModel in safetensors and its tokenizer"


@pytest.fixture
def folder(clip_folder: Path, tmp_path: Path) -> Path:
    """The demo's CLIP, the test's own to damage."""
    return Path(shutil.copytree(clip_folder, tmp_path / "clip"))


def rewrite(folder: Path, change: Callable[[Weights], Mapping[str, torch.Tensor]]) -> None:
    path = folder / "model.safetensors"
    save_file(dict(change(load_file(path))), path, metadata={"format": "pt"})


def test_a_missing_weight_is_named(folder: Path) -> None:
    """Scored all the same, one picture got 1.05 and -13.72 in two loads instead of 53.15."""
    rewrite(folder, lambda weights: {key: weights[key] for key in weights if key != "visual_projection.weight"})
    with pytest.raises(ValueError, match=r"no fitting weights for 1 of .*visual_projection\.weight" + REMEDY):
        ClipScorer(str(folder), "cpu")


def test_weights_of_another_shape_are_the_same_error(folder: Path) -> None:
    rewrite(folder, lambda weights: weights | {"visual_projection.weight": torch.zeros(3, 5)})
    with pytest.raises(ValueError, match=r"no fitting weights for 1 of .*visual_projection\.weight" + REMEDY):
        ClipScorer(str(folder), "cpu")


def test_a_damaged_file_is_the_same_error(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cannot be loaded: (?s:.*)" + REMEDY):
        ClipScorer(str(folder), "cpu")


def test_the_image_half_alone_is_refused(folder: Path) -> None:
    """As IP-Adapter ships it, here with a tokenizer beside it."""
    half: Any = CLIPVisionModelWithProjection.from_pretrained(folder)
    half.save_pretrained(folder)
    with pytest.raises(ValueError, match="model_type 'clip_vision_model', not 'clip'" + REMEDY):
        ClipScorer(str(folder), "cpu")
    # The whole model's config.json beside the half's weights.
    config = json.loads((folder / "config.json").read_text())
    whole = {"model_type": "clip", "vision_config": config, "projection_dim": config["projection_dim"]}
    (folder / "config.json").write_text(json.dumps(whole))
    with pytest.raises(ValueError, match="no fitting weights for .*such as .*" + REMEDY):
        ClipScorer(str(folder), "cpu")


def test_another_architecture_is_refused(folder: Path) -> None:
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": 50, "projection_size": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    siglip: Any = SiglipModel(
        SiglipConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 16})
    )
    siglip.save_pretrained(folder)
    with pytest.raises(ValueError, match="model_type 'siglip', not 'clip'" + REMEDY):
        ClipScorer(str(folder), "cpu")


def test_a_whole_model_without_a_stated_type_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="model_type None, not 'clip'" + REMEDY):
        ClipScorer(str(folder), "cpu")
