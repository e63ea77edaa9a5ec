"""Whether other people turn into the person when the trigger is not in the prompt. Pure."""

from collections.abc import Sequence

import numpy as np

from evaluation.scores import ImageRow


def leakage(base: Sequence[ImageRow], candidate: Sequence[ImageRow]) -> float | None:
    """How much nearer to the person images of OTHERS come under the candidate than under the base model, [-2, 2].

    Mean of (base distance - candidate distance) to the person's reference photos over the same prompts and seeds, 0
    for a model that leaves others alone. Images that lack a face on either side say nothing about it; None when
    no pair is left.

    Args:
        base: rows of the untuned model on prompts of other people, without the trigger.
        candidate: rows of the candidate on the same prompts and seeds.

    Raises:
        ValueError: the prompts and seeds differ.
    """
    if [(row.prompt_index, row.seed) for row in base] != [(row.prompt_index, row.seed) for row in candidate]:
        raise ValueError(
            "leakage compares images of the same prompts and seeds; evaluate both models with one prompt set"
        )
    nearer = [
        before.face_distance - after.face_distance
        for before, after in zip(base, candidate, strict=True)
        if before.face_distance is not None and after.face_distance is not None
    ]
    return float(np.mean(nearer)) if nearer else None
