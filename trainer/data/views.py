"""The forms in which each photo is encoded: mirrored, its tags in another order, without caption. Imports no torch."""

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from trainer.config import TrainingConfig

TAG_ORDERS = 4
"""Orders of a caption's tags, the written one included, when they are shuffled.

Text embeddings are computed once, so there are a few fixed orders rather than a fresh one each step. A caption of which
there are fewer orders shows some of them more often.
"""


@dataclass(frozen=True, kw_only=True)
class Views:
    """Which forms of each photo a data cache holds; a form of a photo is a row of its own, of a picture and a caption.

    The forms come one after the other, each with all photos, first the photos as they are. A mirrored photo is encoded
    from the mirrored picture: the autoencoder's answer to it is not its mirrored answer.
    """

    mirrored: bool = False
    """Each photo also as its mirror image."""
    tag_orders: int = 1
    """Orders of the tags of each caption, at least 1: the written one."""
    empty_caption: bool = False
    """Each photo also with the empty caption."""

    @classmethod
    def needed_by(cls, configs: Iterable[TrainingConfig]) -> "Views":
        """What some of the jobs show now and then."""
        configs = list(configs)
        return cls(
            mirrored=any(config.horizontal_flip > 0 for config in configs),
            tag_orders=TAG_ORDERS if any(config.caption_shuffle > 0 for config in configs) else 1,
            empty_caption=any(config.caption_dropout > 0 for config in configs),
        )

    @property
    def captions(self) -> int:
        """Captions of each photo."""
        return self.tag_orders + self.empty_caption

    def forms(self) -> list[tuple[bool, int]]:
        """(mirrored, number of the caption) of each form, in the order of the rows."""
        sides = (False, True) if self.mirrored else (False,)
        return [(side, number) for side in sides for number in range(self.captions)]

    def caption(self, written: str, number: int) -> str:
        """A photo's caption of this number: its tags in another order, the last one empty if there is an empty one."""
        return "" if number == self.tag_orders else reorder_tags(written, number)

    def check(self, config: TrainingConfig) -> None:
        """Raises ValueError if `config` shows a form that is not there."""
        needed = Views.needed_by([config])
        missing = [
            setting
            for setting, absent in (
                ("horizontal_flip", needed.mirrored and not self.mirrored),
                ("caption_shuffle", needed.tag_orders > self.tag_orders),
                ("caption_dropout", needed.empty_caption and not self.empty_caption),
            )
            if absent
        ]
        if missing:
            raise ValueError(
                f"{', '.join(missing)} is above 0, but the photos were encoded without what it shows; "
                "build the data cache with Views.needed_by of this configuration"
            )


def reorder_tags(caption: str, number: int) -> str:
    """The tags of a caption, its parts between commas, in the `number`-th of its orders; 0 is the written one.

    The first tag keeps its place, for it names the person. 1 and up are orders that differ from the written one and
    from each other, as many as there are; then they begin again. A caption with one order only stays as it is.
    """
    if number == 0:
        return caption
    first, *others = [tag.strip() for tag in caption.split(",")]
    orders = _other_orders(tuple(others), seed=caption)
    return ", ".join([first, *orders[(number - 1) % len(orders)]]) if orders else caption


def _other_orders(tags: tuple[str, ...], seed: str) -> tuple[tuple[str, ...], ...]:
    """Distinct orders of the tags without the given one, TAG_ORDERS - 1 or as many as there are, drawn from a seed."""
    count = math.factorial(len(tags)) // math.prod(math.factorial(times) for times in Counter(tags).values())
    draw = random.Random(seed)
    found: dict[tuple[str, ...], None] = {}
    while len(found) < min(TAG_ORDERS, count) - 1:
        order = tuple(draw.sample(tags, len(tags)))
        if order != tags:
            found[order] = None
    return tuple(found)
