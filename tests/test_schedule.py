"""The order and the processes in which tests run."""

from pathlib import Path

from tests.support.schedule import LONGEST, WHOLE_SEARCHES, rank, unit

ROOT = Path(__file__).parents[1]


def test_files_that_share_a_search_share_a_process_and_others_do_not() -> None:
    one, other = f"{WHOLE_SEARCHES}/weighted/test_a.py::test_b[c::d]", f"{WHOLE_SEARCHES}/weighted/test_c.py::test_d"
    assert unit(one) == unit(other) == f"{WHOLE_SEARCHES}/weighted"
    assert unit("tests/search/test_run.py::test_a[/b]") == "tests/search/test_run.py"


def test_what_takes_long_begins_first_and_is_there() -> None:
    first, second, short = (rank(f"{name}::test_a") for name in (LONGEST[1], LONGEST[2], "tests/test_short.py"))
    assert first < second < short
    assert [name for name in LONGEST if not (ROOT / name).exists()] == []
    shared = [str(path.relative_to(ROOT)) for path in (ROOT / WHOLE_SEARCHES).iterdir() if path.is_dir()]
    assert {name for name in shared if "__pycache__" not in name} <= set(LONGEST)
