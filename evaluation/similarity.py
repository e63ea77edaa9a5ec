"""Images of other people that resemble the person. Pure."""

from collections.abc import Sequence

from evaluation.scores import Anchors, ImageRow


def leakage(rows: Sequence[ImageRow], anchors: Anchors) -> float | None:
    """How much nearer to the person images of OTHERS come than under the base model, in units of likeness.

    (base - d) / (base - real) as for likeness, but with the base model's distance on the same prompts of others: 0 for
    a model that leaves others alone, 1 for one whose others come as much nearer as it takes from the untuned model to
    the person's own photos. Images without a face say nothing about it.

    Args:
        rows: of images of other people, without the trigger.
        anchors: with `other_distance` on the same prompts and seeds.

    Returns:
        None when there is nothing to compare: no such images, none with a face, or none under the base model.
    """
    found = [row.face_distance for row in rows if row.face_distance is not None]
    if not found or anchors.other_distance is None:
        return None
    nearer = anchors.other_distance - sum(found) / len(found)
    return nearer / (anchors.base_distance - anchors.real_distance)
