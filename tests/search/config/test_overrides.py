"""Single values as they are written, in the file and after `--set`, and what they mean."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.config.search_config import ConfigurationError, dump_config, load_config

Write = Callable[[dict[str, Any]], Path]


def test_numbers_may_be_written_as_people_write_them(
    document: dict[str, Any], tmp_path: Path, write_config: Write
) -> None:
    path = write_config(document)
    path.write_text(path.read_text("utf-8").replace("1.0e-05", "1e-5"), "utf-8")
    assert "1e-5" in path.read_text("utf-8")
    dimension = load_config(path).space["learning_rate"]
    assert dimension.model_dump() == {"low": 1e-5, "high": 1e-2, "log": True}


def test_overrides(document: dict[str, Any], write_config: Write) -> None:
    path = write_config(document)
    config = load_config(path, ["trials=7", "evaluation.every=25", "stopping.enabled=false", "training.alpha=3e-1"])
    assert (config.trials, config.evaluation.every, config.stopping.enabled) == (7, 25, False)
    assert config.training.alpha == 0.3
    with pytest.raises(ConfigurationError, match="must read key=value"):
        load_config(path, ["trials"])
    with pytest.raises(ConfigurationError, match="did you mean 'trials'"):
        load_config(path, ["trias=7"])


def test_the_mode_of_the_objective_can_be_set_from_the_command_line(
    document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    path = write_config(document)
    place = "evaluation.objective"
    config = load_config(path, [f"{place}.mode=pareto", f"{place}.minimum_likeness=0.6"])
    assert (config.evaluation.objective.mode, config.evaluation.objective.minimum_likeness) == ("pareto", 0.6)
    assert config.sampler.name == "tpe", "learning curves, the default, know one objective"
    with pytest.raises(ConfigurationError, match=r"sampler\.name is learning_curves.*; give tpe"):
        load_config(path, [f"{place}.mode=pareto", "sampler.name=learning_curves"])
    (tmp_path / "again.yaml").write_text(dump_config(config), "utf-8")
    assert load_config(tmp_path / "again.yaml") == config
    for override, message in (
        ("minimum_likeness=0.6", f"{place}: minimum_likeness is 0.6, but mode is 'weighted'.*set mode to pareto"),
        ("mode=pareot", f"{place}.mode: .*'weighted' or 'pareto'"),
        ("maximum_faceless_rate=2", f"{place}: maximum_faceless_rate is 2.0; give a number from 0.0 to 1.0"),
        ("minimum_likness=0.6", f"{place}.minimum_likness: there is no such key; did you mean 'minimum_likeness'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            load_config(path, [f"{place}.{override}"])


def test_text_that_looks_like_something_else_is_read_back(document: dict[str, Any], write_config: Write) -> None:
    overrides = [
        "name=1e4",
        "photos.trigger=3007",
        "photos.class=on",
        "photos.caption_template=1:30 # {trigger}",
        "tracking.experiment=2026-11-27",
        "evaluation.generation.negative_prompt=0123",
        "training.mixed_precision=no",
        "runs=a #1",
    ]
    config = load_config(write_config(document), overrides)
    assert (config.name, config.photos.trigger, config.photos.class_word) == ("1e4", "3007", "on")
    assert config.photos.caption_template == "1:30 # {trigger}"
    assert (config.tracking.experiment, config.evaluation.generation.negative_prompt) == ("2026-11-27", "0123")
    assert (config.training.mixed_precision, config.runs) == ("no", Path.cwd() / "a #1")
    path = write_config(document)
    path.write_text(dump_config(config), "utf-8")
    assert load_config(path) == config


@pytest.mark.parametrize(("written", "buckets"), [("yes", True), ("on", True), ("no", False), ("off", False)])
def test_a_switch_may_be_a_word(written: str, buckets: bool, document: dict[str, Any], write_config: Write) -> None:
    path = write_config(document)
    path.write_text(path.read_text("utf-8").replace("folder: photos", f"folder: photos\n  buckets: {written}"), "utf-8")
    config = load_config(path, [f"stopping.enabled={written}", f"training.gradient_checkpointing={written}"])
    assert (config.photos.buckets is not None, config.stopping.enabled) == (buckets, buckets)
    assert config.training.gradient_checkpointing is buckets
