"""Captions: read, filled in with the trigger, checked for what other programs would obey. Imports no torch."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.data.photo_problem import PhotoProblem, listed
from trainer.files import read_text

TRIGGER = "{trigger}"

WITHOUT_SPACES = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
"""Letters of Thai, Lao, Japanese, Chinese and Korean, which follow on a word without a space."""
OTHER_SYNTAX: Mapping[str, str] = {
    r"\{[^{}]*\}|[{}]": f"only {TRIGGER} is filled in",
    r"(?i)[\[<%](?:trigger(?:[ _-]?word)?|name|token|subject|instance|concept|class|filewords)[\]>%]": (
        f"only {TRIGGER} is filled in"
    ),
    r"<\w+:[^<>]*>": "it would be read as words, no adapter or network is loaded: leave it out",
    r"(?<!\S)--(?:[a-z]{1,2}|neg|seed|steps|style|stylize|chaos)(?!\S)": (
        "options would be read as words: leave it out, sizes and seeds are settings of their own"
    ),
    r"\([^()]*[^\W\d]\)*\s*:\s*\d*\.?\d+\s*\)": "weights would be read as words: write the words alone",
    r"\({2,}[^()]*\){2,}": "parentheses would be read as words: write the words alone",
    r"\[[^\[\]]*[|:][^\[\]]*\]": "choices would be read as words: write one prompt for each",
    r"(?<!\w)__[\w/*-]+__(?!\w)": "wildcards would be read as words: write one prompt for each",
}
"""What other programs replace or obey in prompts and captions, and what becomes of it here."""


def foreign_syntax(text: str) -> tuple[str, str] | None:
    """What a caption or prompt holds that other programs replace or obey, and what becomes of it; None without."""
    rest = text.replace(TRIGGER, "\0")
    found = ((re.search(pattern, rest), answer) for pattern, answer in OTHER_SYNTAX.items())
    return next(((match[0].replace("\0", TRIGGER), answer) for match, answer in found if match), None)


def names_person(text: str, trigger: str) -> bool:
    """Whether the trigger is one of the words of a text, in capitals or not."""
    letter = rf"[^\W{WITHOUT_SPACES}]"
    pattern = rf"(?<!{letter}){re.escape(trigger)}(?!{letter})"
    return bool(trigger) and re.search(pattern, text, re.IGNORECASE) is not None


def doubled_word(text: str, trigger: str) -> str:
    """The trigger's last word if the trigger stands in a text with the same word behind it, else ""."""
    last = trigger.split()[-1] if trigger else ""
    return last if last and names_person(text, f"{trigger} {last}") else ""


def read_caption(path: Path, trigger: str | None, problems: list[PhotoProblem]) -> str | None:
    """The caption as one line with the trigger filled in, or None with the reason added to `problems`."""
    try:
        caption = " ".join(read_text(path).replace("\ufeff", " ").split())
    except ValueError as error:
        reason, _, remedy = str(error).removeprefix(f"{path} ").partition("; ")
        problems.append(
            PhotoProblem(file=path.name, reason=reason, remedy=remedy or "check the file and its permissions")
        )
        return None
    if not caption:
        remedy = "write what the photo shows, or remove the file if photos.caption_template shall stand in"
        problems.append(PhotoProblem(file=path.name, reason="is an empty caption", remedy=remedy))
        return None
    return fill_in(caption, trigger, path.name, problems)


def fill_in(caption: str, trigger: str | None, file: str, problems: list[PhotoProblem]) -> str | None:
    """The caption of a file with the trigger in its place, or None with the reason added to `problems`."""
    reason, remedy = "", ""
    if foreign := foreign_syntax(caption):
        reason, remedy = f"holds {foreign[0]}", foreign[1]
    elif TRIGGER in caption and not trigger:
        reason, remedy = f"contains {TRIGGER}, but no trigger is set", "set the trigger word"
    if reason:
        problems.append(PhotoProblem(file=file, reason=reason, remedy=remedy))
        return None
    return caption.replace(TRIGGER, trigger or "")


def caption_warnings(captions: Sequence[tuple[str, str]], trigger: str) -> tuple[str, ...]:
    """What to know of captions before anything is trained, a line each.

    Args:
        captions: name of the photo and caption, the trigger filled in, of each photo.
        trigger: the word that stands for the person.
    """
    found = []
    without = [name for name, caption in captions if not names_person(caption, trigger)]
    if without:
        found.append(
            f"{len(without)} of {len(captions)} captions hold neither {TRIGGER} nor {trigger!r} ({listed(without)}), "
            f"so that word is not learnt from them; write {TRIGGER} where they name the person"
        )
    doubled = {name: word for name, caption in captions if (word := doubled_word(caption, trigger))}
    if doubled:
        word = next(iter(doubled.values()))
        found.append(
            f"{len(doubled)} of {len(captions)} captions read '{trigger} {word}' ({listed(doubled)}); leave {word!r} "
            "out of them, or out of photos.trigger"
        )
    return tuple(found)
