"""Prompts and seeds of validation and final, of the person and of others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.config import PromptSet
from evaluation.hw10 import SEED
from search.config.prompts import other_sets, prompt_sets
from search.config.search_config import ConfigurationError, SearchConfig, load_config

Load = Callable[..., SearchConfig]


@pytest.fixture
def load(document: dict[str, Any], write_config: Callable[[dict[str, Any]], Path]) -> Load:
    def load(*overrides: str) -> SearchConfig:
        return load_config(write_config(document), overrides)

    return load


def test_validation_and_final_have_prompts_and_seeds_of_their_own(load: Load) -> None:
    assert prompt_sets(load()) == {
        "validation": PromptSet(prompts=("a photo of {trigger} man", "a photo of {trigger} man, happy"), seeds=(1, 2)),
        "final": PromptSet(prompts=("a photo of {trigger} man, sad",), seeds=(101, 102)),
    }


def test_the_homeworks_protocol_has_one_seed(load: Load) -> None:
    sets = prompt_sets(load("evaluation.protocol=hw10"))
    assert {name: prompts.seeds for name, prompts in sets.items()} == {"validation": (SEED,), "final": (SEED,)}


def test_a_final_that_would_show_the_validation_again_is_refused(load: Load, tmp_path: Path) -> None:
    (tmp_path / "final.txt").write_text("a photo of {trigger} man, happy\n")
    assert prompt_sets(load()), "the same prompt with another seed is another image"
    with pytest.raises(ConfigurationError, match=r"prompt 'a photo of \{trigger\} man, happy' with seed 2"):
        prompt_sets(load("final.seeds=[2]"))


def test_others_are_anybody_whom_the_prompts_without_the_trigger_show(load: Load) -> None:
    config = load()
    assert other_sets(config, prompt_sets(config)) == {
        "validation": PromptSet(prompts=("a photo of man", "a photo of man, happy"), seeds=(1,)),
        "final": PromptSet(prompts=("a photo of man, sad",), seeds=(101, 102)),
    }


def test_others_of_ones_own_are_spread_over_the_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "others.txt").write_text("".join(f"person {number}\n" for number in range(10)))
    config = load("evaluation.others.prompts=others.txt", "evaluation.others.count=3")
    sets = other_sets(config, prompt_sets(config))
    assert {prompts.prompts for prompts in sets.values()} == {("person 0", "person 3", "person 6")}
    assert {name: prompts.seeds for name, prompts in sets.items()} == {"validation": (1,), "final": (101, 102)}


def test_no_others_no_meter(load: Load) -> None:
    config = load("evaluation.others.count=0")
    assert other_sets(config, prompt_sets(config)) == {}


def test_prompts_of_others_must_not_name_the_person(load: Load, tmp_path: Path) -> None:
    (tmp_path / "others.txt").write_text("a woman\na photo of {trigger} woman\n")
    config = load("evaluation.others.prompts=others.txt")
    with pytest.raises(ConfigurationError, match=r"others.txt holds 'a photo of \{trigger\} woman'"):
        other_sets(config, prompt_sets(config))
    with pytest.raises(ConfigurationError, match=r"nobody.txt is not a file"):
        load("evaluation.others.prompts=nobody.txt")
