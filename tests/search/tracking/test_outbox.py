"""The ledger survives kills, and says what it cannot read."""

from contextlib import closing
from pathlib import Path

import pytest

from search.tracking.outbox import LEDGER_FILE, Entry, Ledger, LedgerError, read_entries

FIRST = Entry(kind="search_started", run="", time=1, values={"name": "anna"})
SECOND = Entry(kind="metrics", run="000", time=2, values={"metrics": {"objective": 0.5}, "step": 50})


def test_entries_are_on_disk_when_append_returns(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path)) as ledger:
        ledger.append(FIRST)
        ledger.append(SECOND)
        assert read_entries(tmp_path) == (FIRST, SECOND)
        assert (ledger.next(0, 0.0), ledger.next(1, 0.0), ledger.next(2, 0.0)) == (FIRST, SECOND, None)


def test_a_torn_last_line_is_dropped_and_the_next_entry_follows_the_last_whole_one(tmp_path: Path) -> None:
    with closing(Ledger(tmp_path)) as ledger:
        ledger.append(FIRST)
    with (tmp_path / LEDGER_FILE).open("a") as file:
        file.write('{"kind":"metr')
    assert read_entries(tmp_path) == (FIRST,)
    with closing(Ledger(tmp_path)) as again:
        assert again.entries == (FIRST,)
        again.append(SECOND)
    assert read_entries(tmp_path) == (FIRST, SECOND)


@pytest.mark.parametrize("damage", ["{]", '{"kind":"metrics"}', '{"unknown":1}'])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    with closing(Ledger(tmp_path)) as ledger:
        ledger.append(FIRST)
    with (tmp_path / LEDGER_FILE).open("a") as file:
        file.write(damage + "\n")
    with pytest.raises(LedgerError, match=rf"line 2 of .*{LEDGER_FILE} is damaged"):
        Ledger(tmp_path)
