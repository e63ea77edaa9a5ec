"""What is known of a search before Ray starts: whether its models, texts and faces can be used.

Reads names, headers and tokenizers of the models, no weights but those of the face models.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from evaluation.clip_files import inspect_clip
from evaluation.config import as_read_by_clip, with_trigger
from search.config.search_config import ConfigurationError, SearchConfig
from search.photos.split import load_face_model
from search.storage.run_folder import check_free
from search.workers.ray_session import check_ray
from search.workers.setup import RunnerSetup
from trainer.data.photos import CaptionedPhoto, open_photo
from trainer.models.inspection import TextReader, inspect_base_model

FIRST_SIDE = 128
"""Side in pixels at which a face is looked for first; where there is none, it is looked for at the full one."""

SHOWN = 5
"""How many texts a message quotes."""


class Preflight:
    """The checks of a search, and what it is made of.

    Attributes:
        setup: Photos, prompts and judges.
        inputs: Checksums of what was read.
        warnings: What a user should know, a line each.
    """

    def __init__(self, config: SearchConfig, *, address: str | None, resumed: bool, seconds: float | None) -> None:
        """Check everything.

        Args:
            config: The search.
            address: A running Ray cluster; None: this machine.
            resumed: Whether a run goes on: its folder is there, and its faces were looked at.
            seconds: How long faces may be looked for, beside the first photo's; None: in all photos.

        Raises:
            ValueError: something cannot be used; the message names it and the remedy.
        """
        check_ray(address)
        if not resumed:
            check_free(config)
        self.setup, self.inputs = RunnerSetup.prepare(config)
        reader = inspect_base_model(config.model)
        clip = inspect_clip(config.evaluation.clip)
        check_lengths(config, self.setup, reader)
        self.warnings = self.setup.warnings(config)
        if clip is not None:
            self.warnings += cut_by_clip(self.setup, clip)
        if not resumed:
            self.warnings += check_faces(self.setup, seconds)


def check_lengths(config: SearchConfig, setup: RunnerSetup, reader: TextReader) -> None:
    """Refuses texts whose ends the base model's text encoder would not read.

    Raises:
        ConfigurationError: names all of them, and how many tokens they have.
    """
    too_long = [
        f"{place} has {count} ({_short(text)!r})"
        for place, text in _texts(config, setup)
        if (count := reader.tokens(text)) > reader.length
    ]
    if too_long:
        raise ConfigurationError(
            f"the base model's text encoder reads {reader.length} tokens, start and end included, and would not see "
            "the ends of longer texts; shorten them:\n" + "\n".join(f"  - {line}" for line in too_long)
        )


def cut_by_clip(setup: RunnerSetup, folder: Path) -> list[str]:
    """A warning of prompts whose ends the CLIP score does not see.

    Raises:
        ValueError: CLIP's tokenizer cannot be read.
    """
    from transformers import CLIPTokenizer  # takes a second to import

    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    except Exception as error:  # whatever the formats' readers throw
        raise ValueError(f"the CLIP model {setup.clip!r} has no readable tokenizer ({error}); put it back") from error
    texts = [
        as_read_by_clip(prompt, setup.class_word) for each in setup.prompt_sets.values() for prompt in each.prompts
    ]
    most = tokenizer.model_max_length
    longer = [text for text in texts if len(tokenizer(text, verbose=False).input_ids) > most]
    if not longer:
        return []
    shown = ", ".join(repr(_short(text)) for text in longer[:SHOWN])
    return [f"prompts: CLIP reads {most} tokens; the ends of {len(longer)} prompt(s) do not count: {shown}"]


def check_faces(setup: RunnerSetup, seconds: float | None) -> list[str]:
    """Refuses face models that cannot be used, and photos without a face that candidates would be compared with.

    Args:
        setup: Of the search.
        seconds: How long to look, at least at one photo; None: at all of them.

    Returns:
        Warnings: of photos without a face that are only trained on, and of those that were not looked at.

    Raises:
        ValueError: names all photos without a face, those to train on, too: which are compared with is dealt anew when
            one is removed.
    """
    if setup.second_judge is not None:
        load_face_model(setup.second_judge)
    model, split = load_face_model(setup.faces), setup.split
    began = time.monotonic()
    without, skipped = set[str](), 0
    photos = (*split.reference, *split.training)
    for number, photo in enumerate(photos):
        if seconds is not None and number and time.monotonic() - began > seconds:
            skipped = len(photos) - number
            break
        if not any(model.shows_face(picture) for picture in _sizes(photo, setup)):
            without.add(photo.path.name)
    reference = [photo.path.name for photo in split.reference if photo.path.name in without]
    training = [photo.path.name for photo in split.training if photo.path.name in without]
    if reference:
        also = f"; nor in the photos to train on {', '.join(training)}" if training else ""
        raise ConfigurationError(
            f"photos: no face was found in the photos to compare with, {', '.join(reference)}{also}; remove or replace "
            f"them, or choose another evaluation.faces.detector than {setup.faces.detector}"
        )
    warnings = []
    if training:
        warnings.append(f"photos: no face was found in {', '.join(training)}; they are trained on all the same")
    if skipped:
        warnings.append(f"photos: faces were looked for in {len(photos) - skipped} of {len(photos)} photos so far")
    return warnings


def _sizes(photo: CaptionedPhoto, setup: RunnerSetup) -> Iterator[Image.Image]:
    """The photo as candidates are compared with it, small first: most faces are found there, much faster."""
    side = setup.generation.resolution
    if side > FIRST_SIDE:
        yield open_photo(photo, FIRST_SIDE)
    yield open_photo(photo, side)


def _texts(config: SearchConfig, setup: RunnerSetup) -> Iterator[tuple[str, str]]:
    """Every text that the base model reads, and where it stands."""
    photos: Sequence[CaptionedPhoto] = (*setup.split.training, *setup.split.reference)
    for photo in sorted(photos, key=lambda photo: photo.path.name):
        yield f"the caption of {photo.path.name}", photo.caption
    for photo in setup.class_photos:
        yield f"the caption of the class image {photo.path.name}", photo.caption
    if setup.prior is not None and setup.prior.folder is None:
        yield "photos.prior.prompt", setup.prior.caption
    files = {"validation": config.evaluation.prompts, "final": config.final.prompts}
    for name, prompts in setup.prompt_sets.items():
        for prompt in prompts.prompts:
            yield f"a prompt of {files[name].name}", with_trigger(prompt, setup.trigger)
    others = config.evaluation.others.prompts
    for prompt in {prompt: None for each in setup.other_sets.values() for prompt in each.prompts}:
        if others is not None:
            yield f"a prompt of {others.name}", prompt
    yield "evaluation.generation.negative_prompt", setup.generation.negative_prompt


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
