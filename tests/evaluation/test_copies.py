"""Copies: re-framed training photos are, fresh photos are not, and re-saved training photos change nothing."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageOps

from benchmarks.copies.album import Album, album
from benchmarks.copies.reframing import COPIES, recompress, reframe
from evaluation.copies import SURELY_A_COPY, SURELY_NO_COPY, CopyDetector, CopyJudge, copy_distance
from evaluation.judges import Pictures, judged


@pytest.fixture(scope="module", params=[14, 35, 70])
def dealt(request: pytest.FixtureRequest) -> Album:
    training: int = request.param
    return album(training, np.random.default_rng(training), fresh=24)


@pytest.fixture(scope="module")
def detector(dealt: Album) -> CopyDetector:
    return CopyDetector(dealt.training, dealt.reference)


def distance(photo: Image.Image, image: Image.Image) -> float:
    return CopyDetector([photo], []).nearest([image])[0].distance


def noise(seed: int, side: int = 64) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def test_fresh_photos_are_no_copies(dealt: Album, detector: CopyDetector) -> None:
    copies = [photo.distance < detector.copy_distance for photo in detector.nearest(dealt.fresh)]
    assert np.mean(copies) <= 0.05


def test_re_framed_training_photos_are_copies(dealt: Album, detector: CopyDetector) -> None:
    random = np.random.default_rng(0)
    chosen = random.permutation(len(dealt.training))[:12]
    for name, copied in COPIES.items():
        nearest = detector.nearest([copied(dealt.training[index], random) for index in chosen])
        assert np.mean([photo.distance < detector.copy_distance for photo in nearest]) >= 0.95, name
        assert np.mean([photo.index == index for photo, index in zip(nearest, chosen, strict=True)]) >= 0.9, name


def test_re_saved_training_photos_change_nothing(dealt: Album, detector: CopyDetector) -> None:
    again = [recompress(reframe(photo, 1.02, 0.01, 0.0), 80) for photo in dealt.training[::4]]
    more = CopyDetector([*dealt.training, *again], dealt.reference)
    assert more.copy_distance == pytest.approx(detector.copy_distance, rel=1e-6)
    first = CopyDetector([*again, *dealt.training], dealt.reference)
    assert first.copy_distance == pytest.approx(detector.copy_distance, rel=0.05), "the re-saved one stands for both"
    images = [*dealt.fresh, *dealt.training[:6]]
    for other in (more, first):
        verdicts = [photo.distance < other.copy_distance for photo in other.nearest(images)]
        assert verdicts == [photo.distance < detector.copy_distance for photo in detector.nearest(images)]


def test_few_reference_photos_are_enough() -> None:
    dealt = album(14, np.random.default_rng(3), fresh=12)
    for references in (0, 2, 3):
        few = CopyDetector(dealt.training[:5], dealt.reference[:references])
        assert not any(photo.distance < few.copy_distance for photo in few.nearest(dealt.fresh))
        moved = [reframe(photo, 1.08, 0.03, -0.02) for photo in dealt.training[:5]]
        assert all(photo.distance < few.copy_distance for photo in few.nearest(moved))


def test_the_threshold_is_a_little_below_the_nearest_of_the_nearest_within_bounds() -> None:
    assert copy_distance([0.5, 0.11, 0.3]) == pytest.approx(0.8 * 0.11)
    assert copy_distance([0.5, 0.09, 0.3]) == SURELY_A_COPY
    assert copy_distance([0.5, 0.6]) == SURELY_NO_COPY
    assert copy_distance([]) == SURELY_A_COPY
    # Of 41, two may be nearer: the third counts.
    assert copy_distance([0.01, 0.02, 0.12, *np.linspace(0.2, 0.9, 38)]) == pytest.approx(0.8 * 0.12)


def test_a_reference_photo_that_is_also_trained_on_does_not_count() -> None:
    photos = [noise(seed) for seed in range(4)]
    assert CopyDetector(photos, [recompress(photos[0], 80)]).copy_distance == CopyDetector(photos, []).copy_distance
    assert CopyDetector(photos[:1], [recompress(photos[0], 80)]).copy_distance == SURELY_A_COPY


def test_light_contrast_size_and_mirroring_make_no_other_picture() -> None:
    picture = noise(0)
    assert distance(picture, picture) == pytest.approx(0.0, abs=2e-3)
    darker = Image.fromarray((np.asarray(picture) * 0.5 + 20).astype(np.uint8))
    assert distance(picture, darker) < 0.02
    assert distance(picture, ImageOps.mirror(picture)) == pytest.approx(0.0, abs=2e-3)
    assert distance(picture, noise(0, 512)) < 0.03


def test_the_further_a_picture_is_moved_the_further_it_is() -> None:
    """Within the range that is searched it is the same picture; beyond, less and less of it."""
    picture = noise(0)
    apart = [distance(picture, reframe(picture, 1.0, shift, 0.0)) for shift in (0.05, 0.1, 0.13, 0.16)]
    assert apart[0] < 0.03
    assert all(nearer < further for nearer, further in pairwise(apart))
    assert apart[-1] > 0.3


def test_unrelated_and_flat_pictures_are_like_nothing() -> None:
    rest = [distance(noise(0), noise(seed)) for seed in range(1, 9)]
    assert min(rest) > 0.8
    assert max(rest) < 2.0
    plain = Image.new("RGB", (64, 64), "gray")
    for first, second in ((plain, noise(0)), (noise(0), plain), (plain, plain)):
        assert distance(first, second) == pytest.approx(2**0.5)


def test_the_nearest_photo_is_named_and_none_is_refused() -> None:
    photos = [noise(seed) for seed in range(5)]
    nearest = CopyDetector(photos, []).nearest([photos[3], ImageOps.mirror(photos[1])])
    assert [photo.index for photo in nearest] == [3, 1]
    assert CopyDetector(photos, []).nearest([]) == []
    with pytest.raises(ValueError, match="no training photos"):
        CopyDetector([], photos)


def test_the_judge_names_the_photo_and_how_far_it_is() -> None:
    photos = [noise(seed) for seed in range(3)]
    detector = CopyDetector(photos, [])
    images = [photos[2], noise(9), ImageOps.mirror(photos[0])]
    nearest = detector.nearest(images)
    names = ["a.jpg", "b.jpg", "c.jpg"]
    assert judged([CopyJudge(detector, names)], Pictures(images=images)) == [
        {"training_photo": names[photo.index], "picture_distance": photo.distance} for photo in nearest
    ]
    assert [names[nearest[place].index] for place in (0, 2)] == ["c.jpg", "a.jpg"]
    assert CopyJudge(detector, names).judge(Pictures(images=[])) == []
