"""The configurations that pages show: each loads, alone or upon the README's."""

import dataclasses
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from evaluation.measures import METRICS, PRINTED
from search.config.__main__ import reference, schema_of, sections
from search.config.search_config import SearchConfig, load_config
from tests.docs.conftest import Page
from trainer.config import TrainingConfig
from trainer.run_config import RunConfig, load_run_config
from trainer.yaml_text import parse_yaml


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos and prompts lie there, as the examples have them."""
    (tmp_path / "photos").mkdir()
    for name in ("validation.txt", "final.txt"):
        (tmp_path / name).write_text("a photo of {trigger}\n")
    return tmp_path


def test_the_readmes_configuration_has_three_lines_and_loads(folder: Path, pages: dict[str, Page]) -> None:
    config = _load(folder, pages["README.md"])
    assert len(pages["README.md"].blocks("yaml")[0].splitlines()) == 3
    assert config.model == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert (config.preset, config.trials, config.training.resolution) == ("standard", 20, 512)


def test_getting_started_spells_out_what_a_configuration_may_leave_open(folder: Path, pages: dict[str, Page]) -> None:
    long = _load(folder, pages["docs/getting-started.md"])
    least = {name: parse_yaml(pages["docs/getting-started.md"].blocks("yaml")[0])[name] for name in ("name", "model")}
    least |= {"photos": {"folder": "photos"}}
    least |= {"evaluation": {"prompts": "validation.txt"}, "final": {"prompts": "final.txt"}}
    (folder / "least.yaml").write_text(yaml.safe_dump(least))
    assert load_config(folder / "least.yaml").model_copy(update={"preset": None}) == long


def test_fragments_fit_the_readmes_configuration(
    folder: Path, pages: dict[str, Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = (block for block in pages["docs/results.md"].blocks("python") if "class Sharpness" in block)
    (folder / "sharpness.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    whole = parse_yaml(pages["README.md"].blocks("yaml")[0])
    checked = []
    for page in pages.values():
        for block in page.blocks("yaml"):
            fragment = parse_yaml(block)
            if "name" not in fragment and set(fragment) <= set(SearchConfig.model_fields):
                (folder / "fragment.yaml").write_text(yaml.safe_dump({**whole, **_within(whole, fragment)}))
                load_config(folder / "fragment.yaml")
                checked.append(page.name)
    assert checked == ["docs/photos.md", "docs/results.md", "docs/running.md"]


def test_settings_that_commands_replace_exist(folder: Path, pages: dict[str, Page]) -> None:
    (folder / "my.yaml").write_text(pages["README.md"].blocks("yaml")[0])
    replaced = set()
    for page in pages.values():
        for override in re.findall(r"--set ('[^']+'|\"[^\"]+\"|[^\s`\"')]+)", page.text):
            override = shlex.split(override)[0]
            if override != "key=value" and not override.endswith("=..."):
                load_config(folder / "my.yaml", [override, "budget.gpu_hour_price=1"])
                replaced.add(override.partition("=")[0])
    assert replaced >= {"final.retrain", "final.strengths", "evaluation.every", "seats.coming", "tracking.uri"}


def test_the_training_run_loads(folder: Path, pages: dict[str, Page]) -> None:
    (folder / "run.yaml").write_text(pages["docs/training.md"].blocks("yaml")[0])
    config = load_run_config(folder / "run.yaml")
    assert (config.training.steps, config.save_every, config.output) == (1200, 200, folder / "anna")


def test_the_tables_of_metrics_name_those_that_there_are(pages: dict[str, Page]) -> None:
    named = []
    for part in pages["docs/results.md"].text.split("| metric | meaning | better |")[1:]:
        named += re.findall(r"^\| `(\w+)`", part.split("\n\n")[0], re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(PRINTED) <= set(named) <= set(METRICS)


def test_the_page_of_settings_is_current(root: Path) -> None:
    written = (root / "docs" / "configuration.md").read_text("utf-8")
    assert written == reference(), "run `python -m search.config > docs/configuration.md`"


def test_the_page_of_settings_explains_every_key() -> None:
    owners = [schema_of(SearchConfig), schema_of(RunConfig)]
    owners += [section for owner in tuple(owners) for _, section in sections(owner)]
    keys = [(owner["title"], key, value) for owner in owners for key, value in owner["properties"].items()]
    assert [(title, key) for title, key, value in keys if not value.get("description")] == []
    named = set(schema_of(TrainingConfig)["properties"])
    assert named == {field.name for field in dataclasses.fields(TrainingConfig)}


def _load(folder: Path, page: Page) -> SearchConfig:
    (folder / "my.yaml").write_text(page.blocks("yaml")[0])
    return load_config(folder / "my.yaml")


def _within(whole: Mapping[str, Any], fragment: Mapping[str, Any]) -> dict[str, Any]:
    """A fragment with what the whole says beside it in the same sections."""
    return {
        key: {**whole.get(key, {}), **value} if isinstance(value, dict) and key != "space" else value
        for key, value in fragment.items()
    }
