"""Captions as other programs write them: without the trigger, with it written out, with another's placeholder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.odd_input.case import TRAINING, Case, setting

PHOTOS = ("search.photos", "photos", "--detector", "none", "--resolution", "64")
REPORT = ("photos-report/*",)
NAMED = "(angry.png, confused.png, determined.png, disgusted.png, exhausted.png and 16 more)"
WITHOUT = f"photos: 21 of 21 captions hold neither {{trigger}} nor 'sks' {NAMED}"


def captions(old: str, new: str) -> Callable[[Path], None]:
    """A change: one text for another in every caption that holds it."""

    def change(folder: Path) -> None:
        for path in (folder / "photos").glob("*.txt"):
            path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")

    return change


def one_caption(text: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    """A change: another caption for the photo happy.png."""

    def change(folder: Path) -> None:
        (folder / "photos" / "happy.txt").write_bytes(text.encode(encoding))

    return change


def _and_no_model(change: Callable[[Path], None]) -> Callable[[Path], None]:
    """So that the command ends after what it says of photos."""

    def both(folder: Path) -> None:
        change(folder)
        (folder / "base" / "model_index.json").write_text("{}")

    return both


def foreign(name: str, text: str, found: str, answer: str) -> Case:
    """A caption that another program would fill in or obey."""
    return Case(
        f"caption-with-{name}",
        one_caption(text),
        says=("1 problem in the photo folder", f"happy.txt: holds {found}; {answer}"),
    )


CASES = [
    Case("captions-without-the-trigger", captions("{trigger} ", ""), exit_code=0, says=(WITHOUT,)),
    Case(
        "captions-without-the-trigger-in-the-report",
        captions("{trigger} ", ""),
        PHOTOS,
        exit_code=0,
        says=(WITHOUT, "21 used, 0 cropped, 0 refused"),
        leaves=REPORT,
    ),
    Case(
        "captions-without-the-trigger-in-a-training",
        _and_no_model(captions("{trigger} ", "")),
        ("trainer.run", TRAINING),
        says=(WITHOUT, "write {trigger} where they name the person", "base model"),
    ),
    Case(
        "captions-with-another-trigger-written-out",
        captions("{trigger}", "sks"),
        setting("photos.trigger=ohwx"),
        exit_code=0,
        says=("21 of 21 captions hold neither {trigger} nor 'ohwx'",),
    ),
    Case(
        "captions-with-the-trigger-written-out",
        captions("{trigger}", "SKS"),
        exit_code=0,
        silent=("captions",),
    ),
    Case(
        "one-caption-without-the-trigger",
        one_caption("a photo of a man, happy"),
        exit_code=0,
        says=("1 of 21 captions hold neither {trigger} nor 'sks' (happy.png)",),
    ),
    Case(
        "trigger-that-holds-the-class",
        command=setting("photos.trigger=sks man"),
        exit_code=0,
        says=(
            f"photos: 21 of 21 captions read 'sks man man' {NAMED}; leave 'man' out of them, or out of photos.trigger",
            "prompts: 12 of 12 in validation.txt read 'sks man man'",
        ),
    ),
    foreign("brackets", "a photo of [trigger] man", "[trigger]", "only {trigger} is filled in"),
    foreign("a-name", "a photo of [name], [filewords]", "[name]", "only {trigger} is filled in"),
    foreign("capitals", "a photo of {Trigger} man", "{Trigger}", "only {trigger} is filled in"),
    foreign("double-braces", "a photo of {{trigger}} man", "{{trigger}}", "only {trigger} is filled in"),
    foreign("a-lost-brace", "a photo of {trigger man", "{", "only {trigger} is filled in"),
    foreign("a-lora", "{trigger} man <lora:anna:0.8>", "<lora:anna:0.8>", "it would be read as words"),
    foreign("a-weight", "({trigger} man:1.3), happy", "({trigger} man:1.3)", "weights would be read as words"),
    *(
        Case(f"caption-with-{name}", one_caption(text), exit_code=0, silent=("holds", "captions"))
        for name, text in (
            ("a-remark-in-brackets", "{trigger} man (left)"),
            ("an-underscore", "{trigger} man, a_(b)"),
            ("a-time", "{trigger} man, 12:30 (ca. 1)"),
            ("an-arrow-and-a-heart", "{trigger} man <3, [sic]"),
            ("a-dash-and-a-share", "{trigger} man -- 50% off"),
        )
    ),
    Case(
        "template-with-brackets",
        command=setting("photos.caption_template=a photo of [trigger]"),
        says=("photos.caption_template: it holds [trigger]; only {trigger} is filled in",),
    ),
    Case(
        "prior-with-braces",
        command=setting("photos.prior={prompt: 'a photo of {class}'}", "training.prior_loss_weight=1"),
        says=("prompt is 'a photo of {class}', which holds {class}; only {trigger} is filled in",),
    ),
    Case("caption-in-utf-16", one_caption("a photo of {trigger}", "utf-16"), says=("happy.txt: is not UTF-8 text",)),
    Case(
        "caption-in-utf-16-without-a-mark",
        one_caption("a photo of {trigger}", "utf-16-le"),
        says=("happy.txt: is not UTF-8 text (it holds NUL characters, as UTF-16 does); save it as UTF-8",),
    ),
]
