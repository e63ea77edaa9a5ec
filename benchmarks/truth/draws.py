"""What one repeat sees: which prompts, seeds and photos steer its search, confirm its winner, and tell the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator

from benchmarks.truth.records import Slice

VALIDATION_SHARE = 2 / 5
"""Of the prompts: 12 of 30."""
FINAL_SHARE = 4 / 15
"""Of the prompts: 8 of 30. The rest is for the truth."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """Three slices that share no prompt and no seed; search and final share their reference photos."""

    validation: Slice
    final: Slice
    truth: Slice
    """Has photos that neither of the others has."""


def draw_slices(shape: tuple[int, int, int], random: Generator) -> Draw:
    """Deal prompts, seeds and photos at random.

    Args:
        shape: Numbers of prompts, seeds and held-out photos: at least 3, 3 and 4.
        random: Source of the randomness.
    """
    prompts, seeds, photos = (random.permutation(size) for size in shape)
    first = round(VALIDATION_SHARE * len(prompts))
    second = first + round(FINAL_SHARE * len(prompts))
    third = len(seeds) // 3
    half = len(photos) // 2
    return Draw(
        validation=Slice(prompts=prompts[:first], seeds=seeds[:third], photos=photos[:half]),
        final=Slice(prompts=prompts[first:second], seeds=seeds[third : 2 * third], photos=photos[:half]),
        truth=Slice(prompts=prompts[second:], seeds=seeds[2 * third :], photos=photos[half:]),
    )


def draw_configurations(repeated: Sequence[int], single: Sequence[int], count: int, random: Generator) -> list[int]:
    """Numbers of the configurations that a repeat's search tries: the default, 0, and a random choice of others.

    Only those that were trained several times can enter the final, so nearly half of the places are theirs: among 12
    configurations five, from which the search sends its best three into the final.

    Args:
        repeated: Configurations with several trainings, beside the default.
        single: Those with one.
        count: How many in all, or as many as there are.
        random: Source of the randomness.
    """
    finalists, others = random.permutation(repeated), random.permutation(single)
    places = (count - 1) // 2
    order = [*finalists[:places], *others, *finalists[places:]]
    return [0, *sorted(int(number) for number in order[: count - 1])]
