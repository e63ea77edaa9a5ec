"""Who is in the pictures: ten fictional people of the `openpeople` package, described by hand.

The package's own hair descriptions do not always fit its pictures, so the words here were written by looking at them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Person:
    """One fictional person: what a caption may say about every picture of them."""

    identifier: str
    """Folder of the person in the package, `P001` ... `P010`."""
    sex: str
    """`man` or `woman`."""
    hair: str
    """Hair (and beard), as it follows the word `with` in a caption."""
    selfie_place: str
    """Background of the selfie: `indoors` or `outdoors`."""


SUBJECT = "P008"
"""The person whom the demo's adapters learn; no model of the kit has seen this face."""

SPARE = "P003"
"""A second person kept out of every training set, for checks that need another unseen face."""

_BLACK_TIED = "black hair tied back"

PEOPLE: Mapping[str, Person] = MappingProxyType(
    {
        person.identifier: person
        for person in (
            Person(identifier="P001", sex="woman", hair="short curly black hair", selfie_place="indoors"),
            Person(identifier="P002", sex="woman", hair="curly black hair", selfie_place="indoors"),
            Person(identifier="P003", sex="woman", hair="long brown hair", selfie_place="indoors"),
            Person(identifier="P004", sex="woman", hair="long curly black hair", selfie_place="outdoors"),
            Person(identifier="P005", sex="man", hair=f"{_BLACK_TIED} and a beard", selfie_place="outdoors"),
            Person(identifier="P006", sex="woman", hair=_BLACK_TIED, selfie_place="outdoors"),
            Person(identifier="P007", sex="man", hair="curly black hair", selfie_place="indoors"),
            Person(identifier="P008", sex="man", hair="long light brown hair", selfie_place="indoors"),
            Person(identifier="P009", sex="woman", hair="long straight black hair", selfie_place="indoors"),
            Person(identifier="P010", sex="woman", hair=_BLACK_TIED, selfie_place="outdoors"),
        )
    }
)

TRAINING_PEOPLE: tuple[str, ...] = tuple(name for name in PEOPLE if name not in (SUBJECT, SPARE))
"""The eight people from whom the models of the kit learn."""

SHEET_LABELS: tuple[str, ...] = (
    *("neutral", "happy", "sad", "angry"),
    *("surprised", "disgusted", "scared", "confused"),
    *("smug", "flirty", "thoughtful", "pensive"),
    *("exhausted", "shocked", "playful", "determined"),
)
"""Labels of the 4x4 expression sheet, row by row."""

_LOOK_ALIKES = {
    "determined": "neutral",
    "shocked": "surprised",
    "flirty": "smug",
    "pensive": "tired",
    "exhausted": "tired",
}

EXPRESSION_OF_LABEL: Mapping[str, str] = MappingProxyType(
    {label: _LOOK_ALIKES.get(label, label) for label in SHEET_LABELS}
)
"""Caption word of a sheet label. Labels that look alike share one word, so that the words can be told apart."""

RELABELLED: Mapping[tuple[str, str], str] = MappingProxyType(
    {("P005", "playful"): "happy", ("P007", "playful"): "happy", ("P007", "thoughtful"): "neutral"}
)
"""(person, sheet label) whose picture plainly shows another expression than its label says."""

EXPRESSIONS: tuple[str, ...] = tuple(sorted(set(EXPRESSION_OF_LABEL.values())))
"""Every expression word a caption may hold."""
