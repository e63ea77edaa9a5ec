"""What a benchmark prints."""

import json
from pathlib import Path

import pytest

from benchmarks.outcome import conclude, print_table, spread


def test_spread_is_the_median_with_the_extremes() -> None:
    assert spread([3.0, 1.0, 2.5, 9.125]) == "2.75 (1.00 ... 9.12)"


def test_table_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("", "ours", "ratio"), ("wall", "61.25", ""), ("a trial", "1", "0.3")])
    assert capsys.readouterr().out.splitlines() == [
        "         ours   ratio",
        "-------  -----  -----",
        "wall     61.25",
        "a trial  1      0.3",
    ]


def test_outcome_is_one_line_and_the_file_holds_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = {"benchmark": "x", "ratios": {"wall": 0.25}, "cores": 2}
    conclude(outcome, tmp_path / "outcome.json")
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == outcome
    assert (tmp_path / "outcome.json").read_text("utf-8") == printed
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.json"]


def test_a_figure_that_is_not_finite_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        conclude({"ratio": float("nan")}, tmp_path / "outcome.json")
    assert list(tmp_path.iterdir()) == []
