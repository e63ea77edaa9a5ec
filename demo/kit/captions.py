"""Captions: one grammar for the subject's photos, the training set, the prompts and CLIP.

Two word orders say the same thing: `a photo of a happy man with curly black hair, gray background` and
`a photo of a man with curly black hair, happy, gray background`. The article may be missing or replaced by a trigger
word, so that a prompt with its trigger, and the same prompt without it, both read like something the models have seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from demo.kit.people import EXPRESSIONS, PEOPLE

STUDIO_COLOURS: tuple[str, ...] = (
    "gray",
    "white",
    "black",
    "red",
    "orange",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
)
"""Plain backgrounds, by the name that captions use."""

PLACES: tuple[str, ...] = ("indoors", "outdoors")
"""Backgrounds that are not plain."""

PLACEHOLDER = "{trigger}"
"""Stands for the trigger word in the committed captions and prompts."""


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What can be said about one picture. Empty means: not said (in a caption)."""

    sex: str = ""
    expression: str = ""
    hair: str = ""
    background: str = ""

    def implies(self, other: "Attributes") -> bool:
        """Whether everything that `other` says is true of a picture with these attributes."""
        return all(
            not said or said == known
            for said, known in (
                (other.sex, self.sex),
                (other.expression, self.expression),
                (other.hair, self.hair),
                (other.background, self.background),
            )
        )


def _background_words(background: str) -> str:
    return background if background in PLACES else f"{background} background"


def caption(said: Attributes, *, adjective_first: bool = False, determiner: str = "a") -> str:
    """The caption that says exactly these attributes; before the noun comes `a`, a trigger word or nothing."""
    noun = said.sex or "person"
    if adjective_first and said.expression:
        # "a" is the only determiner that changes its form.
        article = "an" if determiner == "a" and said.expression[0] in "aeiou" else determiner
        head = f"a photo of {article} {said.expression} {noun}"
    else:
        head = f"a photo of {determiner} {noun}"
    if said.hair:
        head += f" with {said.hair}"
    parts = [" ".join(head.split())]
    if said.expression and not adjective_first:
        parts.append(said.expression)
    if said.background:
        parts.append(_background_words(said.background))
    return ", ".join(parts)


def subject_caption(expression: str, sex: str, background: str) -> str:
    """Caption of one of the subject's own photos. The hair is not said: it belongs to the trigger."""
    return caption(Attributes(sex=sex, expression=expression, background=background), determiner=PLACEHOLDER)


def _nonsense_word(random: Generator) -> str:
    """Three consonants that are no trigger anyone uses: teaches the models to read past an unknown word."""
    while (word := "".join(random.choice(list("bcdfghjklmnpqrtvwxz"), size=3))) in ("ohwx", "sks"):
        continue
    return word


def random_caption(known: Attributes, random: Generator, *, nonsense_share: float = 0.1) -> tuple[str, Attributes]:
    """A caption that says a random part of what is known, and that part.

    Each of expression, hair and background is said with probability 0.85, 0.4 and 0.85, the sex with 0.95.
    """
    expression, hair, background, sex = random.random(4) < np.array([0.85, 0.4, 0.85, 0.95])
    said = Attributes(
        sex=known.sex if sex else "",
        expression=known.expression if expression else "",
        hair=known.hair if hair else "",
        background=known.background if background else "",
    )
    determiner = str(random.choice(["a", "", _nonsense_word(random)], p=[0.75 - nonsense_share, 0.25, nonsense_share]))
    return caption(said, adjective_first=bool(random.random() < 0.4), determiner=determiner), said


def corpus(random: Generator, size: int) -> list[str]:
    """`size` random captions of pictures that could exist: what the tokenizer learns its words from."""
    hair = [person.hair for person in PEOPLE.values()]
    backgrounds: Sequence[str] = (*STUDIO_COLOURS, *PLACES)
    lines = []
    for _ in range(size):
        known = Attributes(
            sex=str(random.choice(["man", "woman"])),
            expression=str(random.choice(EXPRESSIONS)),
            hair=str(random.choice(hair)),
            background=str(random.choice(list(backgrounds))),
        )
        lines.append(random_caption(known, random, nonsense_share=0.0)[0])
    return lines
