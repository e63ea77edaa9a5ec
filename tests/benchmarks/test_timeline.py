"""Slots and overheads, on moments whose outcome is worked by hand."""

import pytest

from benchmarks.trial_overhead.timeline import Side, TrialTime, occupied


def test_the_first_trials_find_their_slots_free_and_the_others_wait_for_a_result() -> None:
    # Slots: 100-104, then 104-107 | 100-105, then 105-111.
    assert occupied(100.0, [104.0, 105.0, 107.0, 111.0], slots=2) == [4.0, 5.0, 3.0, 6.0]


def test_a_slow_first_trial_keeps_its_slot_while_the_other_slot_serves() -> None:
    # Slots: 0-10 | 0-3, then 3-6, then 6-9.
    assert occupied(0.0, [10.0, 3.0, 6.0, 9.0], slots=2) == [10.0, 3.0, 3.0, 3.0]


def test_one_slot_is_never_free_until_the_end() -> None:
    assert occupied(50.0, [51.0, 53.0, 56.0], slots=1) == [1.0, 2.0, 3.0]


def test_fewer_trials_than_slots_all_begin_at_once() -> None:
    assert occupied(7.0, [9.0], slots=2) == [2.0]


def test_a_side_adds_up() -> None:
    trials = (
        TrialTime(occupied=8.0, computed=6.0),
        TrialTime(occupied=7.0, computed=6.5),
        TrialTime(occupied=5.0, computed=4.0),
    )
    side = Side(slots=2, start=10.0, rounds=(8.0, 5.0), trials=trials)
    assert side.overhead == [2.0, 0.5, 1.0]
    assert side.computed == [6.0, 6.5, 4.0]
    assert side.wall == 23.0
    # Two slots of 23 s hold 46 s, of which 16.5 s were computed: 29.5 s for three trials.
    assert side.overhead_with_start == pytest.approx(29.5 / 3)
    assert side.figures() == {
        "wall": 23.0,
        "start": 10.0,
        "rounds": [8.0, 5.0],
        "overhead": [2.0, 0.5, 1.0],
        "computed": [6.0, 6.5, 4.0],
    }
