"""Captions: what of them other programs would obey, and what they say of the person."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.data.captions import caption_warnings, doubled_word, foreign_syntax, read_caption
from trainer.data.photo_problem import PhotoProblem

FOREIGN = {
    "a photo of {Trigger} man": "{Trigger}",
    "{trigger} in a {red|blue} hat": "{red|blue}",
    "{{trigger}} man": "{{trigger}}",
    "({trigger} man:1.3)": "({trigger} man:1.3)",
    "a photo of trigger} man": "}",
    "a photo of [trigger] man": "[trigger]",
    "[Name], [filewords]": "[Name]",
    "a photo of <token> man": "<token>",
    "a photo of %trigger% man": "%trigger%",
    "a man <lora:anna:0.8>": "<lora:anna:0.8>",
    "a man <hypernet:x>": "<hypernet:x>",
    "a man --n blurry": "--n",
    "a man --ar 16:9": "--ar",
    "(a man:1.3)": "(a man:1.3)",
    "((a man):0.5)": "(a man):0.5)",
    "a ((man))": "((man))",
    "a [cat:dog:0.5]": "[cat:dog:0.5]",
    "a __colour__ hat": "__colour__",
}
ORDINARY = (
    "{trigger}",
    "a photo of {trigger} man, {trigger} smiles",
    "a man (left), artist_(style)",
    "at 12:30 (ca. 12:30), in the ratio (16:9)",
    "<3 and > 2",
    "a sign that reads [sic]",
    "a man -- smiling --happily",
    "snake_case and __",
    "50% off, 100 % cotton",
)


@pytest.mark.parametrize("text", FOREIGN)
def test_what_another_program_obeys_is_found(text: str) -> None:
    found = foreign_syntax(text)
    assert found is not None
    assert found[0] == FOREIGN[text]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_signs_are_words(text: str) -> None:
    assert foreign_syntax(text) is None


@pytest.mark.parametrize(
    ("text", "trigger", "expected"),
    [
        ("a photo of sks man man", "sks man", "man"),
        ("a photo of Sks Man MAN, happy", "sks man", "man"),
        ("a photo of man man", "man", "man"),
        ("a photo of sks man", "sks man", ""),
        ("a photo of sks man, man", "sks man", ""),
        ("sks manly", "sks man", ""),
        ("man man", "", ""),
    ],
)
def test_a_word_said_twice_is_found(text: str, trigger: str, expected: str) -> None:
    assert doubled_word(text, trigger) == expected


def test_captions_that_do_not_name_the_person_are_counted() -> None:
    captions = [("a.png", "a photo of sks man"), ("b.png", "a photo of a man"), ("c.png", "sksy"), ("d.png", "SKS")]

    assert caption_warnings(captions, "sks") == (
        "2 of 4 captions hold neither {trigger} nor 'sks' (b.png, c.png), so that word is not learnt from them; write "
        "{trigger} where they name the person",
    )
    assert caption_warnings(captions[:1], "sks") == ()


def test_marks_and_line_ends_are_no_part_of_a_caption(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeff{trigger} man,\r\n\ufeffhappy\r\n".encode())
    problems: list[PhotoProblem] = []

    assert read_caption(path, "sks", problems) == "sks man, happy"
    assert problems == []


def test_a_caption_that_cannot_be_read_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("été".encode("latin-1"))
    (tmp_path / "b.txt").mkdir()
    problems: list[PhotoProblem] = []

    for name in "ab":
        assert read_caption(tmp_path / f"{name}.txt", "sks", problems) is None

    latin, folder = problems
    assert (latin.file, latin.remedy) == ("a.txt", "save it as UTF-8")
    assert latin.reason.startswith("is not UTF-8 text (")
    assert str(folder) == "b.txt: cannot be read: Is a directory; check the file and its permissions"
