"""Models in one file of the published layout, loaded to the very weights that they were written from."""

import json
import multiprocessing
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.configuration_utils import ConfigMixin
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from tests.support.tiny_models import write_stable_diffusion_3, write_stable_diffusion_xl
from tests.trainer.conftest import DEMO_BASE, write_photo
from tests.trainer.original_layout import write_single_file
from trainer.data.cache import build_cache
from trainer.data.photos import load_photos
from trainer.job.loss import NoiseSchedule
from trainer.models.loadable import loadable
from trainer.models.loading import BaseModel, load_base_model
from trainer.models.single_file import diffusers_folder


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one of the user's for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "likeness" / "models"


@pytest.fixture(scope="module")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stable_diffusion_xl(tmp_path_factory.mktemp("models") / "xl")


@pytest.fixture
def demo_file(loaded_base: BaseModel, tmp_path: Path) -> Path:
    """The demo's model in one file with the configuration beside it."""
    return write_single_file(loaded_base, describe(DEMO_BASE, tmp_path / "person.safetensors"))


def describe(folder: Path, path: Path) -> Path:
    """Puts the configuration of a folder's model, not its weights, beside the file that is to come."""
    shutil.copytree(folder, path.with_suffix(""), ignore=shutil.ignore_patterns("*.safetensors"))
    return path


def assert_same(found: BaseModel, expected: BaseModel) -> None:
    """The same weights bit for bit, and the same settings."""
    assert type(found) is type(expected)
    for part in ("vae", *expected.parts):
        module, oracle = getattr(found, part), getattr(expected, part)
        assert isinstance(module, nn.Module)
        weights, others = module.state_dict(), oracle.state_dict()
        assert weights.keys() == others.keys()
        assert all(torch.equal(weights[name], others[name]) for name in weights), part
    assert type(found.scheduler) is type(expected.scheduler)
    assert found.scheduler.config == expected.scheduler.config
    tokens, oracles = (base.tokenize(["a man, a hat"]) for base in (found, expected))
    assert tokens.keys() == oracles.keys()
    assert all(torch.equal(tokens[name], oracles[name]) for name in tokens)


def test_the_demo_s_model_in_one_file_is_the_demo_s_model(base: BaseModel, demo_file: Path, cache_folder: Path) -> None:
    found = load_base_model(demo_file, device="cpu")
    assert_same(found, base)
    assert (found.name, found.folder.parent) == (str(demo_file), cache_folder)
    # As cards and the registry name it: diffusers loads it without knowing of the file.
    assert str(found.folder) == loadable(str(demo_file))
    StableDiffusionPipeline.from_pretrained(loadable(str(demo_file)), local_files_only=True)
    assert loadable("owner/name") == "owner/name"
    assert loadable(str(DEMO_BASE)) == str(DEMO_BASE)
    assert loadable("gone.safetensors") == "gone.safetensors"
    for part in ("scheduler", "tokenizer", "unet", "vae", "text_encoder"):
        for file in (DEMO_BASE / part).glob("*.json"):
            assert (found.folder / part / file.name).read_bytes() == file.read_bytes()


def test_sdxl_in_one_file_is_sdxl(xl_folder: Path, tmp_path: Path) -> None:
    """Its second text encoder has OpenCLIP's names, and three projections in one matrix."""
    expected = load_base_model(xl_folder, device="cpu")
    path = write_single_file(expected, describe(xl_folder, tmp_path / "xl.safetensors"))
    names = set(load_file(path))
    assert "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight" in names
    assert not any("q_proj" in name for name in names if name.startswith("conditioner.embedders.1."))
    found = load_base_model(path, device="cpu")
    assert_same(found, expected)
    write_photo(tmp_path, "photo", seed=1, caption="a man")
    photos = load_photos(tmp_path)
    caches = [
        build_cache(photos, model, resolution=32, folder=tmp_path / f"cache-{at}").tensors()
        for at, model in enumerate((found, expected))
    ]
    assert all(torch.equal(caches[0][name], tensor) for name, tensor in caches[1].items())


def test_a_file_is_converted_once_and_again_when_it_or_its_configuration_changes(
    base: BaseModel, demo_file: Path, cache_folder: Path
) -> None:
    first = diffusers_folder(demo_file)
    stamp = (first / "model_index.json").stat().st_mtime_ns
    assert diffusers_folder(demo_file) == first
    assert (first / "model_index.json").stat().st_mtime_ns == stamp
    before = load_base_model(demo_file, device="cpu").sha256
    shutil.rmtree(cache_folder)
    assert load_base_model(demo_file, device="cpu").sha256 == before
    moved = demo_file.with_name("moved.safetensors")
    demo_file.rename(moved)
    demo_file.with_suffix("").rename(moved.with_suffix(""))
    assert diffusers_folder(moved) == first
    scheduler = moved.with_suffix("") / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), "beta_end": 0.013}))
    second = diffusers_folder(moved)
    assert json.loads((second / "scheduler" / "scheduler_config.json").read_text())["beta_end"] == 0.013
    tensors = load_file(moved)
    tensors["model.diffusion_model.out.2.bias"] += 1
    save_file(tensors, moved)
    third = diffusers_folder(moved)
    assert torch.equal(load_base_model(moved, device="cpu").denoiser.conv_out.bias, base.denoiser.conv_out.bias + 1)
    assert {path.name for path in cache_folder.iterdir() if path.is_dir()} == {first.name, second.name, third.name}


def _convert(path: Path) -> str:
    return str(diffusers_folder(path))


def test_processes_that_come_together_convert_once(demo_file: Path, cache_folder: Path) -> None:
    """As seats do. What a killed process left half written is removed."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        other = pool.apply_async(_convert, (demo_file,))
        own = diffusers_folder(demo_file)
        assert other.get(60) == str(own)
    (cache_folder / f"{own.name}.0123.tmp").mkdir()
    diffusers_folder(demo_file)
    assert {path.name for path in cache_folder.iterdir()} == {own.name, f"{own.name}.lock"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_keep_their_number_format(base: BaseModel, demo_file: Path, dtype: torch.dtype) -> None:
    half = write_single_file(base, demo_file, dtype=dtype)
    found = load_base_model(half, device="cpu")
    for part in ("unet", "vae", "text_encoder"):
        weights, oracle = getattr(found, part).state_dict(), getattr(base, part).state_dict()
        assert all(torch.equal(weights[name], oracle[name].to(dtype).float()) for name in weights)
    with safe_open(found.folder / "unet" / "diffusion_pytorch_model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {dtype}  # noqa: SIM118


def test_a_file_with_parts_in_several_formats_loses_nothing(base: BaseModel, demo_file: Path) -> None:
    tensors = load_file(demo_file)
    mixed = {name: tensor.half() if name.startswith("model.") else tensor for name, tensor in tensors.items()}
    save_file(mixed, demo_file)
    found = load_base_model(demo_file, device="cpu")
    assert all(torch.equal(tensor, base.vae.state_dict()[name]) for name, tensor in found.vae.state_dict().items())


def test_a_file_that_says_it_predicts_the_velocity_is_believed(xl_folder: Path, tmp_path: Path) -> None:
    expected = load_base_model(xl_folder, device="cpu")
    more = {"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])}
    path = write_single_file(expected, describe(xl_folder, tmp_path / "xl.safetensors"), more=more)
    found = load_base_model(path, device="cpu")
    scheduler: ConfigMixin = found.scheduler
    assert scheduler.config["prediction_type"] == "v_prediction"
    schedule = NoiseSchedule.of(scheduler, found.device)
    assert schedule.prediction_type == "v_prediction"
    assert schedule.signal[-1].item() == pytest.approx(0, abs=1e-6)


def test_without_a_configuration_it_is_said_where_to_put_one(base: BaseModel, tmp_path: Path) -> None:
    path = write_single_file(base, tmp_path / "person.safetensors")
    with pytest.raises(
        ValueError,
        match=r"person\.safetensors does not say its configuration, and that of stable-diffusion-v1-5/"
        r"stable-diffusion-v1-5 is not in the hub's local cache.*; unset HF_HUB_OFFLINE.* the folder .*/person, in",
    ):
        load_base_model(path, device="cpu")


@pytest.mark.parametrize(
    ("left_out", "lacking"),
    [
        ("model.diffusion_model.out.2.bias", "lacks weights of the UNet or VAE that its configuration names"),
        ("first_stage_model.decoder.conv_out.bias", "lacks weights of the UNet or VAE that its configuration names"),
        ("first_stage_model.", "AutoencoderKL"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "lacks weights of the text_encoder that"),
        ("cond_stage_model.", r"StableDiffusionPipeline \(Failed to load CLIPTextModel.*must hold UNet, VAE and"),
        ("model.diffusion_model.", r"holds no whole model .*is it an adapter, or a part\?"),
    ],
)
def test_what_the_file_lacks_is_refused_though_it_lies_in_the_folder_beside(
    demo_file: Path, cache_folder: Path, left_out: str, lacking: str
) -> None:
    shutil.copytree(DEMO_BASE, demo_file.with_suffix(""), dirs_exist_ok=True)
    tensors = {name: tensor for name, tensor in load_file(demo_file).items() if not name.startswith(left_out)}
    save_file(tensors, demo_file)
    with pytest.raises(ValueError, match=lacking):
        load_base_model(demo_file, device="cpu")
    assert not cache_folder.exists() or not any(path.is_dir() for path in cache_folder.iterdir())


def test_a_configuration_of_another_shape_or_family_is_refused(
    base: BaseModel, demo_file: Path, xl_folder: Path
) -> None:
    config = demo_file.with_suffix("") / "unet" / "config.json"
    plain = json.loads(config.read_text())
    config.write_text(json.dumps({**plain, "block_out_channels": [32, 128, 128]}))
    with pytest.raises(ValueError, match=r"expected shape .* its configuration must be that of a model of the same"):
        load_base_model(demo_file, device="cpu")
    shutil.rmtree(demo_file.with_suffix(""))
    describe(xl_folder, demo_file)
    with pytest.raises(ValueError, match=r"does not load as a StableDiffusionXLPipeline"):
        load_base_model(demo_file, device="cpu")


def test_a_single_file_of_a_flow_model_is_refused(demo_file: Path, tmp_path: Path) -> None:
    shutil.rmtree(demo_file.with_suffix(""))
    describe(write_stable_diffusion_3(tmp_path / "sd3"), demo_file)
    with pytest.raises(ValueError, match=r"is a single file of Stable Diffusion 3; name a folder or hub model"):
        load_base_model(demo_file, device="cpu")


def test_damaged_missing_and_narrow_files_are_refused(demo_file: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.safetensors does not exist; name a file, a folder or a hub model"):
        load_base_model(demo_file.with_name("nothing.safetensors"), device="cpu")
    tensors = load_file(demo_file)
    name = "model.diffusion_model.out.2.weight"
    save_file({**tensors, name: tensors[name].to(torch.float8_e4m3fn)}, demo_file)
    with pytest.raises(ValueError, match=rf"holds weights in 8 bits, such as {name}; use a version in 16 or 32 bits"):
        load_base_model(demo_file, device="cpu")
    demo_file.write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(ValueError, match=r"person\.safetensors is damaged .*download it again"):
        load_base_model(demo_file, device="cpu")
