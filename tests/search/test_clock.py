"""The clock of a search: phases and parts add up."""

from contextlib import suppress
from typing import Any

from search.clock import Clock


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
