"""The training set: pictures of the eight training people and of morphs between them, small and varied.

`images.npy` is uint8 [pictures, 64, 64, 3] RGB; `attributes.json` lists what is true of each.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from demo.kit.backgrounds import COLOURS, Mask, background_mask, replace_background
from demo.kit.captions import Attributes
from demo.kit.crops import FaceCrop, Pixels, Points, face_crops, scene_pictures
from demo.kit.hair import tint_hair
from demo.kit.morphs import morph
from demo.kit.people import SHEET_LABELS, TRAINING_PEOPLE

PIXELS = 64
"""Side of a training picture."""

SHARE_OF_MEN = 0.5
"""Only two of the eight people are men, but the subject is one: their pictures are drawn more often."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """One picture before it is varied."""

    attributes: Attributes
    pixels: Pixels
    """RGB [256, 256, 3]."""
    landmarks: Points
    """[68, 2] in the picture's pixels."""
    background: Mask
    """1 = gray studio background, [256, 256]; all 0 outside the studio."""


def attributes_of(crop: FaceCrop) -> Attributes:
    """What is true of a picture as it comes from the package."""
    person = crop.person
    return Attributes(sex=person.sex, expression=crop.expression, hair=person.hair, background=crop.background)


def as_source(crop: FaceCrop) -> Source:
    """A crop of the package, unchanged."""
    mask = background_mask(crop.pixels) if crop.background == "gray" else np.zeros(crop.pixels.shape[:2], np.float32)
    return Source(attributes=attributes_of(crop), pixels=crop.pixels, landmarks=crop.landmarks, background=mask)


def _morph_weights(head: FaceCrop, donor: FaceCrop) -> Sequence[float]:
    """How far a donor's face is moved onto a head: far between people of one sex, or to make a woman's head a man's."""
    if head.person.sex == donor.person.sex:
        return (0.45, 0.85)
    return (0.35, 0.55) if head.person.sex == "man" else (0.85,)


def _morph(head: FaceCrop, donor: FaceCrop, weight: float) -> Source:
    pixels, landmarks = morph(head.pixels, head.landmarks, donor.pixels, donor.landmarks, weight)
    known = attributes_of(head)
    if donor.person.sex != head.person.sex and weight > 0.7:
        known = replace(known, sex=donor.person.sex)
        if "beard" in donor.person.hair:
            known = replace(known, hair=f"{head.person.hair} and a beard")
    return Source(attributes=known, pixels=pixels, landmarks=landmarks, background=background_mask(pixels))


def make_sources(people: Sequence[str] = TRAINING_PEOPLE) -> list[Source]:
    """Every picture of the people, and morphs between every two people who show the same expression on the sheet."""
    crops = {name: {crop.name: crop for crop in face_crops(name)} for name in people}
    sources = [as_source(crop) for of_person in crops.values() for crop in of_person.values()]
    for head_name in people:
        for donor_name in people:
            if head_name == donor_name:
                continue
            for label in (*SHEET_LABELS, "portrait"):
                head, donor = crops[head_name][label], crops[donor_name][label]
                if head.expression == donor.expression:
                    sources += [_morph(head, donor, weight) for weight in _morph_weights(head, donor)]
    return sources


def _vary_colour(pixels: Pixels, random: Generator) -> Pixels:
    """Brightness, contrast, saturation and warmth, a little."""
    values = pixels.astype(np.float32)
    gray = values.mean(axis=2, keepdims=True)
    values = gray + (values - gray) * random.uniform(0.8, 1.2)
    values = (values - 118) * random.uniform(0.88, 1.12) + 118 * random.uniform(0.88, 1.12)
    values *= 1 + random.uniform(-0.05, 0.05) * np.array([1.0, 0.0, -1.0], dtype=np.float32)
    return np.asarray(np.clip(values + 0.5, 0, 255), dtype=np.uint8)


def _vary_geometry(pixels: Pixels, random: Generator) -> Pixels:
    """Mirrored in half of the cases; turned by up to 6 degrees, enlarged by up to 12 %, shifted by up to 3 %."""
    size = pixels.shape[0]
    if random.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    half = (size - 1) / 2
    matrix = cv2.getRotationMatrix2D((half, half), random.uniform(-6, 6), random.uniform(1.0, 1.12))
    matrix[:, 2] += random.uniform(-0.03, 0.03, size=2) * size
    moved = cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


def vary(source: Source, random: Generator) -> tuple[NDArray[np.uint8], Attributes]:
    """One training picture [64, 64, 3] made from a source, and what is true of it."""
    known, pixels = source.attributes, source.pixels
    if "beard" not in known.hair and "black" in known.hair and random.random() < 0.3:
        pixels = tint_hair(pixels, source.landmarks, source.background, random.uniform(0.6, 1.2))
        known = replace(known, hair=known.hair.replace("black", "brown"))
    pixels = _vary_colour(pixels, random)
    if known.background == "gray" and random.random() > 0.16:
        colour = str(random.choice(list(COLOURS)))
        pixels = replace_background(pixels, source.background, colour, random)
        known = replace(known, background=colour)
    pixels = _vary_geometry(pixels, random)
    return np.asarray(cv2.resize(pixels, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA), dtype=np.uint8), known


def build_dataset(folder: Path, *, pictures: int, seed: int) -> None:
    """Writes `images.npy` and `attributes.json` of the training set."""
    random = np.random.default_rng(seed)
    sources = make_sources()
    men = np.array([source.attributes.sex == "man" for source in sources])
    # Original pictures count four times: they are the only ones without a morph's traces.
    originals = sum(1 for _ in TRAINING_PEOPLE) * 21
    weight = np.where(np.arange(len(sources)) < originals, 4.0, 1.0)
    weight[men] *= SHARE_OF_MEN / weight[men].sum()
    weight[~men] *= (1 - SHARE_OF_MEN) / weight[~men].sum()
    chosen = random.choice(len(sources), size=pictures, p=weight)
    varied = [vary(sources[index], random) for index in chosen]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", np.stack([image for image, _ in varied]))
    (folder / "attributes.json").write_text(json.dumps([asdict(known) for _, known in varied]) + "\n")


def build_sharp_crops(folder: Path, *, pictures: int, seed: int) -> None:
    """Writes `sharp.npy`: the training people's own pictures, scaled down only once, for the autoencoder.

    Morphing and turning soften a picture, and an autoencoder that has seen soft faces only blurs sharp ones (measured:
    1.2 dB less than on its training set for photos of the very people that it was trained on).
    """
    random = np.random.default_rng(seed)
    sources = [as_source(crop) for person in TRAINING_PEOPLE for crop in face_crops(person)]
    sharp = []
    for index in random.integers(len(sources), size=pictures):
        source = sources[int(index)]
        pixels = source.pixels
        if "beard" not in source.attributes.hair and random.random() < 0.4:
            pixels = tint_hair(pixels, source.landmarks, source.background, random.uniform(0.5, 1.3))
        if source.attributes.background == "gray" and random.random() < 0.4:
            pixels = replace_background(pixels, source.background, str(random.choice(list(COLOURS))), random)
        size = pixels.shape[0]
        side = size / random.uniform(1.0, 1.12)
        left, top = random.uniform(0, size - side, size=2)
        small = Image.fromarray(pixels).resize(
            (PIXELS, PIXELS), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side)
        )
        sharp.append(np.asarray(small))
    np.save(folder / "sharp.npy", np.stack(sharp))


def build_scenes(folder: Path, *, pictures: int, seed: int) -> None:
    """Writes `scenes.npy`: squares of any size and place out of the training people's photos, for the autoencoder.

    Hair from behind, hands, cloth, rooms, trees: an autoencoder that has seen faces only keeps an unseen person's
    hair badly (measured: 28.0 dB on the subject against 31.3 dB on the training set).
    """
    random = np.random.default_rng(seed)
    photos = [photo for person in TRAINING_PEOPLE for photo in scene_pictures(person)]
    scenes: list[NDArray[np.uint8]] = []
    while len(scenes) < pictures:
        photo = photos[int(random.integers(len(photos)))]
        height, width = photo.shape[:2]
        side = int(np.exp(random.uniform(np.log(PIXELS), np.log(min(height, width)))))
        left, top = int(random.integers(width - side + 1)), int(random.integers(height - side + 1))
        square = cv2.resize(photo[top : top + side, left : left + side], (PIXELS, PIXELS), interpolation=cv2.INTER_AREA)
        # A plain wall teaches nothing.
        if square.std(axis=(0, 1)).mean() > 18:
            scenes.append(np.asarray(square, dtype=np.uint8))
    np.save(folder / "scenes.npy", np.stack(scenes))


def load_pictures(file: Path) -> NDArray[np.uint8]:
    """Pictures without attributes [n, 64, 64, 3], as `build_scenes` and `build_sharp_crops` wrote them."""
    pictures: NDArray[np.uint8] = np.load(file, allow_pickle=False)
    return pictures


def load_dataset(folder: Path) -> tuple[NDArray[np.uint8], list[Attributes]]:
    """The pictures [n, 64, 64, 3] and their attributes, as `build_dataset` wrote them."""
    images = np.load(folder / "images.npy", allow_pickle=False)
    return images, [Attributes(**known) for known in json.loads((folder / "attributes.json").read_text())]
