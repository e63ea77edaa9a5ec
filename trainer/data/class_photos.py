"""Class images that the user supplies: a folder as of photos, of anybody but the person. Imports no torch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from trainer.data.captions import names_person
from trainer.data.photos import CaptionedPhoto, PhotoFolderError, PhotoProblem, survey_photos
from trainer.data.picture import MAXIMUM_PIXELS
from trainer.data.prior_config import PriorConfig

OWN_KEYS: Mapping[str, str] = {"folder": "photos.prior.folder", "caption_template": "photos.prior.prompt"}
"""What stands for a key of photos in advice on class images."""


def load_class_photos(
    prior: PriorConfig | None,
    person: Sequence[CaptionedPhoto],
    *,
    trigger: str,
    maximum_pixels: int = MAXIMUM_PIXELS,
) -> tuple[CaptionedPhoto, ...]:
    """The class images of the folder that `prior` names, read as `trainer.data.photos.survey_photos` does; else none.

    Args:
        prior: the class images, if any.
        person: the person's photos, none of which may be among them.
        trigger: the word that stands for the person.
        maximum_pixels: most width x height of an image; looked at before it is decoded.

    Raises:
        PhotoFolderError: anything is wrong with any file; lists all of it.
    """
    if prior is None or prior.folder is None:
        return ()
    # The trigger is filled in first, so that one check finds every caption that names the person.
    found, problems = survey_photos(
        prior.folder, trigger, maximum_pixels=maximum_pixels, caption_template=prior.caption
    )
    refused = [
        replace(problem, remedy=re.sub(r"photos\.(\w+)", lambda key: OWN_KEYS.get(key[1], key[0]), problem.remedy))
        for problem in problems
    ]
    own = {photo.sha256: photo.path.name for photo in person}
    for photo in found:
        reason = ""
        if photo.sha256 in own:
            reason = f"is the person's own photo {own[photo.sha256]}"
        elif names_person(photo.caption, trigger):
            reason = f"has the trigger {trigger!r} in its caption"
        if reason:
            remedy = "class images show others: remove it"
            refused.append(PhotoProblem(file=photo.path.name, reason=reason, remedy=remedy))
    if refused:
        raise PhotoFolderError(prior.folder, refused)
    return found
