"""Which pair of images is voted on next: the one whose vote says most. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from search.voting.preference import fit_strengths
from search.voting.votes import CheckpointName, ImagePair, Vote

Image = tuple[int, int]
"""(prompt index, seed): the same image of two candidates."""


def next_pair(
    candidates: Sequence[CheckpointName], images: Sequence[Image], votes: Sequence[Vote], *, seed: int
) -> ImagePair:
    """Choose by these rules, each deciding what those above leave open:

    1. Two images that were compared least often: no pair comes twice before all have come once.
    2. The candidate with the fewest votes ...
    3. ... against the one that it met least often,
    4. and of those the nearest in strength (Bradley-Terry, by the votes so far): the outcome is open.
    5. The prompt and seed that were shown least often.

    What is open still, and the side that each is shown on, falls to a generator. The same seed and votes give the
    same pair, so a page that is loaded again shows it again, and so does a withdrawn vote.

    Args:
        candidates: At least two.
        images: At least one.
        votes: Those that stand. Votes on others than the candidates are no help here and skipped.
        seed: At least 0.
    """
    generator = np.random.default_rng([seed, len(votes)])
    number = {name: index for index, name in enumerate(candidates)}
    counted = [vote for vote in votes if vote.pair.left in number and vote.pair.right in number]
    shown = Counter(vote.pair.key for vote in counted)
    met = Counter(vote.pair.key[:2] for vote in counted)
    prompts = Counter((vote.pair.prompt_index, vote.pair.seed) for vote in counted)
    voted = Counter(name for vote in counted for name in (vote.pair.left, vote.pair.right))
    strengths = fit_strengths(
        [(number[vote.pair.left], number[vote.pair.right]) for vote in counted],
        [vote.outcome for vote in counted],
        len(candidates),
    ).values
    # Drawn anew for every pair: the lot that decides between equals.
    lots = dict(zip(candidates, generator.permutation(len(candidates)).tolist(), strict=True))

    pairs = list(combinations(sorted(candidates), 2))
    least = min(shown[(*pair, *image)] for pair in pairs for image in images)
    unseen_images = {pair: [image for image in images if shown[(*pair, *image)] == least] for pair in pairs}
    opponents: dict[CheckpointName, list[CheckpointName]] = {name: [] for name in candidates}
    for (first, second), unseen in unseen_images.items():
        if unseen:
            opponents[first].append(second)
            opponents[second].append(first)

    one = min((name for name in candidates if opponents[name]), key=lambda name: (voted[name], lots[name]))

    def informative(other: CheckpointName) -> tuple[int, float, int]:
        gap = abs(strengths[number[one]] - strengths[number[other]])
        return met[_ordered(one, other)], float(gap), lots[other]

    other = min(opponents[one], key=informative)
    choices = unseen_images[_ordered(one, other)]
    order = generator.permutation(len(choices)).tolist()
    prompt_index, image_seed = choices[min(range(len(choices)), key=lambda at: (prompts[choices[at]], order[at]))]
    left, right = (one, other) if generator.random() < 0.5 else (other, one)
    return ImagePair(left=left, right=right, prompt_index=prompt_index, seed=image_seed)


def _ordered(one: CheckpointName, other: CheckpointName) -> tuple[CheckpointName, CheckpointName]:
    first, second = sorted((one, other))
    return first, second
