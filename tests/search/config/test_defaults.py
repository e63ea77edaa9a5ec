"""What a configuration file may leave open, and what it then gets, said source by source."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.config import model_kind
from search.config.defaults import PROMPT_FILES, completed, what_is_added
from search.config.model_kind import ModelKind, kind_of
from search.config.presets import flat
from search.config.prompts import other_sets, prompt_sets, read_prompts
from search.config.search_config import ConfigurationError, dump_config, load_config
from tests.support.short_search import DEMO
from trainer.models.model_files import DownloadError

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def least(tmp_path: Path) -> dict[str, Any]:
    """A file that says only what nobody else can know."""
    (tmp_path / "photos").mkdir()
    return {"name": "anna", "model": str(DEMO / "base"), "photos": {"folder": "photos", "class": "woman"}}


def test_name_model_photos_and_class_are_a_whole_configuration(
    least: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    path = write_config(least)
    config = load_config(path)
    assert (config.preset, config.trials) == ("standard", 20)
    assert (config.training.resolution, config.training.batch_size, config.training.lr_warmup_steps) == (64, 2, 100)
    assert (config.evaluation.generation.resolution, config.evaluation.generation.steps) == (64, 20)
    assert config.photos.caption_template == "a photo of {trigger} woman"
    sets = prompt_sets(config)
    assert [len(sets[name].prompts) for name in ("validation", "final")] == [24, 24]
    assert (sets["validation"].seeds, sets["final"].seeds) == ((1,), (101, 102))
    assert all("{trigger} woman" in prompt for each in sets.values() for prompt in each.prompts)
    assert "a photo of a woman, smiling" not in sets["validation"].prompts
    assert all("woman" in prompt for prompt in other_sets(config, sets)["validation"].prompts)

    (tmp_path / "again.yaml").write_text(dump_config(config), "utf-8")
    assert load_config(tmp_path / "again.yaml") == config, "what is dumped leaves nothing open"


def test_each_source_says_what_it_adds(least: dict[str, Any], tmp_path: Path) -> None:
    sources = {added.source: flat(added.settings) for added in what_is_added(least, tmp_path)}
    assert list(sources) == [
        "prompts of the package for a woman",
        "class woman",
        "preset standard",
        "StableDiffusionPipeline of 64 pixels",
    ]
    assert sources["StableDiffusionPipeline of 64 pixels"] == {
        "training.batch_size": 2,
        "training.resolution": 64,
        "evaluation.generation.steps": 20,
        "evaluation.generation.guidance_scale": 7.5,
        "evaluation.generation.batch_size": 8,
        "evaluation.generation.resolution": 64,
    }
    assert "evaluation.seeds" not in sources["preset standard"], "what a stronger source says is not said twice"


def test_what_the_file_says_stays(least: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a photo of {trigger} on a horse\n")
    least |= {"training": {"batch_size": 4}, "evaluation": {"prompts": "mine.txt", "generation": {"steps": 12}}}
    least |= {"space": {"rank": {"values": [4, 8]}}}
    whole = completed(least, tmp_path)
    assert whole["training"] == {"batch_size": 4, "resolution": 64}
    assert whole["evaluation"]["prompts"] == "mine.txt"
    assert "seeds" not in whole["evaluation"], "the seeds are those of the package's prompts"
    assert whole["evaluation"]["generation"]["steps"] == 12
    assert whole["space"] == {"rank": {"values": [4, 8]}}
    assert "preset" not in whole, "a space of one's own asks for no preset"
    assert least["training"] == {"batch_size": 4}, "the document itself is as it was"


def test_without_prompts_and_class_the_remedy_is_said(least: dict[str, Any], write_config: Write) -> None:
    del least["photos"]["class"]
    with pytest.raises(
        ConfigurationError, match=r"(?s)evaluation.prompts: this key is missing.*final.*missing.*photos.class: set it"
    ):
        load_config(write_config(least))


def test_the_homework_s_own_settings_are_left_alone(least: dict[str, Any], write_config: Write) -> None:
    config = load_config(write_config({**least, "evaluation": {"protocol": "hw10"}}))
    assert (config.evaluation.generation.steps, config.evaluation.generation.resolution) == (30, 512)


def test_the_package_s_prompts_are_disjoint_and_each_says_the_class() -> None:
    sets = {name: read_prompts(PROMPT_FILES / f"{name}.txt", "man") for name in ("validation", "final", "others")}
    assert len(sets["validation"]) >= 24
    assert len(sets["final"]) >= 24
    assert not set(sets["validation"]) & set(sets["final"])
    assert all("{trigger} man" in prompt for name in ("validation", "final") for prompt in sets[name])
    assert not any("{trigger}" in prompt for prompt in sets["others"])


def test_a_class_that_is_not_set_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a photo of {trigger} {class}\n")
    assert read_prompts(tmp_path / "prompts.txt", "girl") == ("a photo of {trigger} girl",)
    with pytest.raises(ConfigurationError, match=r"holds 'a photo of \{trigger\} \{class\}', but photos.class is not"):
        read_prompts(tmp_path / "prompts.txt")


def test_the_kind_of_a_model_is_read_from_its_small_files(tmp_path: Path) -> None:
    assert kind_of(str(DEMO / "base"), tmp_path) == ModelKind("StableDiffusionPipeline", 64)
    assert kind_of("nobody/nothing", tmp_path) is None, "a hub model that is not in the cache"
    assert kind_of("nowhere at all", tmp_path) is None
    larger = tmp_path / "larger"
    for part in ("transformer", "vae"):
        (larger / part).mkdir(parents=True)
    (larger / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')
    assert kind_of("larger", tmp_path) == ModelKind("StableDiffusion3Pipeline", None)
    (larger / "transformer" / "config.json").write_text('{"sample_size": 128}')
    (larger / "vae" / "config.json").write_text('{"block_out_channels": [1, 2, 3, 4]}')
    assert kind_of("larger", tmp_path) == ModelKind("StableDiffusion3Pipeline", 1024)


def test_a_model_on_the_hub_is_asked_for_its_small_files_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def fetch(model: str, patterns: list[str]) -> Path:
        asked.append((model, patterns))
        return DEMO / "base"

    monkeypatch.setattr(model_kind, "fetch", fetch)
    assert kind_of("some/model", tmp_path) == ModelKind("StableDiffusionPipeline", 64)
    files = ["model_index.json", "unet/config.json", "transformer/config.json", "vae/config.json"]
    assert asked == [("some/model", files)]

    def away(model: str, patterns: list[str]) -> Path:
        raise DownloadError("the network is down")

    monkeypatch.setattr(model_kind, "fetch", away)
    assert kind_of("some/model", tmp_path) is None


@pytest.mark.parametrize(
    ("names", "pipeline"),
    [
        (["model.diffusion_model.x"], "StableDiffusionPipeline"),
        (["model.diffusion_model.x", "conditioner.embedders.1.model.y"], "StableDiffusionXLPipeline"),
        (["lora_unet_x"], ""),
    ],
)
def test_a_single_file_shows_its_family_in_its_header(names: list[str], pipeline: str, tmp_path: Path) -> None:
    header = json.dumps({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    kind = kind_of("model.safetensors", tmp_path)
    assert kind is not None
    assert kind.pipeline == pipeline


def test_a_damaged_single_file_is_of_no_kind(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    assert kind_of("model.safetensors", tmp_path) == ModelKind("", None)
