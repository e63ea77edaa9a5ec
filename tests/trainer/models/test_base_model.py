"""The base model: loaded frozen, hashed by content, refused where it cannot be used."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from torch import nn

from tests.support.command import CEILING
from tests.trainer.conftest import DEMO_BASE
from trainer.adapters.adapter_files import load_adapter
from trainer.job.loss import NoiseSchedule
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


def copied(folder: Path) -> Path:
    """The demo's model with its weights as links."""

    def link(source: str, target: str) -> None:
        if source.endswith(".safetensors"):
            Path(target).symlink_to(source)
        else:
            shutil.copyfile(source, target)

    shutil.copytree(DEMO_BASE, folder, copy_function=link)
    return folder


def test_the_hash_covers_what_is_loaded_and_nothing_beside_it(base: BaseModel, tmp_path: Path) -> None:
    copy = copied(tmp_path / "copy")

    def digest() -> str:
        return replace(base, folder=copy).sha256

    assert digest() == base.sha256
    for beside in (
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
        "text_encoder/model.fp16.safetensors",
        "text_encoder/pytorch_model.bin",
        "text_encoder/flax_model.msgpack",
        "README.md",
        "v1-5-pruned.safetensors",
    ):
        (copy / beside).write_bytes(b"not read")
        assert digest() == base.sha256, beside
    hashes = {base.sha256}
    for loaded in (
        "model_index.json",
        "tokenizer/spiece.model",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "vae/config.json",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors.index.json",
    ):
        with (copy / loaded).open("ab") as file:
            file.write(b" ")
        hashes.add(digest())
    assert len(hashes) == 8


def test_the_hash_covers_the_only_weights_that_there_are(base: BaseModel, tmp_path: Path) -> None:
    copy = copied(tmp_path / "copy")
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    without = replace(base, folder=copy).sha256
    (copy / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"half")
    assert replace(base, folder=copy).sha256 not in (without, base.sha256)


def test_a_scheduler_whose_noise_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    """EDM's (Playground v2.5 is a StableDiffusionXLPipeline) would be taken for a schedule of betas."""
    copy = copied(tmp_path / "copy")
    index = json.loads((copy / "model_index.json").read_text())
    for scheduler in (EDMEulerScheduler(), FlowMatchEulerDiscreteScheduler()):
        name = type(scheduler).__name__
        (copy / "model_index.json").write_text(json.dumps({**index, "scheduler": ["diffusers", name]}))
        scheduler.save_pretrained(copy / "scheduler")
        with pytest.raises(
            ValueError, match=rf"copy is a {name}, which has no beta_schedule, .* such as DDIMScheduler"
        ):
            load_base_model(copy, device="cpu")


@pytest.mark.parametrize("scheduler", [DDIMScheduler, PNDMScheduler, UniPCMultistepScheduler, HeunDiscreteScheduler])
def test_a_scheduler_with_betas_is_taken(base: BaseModel, scheduler: Any) -> None:
    other = replace(base, scheduler=scheduler.from_config(base.scheduler.config))
    other.check_schedule()
    ours, its = (NoiseSchedule.of(model.scheduler, base.device) for model in (base, other))
    assert torch.equal(ours.noise, its.noise)


def test_a_vae_that_centres_its_latents_is_refused(tmp_path: Path) -> None:
    copy = copied(tmp_path / "copy")
    config = json.loads((copy / "vae" / "config.json").read_text())
    (copy / "vae" / "config.json").write_text(json.dumps({**config, "latents_mean": [0.1] * 4}))
    with pytest.raises(ValueError, match=r"the VAE of base model .*copy says latents_mean, .*: use another model"):
        load_base_model(copy, device="cpu")


def test_importing_says_nothing() -> None:
    """Neither that torchvision is missing, which transformers would say twice; what else it warns of is told."""
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=CEILING, check=True)
    assert done.stdout + done.stderr == "[transformers] something else\n"


IMPORTS = """
import trainer.training_run
from transformers.utils import logging
logging.get_logger("transformers.utils.import_utils").warning("something else")
"""


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
