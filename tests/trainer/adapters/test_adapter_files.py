"""Adapter files: what they hold, and that either format loads to the same effect."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from tests.trainer.conftest import MakeConfig
from trainer.adapters.adapter import attach_adapter
from trainer.adapters.adapter_files import WEIGHTS_FILE, load_adapter, read_adapter_file, save_adapter
from trainer.adapters.kohya import export_kohya
from trainer.config import Targets
from trainer.models.loading import BaseModel

from .test_adapter import EVERYTHING, TEXT, layer_names, randomise

BOTH_TARGETS = pytest.mark.parametrize("targets", ["attention", "attention+feed_forward+convolutions"])
BOTH_PARTS = pytest.mark.parametrize("text_encoder_learning_rate", [0.0, 1e-4])
UnetOutput = Callable[[BaseModel], Tensor]
Saved = Callable[[Targets, float], tuple[Path, Tensor, Tensor]]


@pytest.fixture
def saved(base: BaseModel, make_config: MakeConfig, tmp_path: Path, unet_output: UnetOutput) -> Saved:
    """Saves an adapter with an effect; gives its folder, the base's answer and the answer with the adapter."""

    def save(targets: Targets, text_encoder_learning_rate: float) -> tuple[Path, Tensor, Tensor]:
        before = unet_output(base)
        adapter = attach_adapter(
            base,
            make_config(rank=4, alpha=10, targets=targets, text_encoder_learning_rate=text_encoder_learning_rate),
        )
        try:
            randomise(adapter)
            adapted = unet_output(base)
            save_adapter(adapter, tmp_path / "adapter", metadata={"seed": "17"})
        finally:
            adapter.detach()
        assert (adapted - before).abs().max() > 0.02
        return tmp_path / "adapter", before, adapted

    return save


@pytest.mark.parametrize("kohya", [False, True])
@BOTH_TARGETS
@BOTH_PARTS
def test_diffusers_loads_either_file_to_the_same_effect(
    base: BaseModel,
    unet_output: UnetOutput,
    saved: Saved,
    targets: Targets,
    text_encoder_learning_rate: float,
    kohya: bool,
    record_property: Callable[[str, object], None],
) -> None:
    folder, before, adapted = saved(targets, text_encoder_learning_rate)
    file = export_kohya(folder, folder.parent / "person.safetensors") if kohya else folder
    pipeline = base.pipeline()
    pipeline.load_lora_weights(file)
    try:
        error = (unet_output(base) - adapted).abs().max().item()
    finally:
        pipeline.unload_lora_weights()
    record_property("largest_difference", error)
    assert error < 2e-6
    assert torch.equal(unet_output(base), before)


@BOTH_TARGETS
@BOTH_PARTS
def test_loading_for_generation_and_detaching_again(
    base: BaseModel, unet_output: UnetOutput, saved: Saved, targets: Targets, text_encoder_learning_rate: float
) -> None:
    folder, before, adapted = saved(targets, text_encoder_learning_rate)
    adapter = load_adapter(base, folder)
    try:
        assert adapter.parts == (("unet", "text_encoder") if text_encoder_learning_rate else ("unet",))
        assert not any(weight.requires_grad for part in adapter.parts for weight in adapter.parameters(part))
        assert (unet_output(base) - adapted).abs().max() < 2e-6
        with pytest.raises(ValueError, match="already carries an adapter"):
            load_adapter(base, folder)
    finally:
        adapter.detach()
    assert torch.equal(unet_output(base), before)


def test_a_saved_file_holds_the_trained_values_and_the_texts(
    base: BaseModel, saved: Saved, make_config: MakeConfig
) -> None:
    folder, _, _ = saved("attention", 1e-4)
    assert [path.name for path in folder.iterdir()] == [WEIGHTS_FILE]
    tensors, header = read_adapter_file(folder / WEIGHTS_FILE)
    assert header.keys() == {"format", "lora_adapter_metadata", "seed"}
    assert header["seed"] == "17"
    config = json.loads(header["lora_adapter_metadata"])
    assert (config["unet.r"], config["unet.lora_alpha"], config["text_encoder.lora_alpha"]) == (4, 10.0, 10.0)
    adapter = attach_adapter(base, make_config(rank=4, alpha=10))
    randomise(adapter)
    for part, names in (("unet", adapter.state_dict("unet")), ("text_encoder", adapter.state_dict("text_encoder"))):
        prefix = f"{part}.text_model." if part == "text_encoder" else f"{part}."
        for name, weight in names.items():
            assert torch.equal(tensors[prefix + name.removeprefix("text_model.")], weight)
    adapter.detach()
    assert len(tensors) == len(adapter_weights := {name.rsplit(".lora_", 1)[0] for name in tensors}) * 2
    assert all(name.startswith(("unet.", "text_encoder.text_model.")) for name in adapter_weights)


def test_equal_adapters_make_equal_files(base: BaseModel, make_config: MakeConfig, tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        adapter = attach_adapter(base, make_config())
        files.append(read_adapter_file(save_adapter(adapter, tmp_path / name)))
        adapter.detach()
    (tensors, header), (same_tensors, same_header) = files
    assert header == same_header
    assert tensors.keys() == same_tensors.keys()
    assert all(torch.equal(tensors[name], same_tensors[name]) for name in tensors)


def test_kohya_names_shapes_and_alphas(base: BaseModel, saved: Saved) -> None:
    unet = layer_names(base.denoiser, EVERYTHING)
    text_encoder = {name.removeprefix("text_model.") for name in layer_names(base.text_encoder, TEXT)}
    folder, _, _ = saved("attention+feed_forward+convolutions", 1e-4)
    path = export_kohya(folder, folder / "kohya" / "person.safetensors")
    layers = {f"lora_unet_{name.replace('.', '_')}" for name in unet}
    layers |= {f"lora_te_text_model_{name.replace('.', '_')}" for name in text_encoder}
    tensors, header = read_adapter_file(path)
    assert tensors.keys() == {
        f"{layer}.{name}" for layer in layers for name in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    for layer in layers:
        assert tensors[f"{layer}.alpha"].item() == 10
        assert tensors[f"{layer}.alpha"].shape == ()
        assert tensors[f"{layer}.lora_down.weight"].shape[0] == tensors[f"{layer}.lora_up.weight"].shape[1] == 4
    assert header == {
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "10.0",
        "ss_network_args": '{"conv_dim": "4", "conv_alpha": "10.0"}',
        "ss_base_model_version": "sd_v1",
    }


def test_reserved_metadata_is_refused(base: BaseModel, make_config: MakeConfig, tmp_path: Path) -> None:
    adapter = attach_adapter(base, make_config())
    try:
        with pytest.raises(ValueError, match="'format' is used by diffusers"):
            save_adapter(adapter, tmp_path, metadata={"format": "np"})
    finally:
        adapter.detach()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_file_and_nothing_else(
    base: BaseModel, saved: Saved, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = saved("attention", 0)
    content = (folder / WEIGHTS_FILE).read_bytes()
    adapter = attach_adapter(base, make_config())

    def fail(*arguments: object, **keywords: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    try:
        with pytest.raises(OSError, match="no space left"):
            save_adapter(adapter, folder)
    finally:
        adapter.detach()
    assert [path.name for path in folder.iterdir()] == [WEIGHTS_FILE]
    assert (folder / WEIGHTS_FILE).read_bytes() == content


@pytest.mark.parametrize("damage", [b"", b"\x80\x04 not safetensors", None])
def test_a_missing_or_damaged_file_is_a_named_error(base: BaseModel, tmp_path: Path, damage: bytes | None) -> None:
    if damage is not None:
        (tmp_path / WEIGHTS_FILE).write_bytes(damage)
    with pytest.raises(ValueError, match=rf"{WEIGHTS_FILE} is missing or damaged"):
        load_adapter(base, tmp_path)
    with pytest.raises(ValueError, match=rf"{WEIGHTS_FILE} is missing or damaged"):
        export_kohya(tmp_path, tmp_path / "kohya.safetensors")


def test_files_are_plain_safetensors(saved: Saved) -> None:
    folder, _, _ = saved("attention", 1e-4)
    with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in list(file.keys())} == {torch.float32}
