"""What is said of a model before it is loaded agrees with what loads; 16 bit weights alone are loaded, too."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.tiny_models import write_flux, write_stable_diffusion_3, write_stable_diffusion_xl
from tests.trainer.conftest import DEMO_BASE
from trainer.models import model_files
from trainer.models.base_model import BaseModel
from trainer.models.families import FAMILIES
from trainer.models.flow_model import FlowModel
from trainer.models.inspection import LAYOUTS, inspect_base_model
from trainer.models.loading import load_base_model

PARTS = (("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model"))


def test_layouts_are_those_of_the_families() -> None:
    assert LAYOUTS.keys() == FAMILIES.keys()
    for name, family in FAMILIES.items():
        no_weights = {folder for folder in family.folders if folder.startswith(("tokenizer", "scheduler"))}
        assert set(LAYOUTS[name].weights) == set(family.folders) - no_weights
        assert LAYOUTS[name].length == (family.caption_length if issubclass(family, FlowModel) else None)


@pytest.mark.parametrize("write", [write_stable_diffusion_xl, write_stable_diffusion_3, write_flux])
def test_a_whole_model_passes_and_its_reader_counts_as_it_does(write: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "model")
    reader = inspect_base_model(str(folder))
    tokenizer, length = load_base_model(folder, device="cpu").caption_tokenizer
    assert reader.length == length
    assert reader.tokens("a photo of sks man") == len(tokenizer("a photo of sks man").input_ids)


def half(folder: Path, parts: tuple[tuple[str, str], ...] = PARTS) -> Path:
    """The demo's model with the files of some parts named as those in 16 bits are."""
    shutil.copytree(DEMO_BASE, folder)
    for part, stem in parts:
        (folder / part / f"{stem}.safetensors").rename(folder / part / f"{stem}.fp16.safetensors")
    return folder


@pytest.mark.parametrize("parts", [PARTS, PARTS[:1]])
def test_weights_in_16_bits_alone_are_loaded(parts: Any, base: BaseModel, tmp_path: Path) -> None:
    loaded = load_base_model(half(tmp_path / "half", parts), device="cpu")
    for part in ("text_encoder", "vae", "unet"):
        expected, found = getattr(base, part).state_dict(), getattr(loaded, part).state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_full_weights_beside_them_count(base: BaseModel, tmp_path: Path) -> None:
    folder = half(tmp_path / "both")
    for part, stem in PARTS:
        shutil.copy(DEMO_BASE / part / f"{stem}.safetensors", folder / part)
        (folder / part / f"{stem}.fp16.safetensors").write_bytes(b"never opened")
    loaded = load_base_model(folder, device="cpu")
    expected, found = base.denoiser.state_dict(), loaded.denoiser.state_dict()
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_snapshot_of_the_hub_that_is_not_whole_is_refused_while_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    asked: list[Any] = []

    def snapshot(name: str, **options: Any) -> str:
        asked.append((name, options["local_files_only"]))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(model_files, "snapshot_download", snapshot)
    half(tmp_path / "snapshot")
    assert inspect_base_model("somebody/model").length == 24
    (tmp_path / "snapshot/vae/diffusion_pytorch_model.fp16.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no weights of its vae in .*unset HF_HUB_OFFLINE to download it"):
        inspect_base_model("somebody/model")
    assert asked == [("somebody/model", True)] * 2


def test_weights_in_16_bits_are_downloaded_of_a_model_that_has_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    ignored: list[Any] = []

    def snapshot(name: str, *, ignore_patterns: list[str], **options: Any) -> str:
        ignored.append(ignore_patterns)
        if "*.fp16.*" not in ignore_patterns:
            half(tmp_path / "snapshot")
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(model_files, "snapshot_download", snapshot)
    load_base_model("somebody/model", device="cpu")
    assert ignored == [["*.fp16.*", "*.fp16-*", "*.non_ema.*"], ["*.non_ema.*"]]
