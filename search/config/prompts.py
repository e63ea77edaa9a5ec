"""The prompts and seeds that every candidate is shown: of validation and final, of the person and of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeAlias

from evaluation.config import TRIGGER_FIELD, PromptSet
from evaluation.hw10 import SEED
from search.config.search_config import ConfigurationError, SearchConfig
from search.config.sections import EvaluationConfig, FinalConfig

CLASS_FIELD = "{class}"
"""Stands for `photos.class` in a file of prompts."""

PromptSetName: TypeAlias = Literal["validation", "final"]
"""`validation` steers the search; `final` only confirms its outcome."""


def prompt_sets(config: SearchConfig) -> dict[PromptSetName, PromptSet]:
    """The prompts and seeds of the validation and of the final.

    Raises:
        ConfigurationError: a file holds no prompts, or the final would show an image of the validation again.
    """
    hw10 = config.evaluation.protocol == "hw10"
    sections: dict[PromptSetName, EvaluationConfig | FinalConfig] = {
        "validation": config.evaluation,
        "final": config.final,
    }
    sets = {
        name: PromptSet(
            prompts=read_prompts(section.prompts, config.photos.class_word), seeds=(SEED,) if hw10 else section.seeds
        )
        for name, section in sections.items()
    }
    validation, final = (
        {(prompts.prompts[index], seed) for index, seed in prompts.pairs()} for prompts in sets.values()
    )
    if shared := sorted(validation & final):
        prompt, seed = shared[0]
        raise ConfigurationError(
            f"the final would repeat the validation's prompt {prompt!r} with seed {seed}; "
            "give it other prompts or seeds"
        )
    return sets


def other_sets(config: SearchConfig, person: Mapping[PromptSetName, PromptSet]) -> dict[PromptSetName, PromptSet]:
    """Prompts of other people beside each prompt set: one image each in the validation, one a seed in the final.

    Raises:
        ConfigurationError: the prompts name the person.
    """
    others = config.evaluation.others
    if not others.count:
        return {}
    given = None
    if others.prompts is not None:
        given = PromptSet(prompts=read_prompts(others.prompts, config.photos.class_word), seeds=(0,))
    if given is not None and (named := [prompt for prompt in given.prompts if TRIGGER_FIELD in prompt]):
        raise ConfigurationError(
            f"{others.prompts} holds {named[0]!r}; prompts of other people go without {TRIGGER_FIELD}"
        )
    return {
        name: (given or prompts).of_others(
            others.count, prompts.seeds if name == "final" else prompts.seeds[:1], config.photos.class_word
        )
        for name, prompts in person.items()
    }


def read_prompts(path: Path, class_word: str = "") -> tuple[str, ...]:
    """The prompts of a text file: one a line; blank lines and lines that start with `#` are skipped.

    Args:
        path: The file.
        class_word: What the person is, in place of `{class}`; empty: no prompt may hold it.

    Raises:
        ConfigurationError: the file is not UTF-8, holds no prompt, one prompt twice, or `{class}` that stands for
            nothing.
    """
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    prompts = tuple(line for line in lines if line and not line.startswith("#"))
    if not class_word and (open_ := [prompt for prompt in prompts if CLASS_FIELD in prompt]):
        raise ConfigurationError(
            f"{path} holds {open_[0]!r}, but photos.class is not set; set it, or write the word instead"
        )
    prompts = tuple(prompt.replace(CLASS_FIELD, class_word) for prompt in prompts)
    if not prompts:
        raise ConfigurationError(f"{path} holds no prompt; write one a line")
    if repeated := sorted({prompt for prompt in prompts if prompts.count(prompt) > 1}):
        raise ConfigurationError(f"{path} holds a prompt twice: {repeated[0]!r}")
    return prompts
