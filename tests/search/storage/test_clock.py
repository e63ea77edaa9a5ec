"""The clock of a search: phases and parts add up, and nothing is ordered or timed by the time of day."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from search.storage.clock import Clock


class Hands:
    """A clock's hands, set by the test."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_phases_are_counted_and_what_lies_between_only_in_all() -> None:
    hands = Hands()
    clock = Clock(hands)
    with clock.phase("start"):
        hands.now += 5
    hands.now += 1
    with clock.phase("search"):
        hands.now += 10
        assert clock.seconds() == {"start": 5, "search": 10, "total": 16}
        hands.now += 2
    assert clock.seconds() == {"start": 5, "search": 12, "total": 18}


def test_parts_of_a_search_add_up() -> None:
    hands, notes = Hands(), dict[str, Any]()
    first = Clock(hands)
    first.keep(notes.__setitem__, notes)
    with first.phase("start"):
        hands.now += 5
    with suppress(KeyboardInterrupt), first.phase("search"):
        hands.now += 10
        raise KeyboardInterrupt
    assert notes == {"seconds": {"start": 5, "search": 10, "total": 15}}
    hands.now += 1000  # nothing ran
    second = Clock(hands)
    second.keep(notes.__setitem__, dict(notes))
    with second.phase("start"):
        hands.now += 3
    with second.phase("final"):
        hands.now += 4
        second.save()
        hands.now += 1  # lost if killed now
        assert notes["seconds"] == {"start": 8, "search": 10, "final": 4, "total": 22}
    assert notes["seconds"] == {"start": 8, "search": 10, "final": 5, "total": 23}


def test_the_time_of_day_is_read_for_labels_only() -> None:
    """It jumps. MLflow's records and votes say when they were made, a forecast is made at the newest run's pace, and
    caches that nobody has used for long are found by their files' times: one that goes too early is made again."""
    root = Path(__file__).parents[3]
    wall = re.compile(r"time\.time(?:_ns)?\(|datetime\.(?:now|utcnow|today)\(|st_[mca]time|from time import")
    found = [
        (str(file.relative_to(root)), word)
        for package in ("search", "trainer", "evaluation")
        for file in sorted((root / package).rglob("*.py"))
        for word in wall.findall(file.read_text("utf-8"))
    ]
    assert found == [
        ("search/study/dry_run.py", "st_mtime"),
        ("search/tracking/run_view.py", "st_mtime"),
        ("search/voting/votes.py", "datetime.now("),
        ("trainer/data/cache.py", "time.time("),
        ("trainer/data/cache.py", "st_mtime"),
        ("trainer/training_run.py", "time.time("),
    ]
