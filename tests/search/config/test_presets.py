"""Presets: what they add, what they leave alone, and that each of them is a search that can be run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from search.config.defaults import what_is_added
from search.config.presets import PresetName, flat
from search.config.search_config import ConfigurationError, dump_config, load_config
from search.config.space import Ratio

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def bare(document: dict[str, Any]) -> dict[str, Any]:
    """A configuration that says only what nobody else can know."""
    del document["space"], document["trials"], document["evaluation"]["every"]
    return document


@pytest.mark.parametrize(("name", "trials"), [("quick", 6), ("standard", 20), ("thorough", 60)])
def test_a_preset_makes_a_whole_search_that_reads_back_as_itself(
    name: str, trials: int, bare: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    config = load_config(write_config({**bare, "preset": name}))
    assert config.trials == trials
    assert isinstance(config.space["alpha"], Ratio)
    for steps in config.possible_trainings():
        assert steps.steps % config.evaluation.every == 0 or steps == config.training
    (tmp_path / "again.yaml").write_text(dump_config(config), "utf-8")
    assert load_config(tmp_path / "again.yaml") == config


def test_what_the_user_has_set_stays(bare: dict[str, Any], write_config: Write) -> None:
    bare |= {"preset": "quick", "trials": 3, "training": {**bare["training"], "rank": 4}}
    bare["final"] |= {"retrain": 1}
    path = write_config(bare)
    config = load_config(path, ["evaluation.every=150"])
    assert (config.trials, config.final.retrain, config.final.candidates) == (3, 1, 2)
    assert (config.evaluation.every, config.evaluation.seeds) == (150, (1,))
    assert list(config.space) == ["learning_rate", "alpha", "steps"], "a fixed rank does not vary"
    assert config.training.rank == 4
    own = {"rank": {"values": [4, 8]}}
    assert list(load_config(write_config({**bare, "space": own, "training": {}})).space) == ["rank"]


def test_what_a_preset_adds_is_said(bare: dict[str, Any], tmp_path: Path) -> None:
    document = {**bare, "preset": "quick", "trials": 3, "stopping": {"enabled": False}}
    (added,) = what_is_added(document, tmp_path)
    assert added.source == "preset quick"
    assert flat(added.settings) == {
        "space.learning_rate": {"low": 5e-5, "high": 5e-4, "log": True},
        "space.rank": {"values": [8, 16, 32]},
        "space.alpha": {"ratio": [0.5, 1]},
        "space.steps": {"low": 300, "high": 900, "step": 300},
        "training.lr_warmup_steps": 100,
        "stopping.grace_period": 300,
        "evaluation.every": 300,
        "evaluation.seeds": [1],
        "final.candidates": 2,
        "final.retrain": 0,
    }
    assert not what_is_added({**document, "preset": None, "space": {"rank": {"values": [4, 8]}}}, tmp_path)


def test_an_unknown_preset_is_named_with_the_nearest(bare: dict[str, Any], write_config: Write) -> None:
    with pytest.raises(ConfigurationError, match="preset 'quik' does not exist; did you mean 'quick'"):
        load_config(write_config(bare), ["preset=quik"])
    assert get_args(PresetName) == ("quick", "standard", "thorough")
