"""The base model: loaded frozen, hashed by content, refused where it cannot be used."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from tests.trainer.conftest import DEMO_BASE
from trainer.adapters.adapter_files import load_adapter
from trainer.models.loading import BaseModel, choose_dtype, load_base_model, set_threads
from trainer.models.model_files import PickledWeightsError


def test_a_base_model_is_frozen_and_in_evaluation_mode(base: BaseModel) -> None:
    for module in (base.text_encoder, base.vae, base.denoiser):
        assert isinstance(module, nn.Module)
        assert not any(weight.requires_grad for weight in module.parameters())
        assert not any(part.training for part in module.modules())
        assert {weight.dtype for weight in module.parameters()} == {torch.float32}
    assert (base.name, base.folder, base.device, base.dtype) == (
        str(DEMO_BASE),
        DEMO_BASE,
        torch.device("cpu"),
        torch.float32,
    )


def test_its_weights_are_those_that_diffusers_loads(base: BaseModel) -> None:
    oracle = StableDiffusionPipeline.from_pretrained(DEMO_BASE, local_files_only=True)
    for part in ("text_encoder", "vae", "unet"):
        expected, found = getattr(oracle, part).state_dict(), getattr(base, part).state_dict()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name].float(), found[name]) for name in expected)


def test_a_pipeline_shares_the_modules_but_not_the_sampler(base: BaseModel) -> None:
    first, second = base.pipeline(), base.pipeline()
    for part in ("tokenizer", "text_encoder", "vae", "unet"):
        assert getattr(first, part) is getattr(base, part)
    assert first.safety_checker is None
    assert len({id(first.scheduler), id(second.scheduler), id(base.scheduler)}) == 3
    assert first.scheduler.config == base.scheduler.config


def test_the_hash_follows_the_files_content_not_their_place(base: BaseModel, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(DEMO_BASE, copy)
    assert load_base_model(copy, device="cpu").sha256 == base.sha256
    config = json.loads((copy / "scheduler" / "scheduler_config.json").read_text())
    (copy / "scheduler" / "scheduler_config.json").write_text(json.dumps({**config, "beta_end": 0.013}))
    assert load_base_model(copy, device="cpu").sha256 != base.sha256


def test_what_does_not_load_is_refused_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="'nobody/nothing' is neither a folder nor in the hub's local cache"):
        load_base_model("nobody/nothing", device="cpu")
    with pytest.raises(ValueError, match=r"has no readable model_index\.json"):
        load_base_model(tmp_path, device="cpu")
    (tmp_path / "model_index.json").write_text('{"_class_name": "SanaPipeline"}')
    with pytest.raises(ValueError, match=r"is a SanaPipeline; only Stable Diffusion 1\.x/2\.x, Stable .* 3, Flux"):
        load_base_model(tmp_path, device="cpu")


def test_pickled_weights_are_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(DEMO_BASE, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(PickledWeightsError, match=r"diffusion_pytorch_model\.bin holds pickled weights.*\.safetensors"):
        load_base_model(folder, device="cpu")


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_a_pickled_file_is_refused_and_not_opened(base: BaseModel, tmp_path: Path, suffix: str) -> None:
    opened = tmp_path / "opened"
    path = (tmp_path / "pytorch_lora_weights").with_suffix(suffix)
    path.write_bytes(pickle.dumps(_Opens(opened)))
    with pytest.raises(PickledWeightsError, match=f"pytorch_lora_weights\\{suffix} holds pickled weights"):
        load_base_model(path, device="cpu")
    with pytest.raises(PickledWeightsError, match=f"pytorch_lora_weights\\{suffix} holds pickled weights"):
        load_adapter(base, tmp_path)
    assert not opened.exists()


class _Opens:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._folder),)


def test_numbers_on_a_cpu_are_float32() -> None:
    assert choose_dtype(torch.device("cpu")) == torch.float32


def test_threads_are_set_and_checked() -> None:
    set_threads(1)
    assert torch.get_num_threads() == 1
    with pytest.raises(ValueError, match="threads is 0"):
        set_threads(0)
