"""The prompts and seeds that every candidate is shown: of validation and final, of the person and of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from evaluation.config import TRIGGER_FIELD, PromptSet, as_read_by_clip
from evaluation.hw10 import SEED
from search.config.search_config import ConfigurationError, SearchConfig
from search.config.sections import EvaluationConfig, FinalConfig, PhotosConfig
from trainer.data.captions import doubled_word, foreign_syntax, names_person
from trainer.data.photo_problem import listed
from trainer.files import read_text

CLASS_FIELD = "{class}"
"""Stands for `photos.class` in a file of prompts."""

PromptSetName: TypeAlias = Literal["validation", "final"]
"""`validation` steers the search; `final` only confirms its outcome."""


def prompt_sets(config: SearchConfig) -> dict[PromptSetName, PromptSet]:
    """The prompts and seeds of the validation and of the final.

    Raises:
        ConfigurationError: a file holds no prompts of the person, or what another program would replace or obey, or the
            final would show an image of the validation again.
    """
    hw10 = config.evaluation.protocol == "hw10"
    sections: dict[PromptSetName, EvaluationConfig | FinalConfig] = {
        "validation": config.evaluation,
        "final": config.final,
    }
    sets = {
        name: PromptSet(
            prompts=_read_prompts_of_person(section.prompts, config.photos),
            seeds=(SEED,) if hw10 else section.seeds,
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
    sets: dict[PromptSetName, PromptSet] = {
        name: (given or prompts).of_others(
            others.count, prompts.seeds if name == "final" else prompts.seeds[:1], config.photos.class_word
        )
        for name, prompts in person.items()
    }
    # Of all that the file holds, not only of those that are drawn.
    every = [*(given.prompts if given else ()), *(prompt for prompts in sets.values() for prompt in prompts.prompts)]
    trigger = config.photos.trigger
    if called := [prompt for prompt in every if names_person(prompt, trigger)]:
        raise ConfigurationError(
            f"{others.prompts or 'other people'}: the prompt {called[0]!r} asks for other people, but holds the "
            f"trigger {trigger!r}, so it asks for the person; leave it out, or choose a photos.trigger that is no "
            "common word"
        )
    return sets


def prompt_warnings(config: SearchConfig, sets: Mapping[PromptSetName, PromptSet]) -> tuple[str, ...]:
    """What to know of the prompts of the person before anything is trained, a line each."""
    trigger, found = config.photos.trigger, []
    files = {"validation": config.evaluation.prompts, "final": config.final.prompts}
    for name, prompts in sets.items():
        file, count = files[name].name, len(prompts.prompts)
        nobody = [prompt for prompt in prompts.prompts if TRIGGER_FIELD not in prompt]
        if nobody:
            found.append(
                f"{len(nobody)} of {count} in {file} hold no {TRIGGER_FIELD}, so their images are of anybody and count "
                f"as unlike the person: {_quoted(nobody)}"
            )
        doubled = [word for prompt in prompts.prompts if (word := doubled_word(_filled(prompt, trigger), trigger))]
        if doubled:
            found.append(
                f"{len(doubled)} of {count} in {file} read '{trigger} {doubled[0]}'; leave {doubled[0]!r} out of them, "
                "or out of photos.trigger"
            )
        # Where the prompt says a class itself, it is read so whatever the class word.
        nameless = [prompt for prompt in prompts.prompts if as_read_by_clip(prompt) != as_read_by_clip(prompt, "one")]
        if nameless and not config.photos.class_word:
            found.append(
                f"{len(nameless)} of {count} in {file} say 'person' where CLIP and prompts of other people read them, "
                f"for no noun such as man stands behind {TRIGGER_FIELD}: {_quoted(nameless)}; set photos.class to what "
                "the person is"
            )
    return tuple(found)


def read_prompts(path: Path, class_word: str = "") -> tuple[str, ...]:
    """The prompts of a text file: one a line; blank lines and lines that start with `#` are skipped.

    Args:
        path: The file.
        class_word: What the person is, in place of `{class}`; empty: no prompt may hold it.

    Raises:
        ConfigurationError: the file is not UTF-8, holds no prompt, one prompt twice, `{class}` that stands for
            nothing, or what another program would replace or obey.
    """
    try:
        lines = [line.strip() for line in read_text(path).replace("\ufeff", "").splitlines()]
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
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
    for prompt in prompts:
        if foreign := foreign_syntax(prompt):
            raise ConfigurationError(f"{path}: the prompt {prompt!r} holds {foreign[0]}; {foreign[1]}")
    return prompts


def _read_prompts_of_person(path: Path, photos: PhotosConfig) -> tuple[str, ...]:
    prompts, trigger = read_prompts(path, photos.class_word), photos.trigger
    for prompt in prompts:
        if names_person(prompt.replace(TRIGGER_FIELD, " "), trigger):
            raise ConfigurationError(
                f"{path}: the prompt {prompt!r} holds the trigger {trigger!r}; write {TRIGGER_FIELD} in its place, or "
                "other people would be asked for by the person's own word"
            )
    if not any(TRIGGER_FIELD in prompt for prompt in prompts):
        raise ConfigurationError(
            f"{path}: none of {len(prompts)} prompts holds {TRIGGER_FIELD}, so none asks for the person; write it "
            f"where the person is meant, as in 'a photo of {TRIGGER_FIELD} man, happy'"
        )
    return prompts


def _filled(prompt: str, trigger: str) -> str:
    return prompt.replace(TRIGGER_FIELD, trigger)


def _quoted(prompts: Sequence[str]) -> str:
    return listed(repr(prompt) for prompt in prompts)
