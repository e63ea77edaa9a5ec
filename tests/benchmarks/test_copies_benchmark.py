"""The benchmark of copies: what it deals, and that it runs."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.copies.album import SAME_PICTURE, album
from benchmarks.copies.reframing import COPIES, reframe
from benchmarks.copies.unregistered import UnregisteredDetector
from tests.support import quick_benchmark


def test_albums_share_no_picture_and_are_dealt_by_the_seed() -> None:
    first, again = (album(20, np.random.default_rng(1), fresh=6) for _ in range(2))
    assert (len(first.training), len(first.reference), len(first.fresh)) == (20, 3, 6)
    for one, other in zip(first.training + first.fresh, again.training + again.fresh, strict=True):
        assert one.tobytes() == other.tobytes()
    pictures = [photo.tobytes() for photo in (*first.training, *first.reference, *first.fresh)]
    assert len(set(pictures)) == len(pictures)
    assert len(SAME_PICTURE) == 3


def test_a_re_framed_photo_is_zoomed_about_its_middle_and_moved() -> None:
    photo = album(1, np.random.default_rng(0), fresh=1).training[0]
    assert np.abs(np.asarray(reframe(photo, 1.0, 0.0, 0.0), dtype=int) - np.asarray(photo)).max() <= 1
    moved = np.asarray(reframe(photo, 1.0, 4 / 64, 0.0), dtype=int)
    assert np.abs(moved[:, 4:] - np.asarray(photo)[:, :-4]).max() <= 1


def test_without_registration_a_small_zoom_hides_a_copy() -> None:
    photos = album(14, np.random.default_rng(0)).training
    before = UnregisteredDetector(photos[:12], photos[12:])
    assert max(before.distances(photos[:12])) < 1e-6
    assert min(before.distances([reframe(photo, 1.05, 0.0, 0.0) for photo in photos[:12]])) > before.copy_distance


def test_quick_run_counts_every_kind_of_copy(tmp_path: Path) -> None:
    done = quick_benchmark.finish("copies", "--quick", json_file=tmp_path / "outcome.json")
    outcome = done.outcome
    assert done.heading.startswith("taken for a copy")
    assert (outcome["benchmark"], outcome["rounds"]) == ("copies", 1)
    assert outcome["goals"] == {"fresh": 0.05, "copies": 0.95}
    assert set(outcome["flagged"]) == {"14"}
    for rule in ("before", "now"):
        assert set(outcome["flagged"]["14"][rule]) == {"fresh photos", *COPIES}
    assert outcome["met"] == {"fresh": outcome["worst"]["fresh"] <= 0.05, "copies": outcome["worst"]["copies"] >= 0.95}
    assert outcome["flagged"]["14"]["now"]["unchanged"]["value"] == pytest.approx(1.0)
