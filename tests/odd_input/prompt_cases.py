"""Files of prompts as other programs write them: their encoding, their placeholders, their words for the person."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path

from tests.odd_input.case import Case, replace, setting

HAPPY, SAD = "a photo of {trigger} man, happy", "a photo of {trigger} man, sad"
OTHERS = ("evaluation.others.count=6", "evaluation.others.prompts=prompts/others.txt")


def prompts(
    *lines: str, file: str = "validation", mark: bytes = b"", encoding: str = "utf-8"
) -> Callable[[Path], None]:
    """A change: a file of prompts with these lines, ended as on Windows."""

    def change(folder: Path) -> None:
        content = "".join(f"{line}\r\n" for line in lines)
        (folder / "prompts" / f"{file}.txt").write_bytes(mark + content.encode(encoding))

    return change


def _both(*changes: Callable[[Path], None]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def _everywhere(old: str, new: str) -> Callable[[Path], None]:
    """A change: one text for another in the captions and in the prompts of the person."""

    def change(folder: Path) -> None:
        for path in (*(folder / "photos").glob("*.txt"), *(folder / "prompts").glob("[fv]*.txt")):
            path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")

    return change


def foreign(name: str, line: str, found: str, answer: str) -> Case:
    """A prompt that another program would fill in or obey."""
    return Case(
        f"prompt-with-{name}",
        prompts(HAPPY, line),
        says=(f"validation.txt: the prompt '{line}' holds {found}; {answer}",),
    )


BOM = codecs.BOM_UTF8
LITERAL = "a photo of sks man, happy"

CASES = [
    # The untuned model and 3 checkpoints on 2 prompts, 3 adapters on the final's 12; a comment that counts makes 48.
    Case(
        "prompts-with-a-mark", prompts("# of faces", HAPPY, "", SAD, mark=BOM), exit_code=0, says=("images: about 44",)
    ),
    Case("prompts-without-a-mark", prompts("# of faces", HAPPY, "", SAD), exit_code=0, says=("images: about 44",)),
    Case(
        "mark-before-the-final-s-prompt-of-the-validation",
        _both(prompts(HAPPY, mark=BOM), prompts(SAD, HAPPY, file="final")),
        setting("final.seeds=[1]"),
        says=(f"the final would repeat the validation's prompt '{HAPPY}' with seed 1",),
    ),
    Case("marks-of-joined-files", prompts(HAPPY, f"\ufeff{HAPPY}"), says=(f"holds a prompt twice: '{HAPPY}'",)),
    Case(
        "prompts-in-utf-16",
        prompts(HAPPY, encoding="utf-16"),
        says=("validation.txt is not UTF-8 text", "save it as UTF-8"),
    ),
    Case(
        "prompts-with-the-trigger-written-out",
        replace("prompts/validation.txt", "{trigger}", "sks"),
        says=(
            "validation.txt: the prompt 'a photo of sks man,",
            "holds the trigger 'sks'; write {trigger} in its place",
        ),
    ),
    Case(
        "prompt-with-the-trigger-in-capitals",
        prompts(SAD, "a photo of {trigger} man beside SKS", file="final"),
        says=("final.txt: the prompt 'a photo of {trigger} man beside SKS' holds the trigger 'sks'; write {trigger}",),
    ),
    Case(
        "prompts-of-others-with-the-trigger-written-out",
        prompts("a photo of a woman", LITERAL, file="others"),
        setting(*OTHERS),
        says=(f"others.txt: the prompt '{LITERAL}' asks for other people, but holds the trigger 'sks'",),
    ),
    Case(
        "trigger-that-is-a-common-word",
        _everywhere("{trigger} man", "{trigger} person"),
        setting("photos.trigger=person", "evaluation.others.count=6"),
        says=("holds the trigger 'person'",),
    ),
    Case(
        "trigger-that-is-the-word-for-others",
        _everywhere("{trigger} man", "{trigger}"),
        setting("photos.trigger=person", "evaluation.others.count=6"),
        says=(
            "asks for other people, but holds the trigger 'person'",
            "choose a photos.trigger that is no common word",
        ),
    ),
    Case(
        "class-that-holds-the-trigger",
        command=setting("photos.class=sks man"),
        says=("class is 'sks man', which holds the trigger 'sks'",),
    ),
    Case(
        "prompts-without-the-trigger",
        replace("prompts/final.txt", "{trigger} ", ""),
        says=("final.txt: none of 12 prompts holds {trigger}, so none asks for the person; write it where",),
    ),
    Case(
        "one-prompt-without-the-trigger",
        prompts(HAPPY, "a house by the sea"),
        exit_code=0,
        says=(
            "prompts: 1 of 2 in validation.txt hold no {trigger}, so their images are of anybody and count as unlike "
            "the person: 'a house by the sea'",
        ),
    ),
    Case(
        "prompts-without-a-class",
        prompts("a photo of {trigger}, happy", SAD),
        exit_code=0,
        says=(
            "prompts: 1 of 2 in validation.txt say 'person' where CLIP and prompts of other people read them, for no "
            "noun such as man stands behind {trigger}: 'a photo of {trigger}, happy'; set photos.class to what the "
            "person is",
        ),
    ),
    Case(
        "prompts-without-a-class-that-is-set",
        prompts("a photo of {trigger}, happy", SAD),
        setting("photos.class=man"),
        exit_code=0,
        silent=("prompts:",),
    ),
    foreign("options", "{trigger} man --n blurry --w 512 --h 768", "--n", "options would be read as words"),
    foreign("a-lora", "{trigger} man <lora:anna:0.8>", "<lora:anna:0.8>", "it would be read as words"),
    foreign("a-weight", "{trigger} (man:1.3), happy", "(man:1.3)", "weights would be read as words"),
    foreign("a-choice", "{trigger} man, {red|blue} shirt", "{red|blue}", "only {trigger} is filled in"),
    foreign("a-choice-in-brackets", "{trigger} man, [red|blue] shirt", "[red|blue]", "choices would be read as words"),
    foreign("a-wildcard", "{trigger} man, __colour__ shirt", "__colour__", "wildcards would be read as words"),
    foreign("brackets", "a photo of [trigger] man", "[trigger]", "only {trigger} is filled in"),
    foreign("capitals", "a photo of {TRIGGER} man", "{TRIGGER}", "only {trigger} is filled in"),
    foreign("an-emphasis", "{trigger} man, ((happy))", "((happy))", "parentheses would be read as words"),
]
