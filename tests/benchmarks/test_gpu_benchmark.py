"""The benchmark of a GPU, run for real on the CPU with tiny models, and its parts. How fast it is does not matter."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.gpu.__main__ import MEASUREMENTS
from benchmarks.gpu.bench import levels_apart, relative_difference
from benchmarks.gpu.device import Device
from benchmarks.gpu.rows import OutOfTime, Row, Table, at_least, at_most, holds, measure, time_limit

ROOT = Path(__file__).parents[2]
CUDA_ALONE = {
    "23 steps without waiting for the device",
    "float16",
    "step with adamw_8bit",
    "torch.compile",
    "UNet forward, 2 rows, as a graph",
    "UNet forward, 4 rows, as a graph",
    "what fits into a smaller card",
}
"""What is not measured on a CPU."""


def test_quick_run_does_every_measurement_and_ends_with_its_outcome(tmp_path: Path) -> None:
    file = tmp_path / "outcome.json"
    command = ["--quick", "--stand-in-faces", "--minutes", "60", "--json", str(file)]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *command],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    last = run.stdout.splitlines()[-1]
    assert file.read_text("utf-8") == last + "\n"
    outcome = json.loads(last)
    rows = outcome.pop("rows")
    assert outcome == {
        "benchmark": "gpu",
        "quick": True,
        "device": "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "faces": "stand-in",
        "met": sum(row["met"] is True for row in rows),
        "not_met": 0,
    }, [row for row in rows if row["met"] is False]
    assert {row["measurement"] for row in rows} == set(range(18))
    assert {each.number for each in MEASUREMENTS} == set(range(1, 18))
    unmeasured = {row["name"] for row in rows if row["note"].startswith("not measured")}
    assert unmeasured == CUDA_ALONE | {"two workers, one made to fail"}
    assert {row["name"] for row in rows if row["value"] is None} == unmeasured
    by_name = {row["name"]: row["value"] for row in rows}
    assert {left: by_name[f"training, {left} GB left: photos at a time of 8"] for left in ("4", "2", "1", "0.3")} == {
        "4": 4,
        "2": 2,
        "1": 1,
        "0.3": "refused",
    }
    assert {left: by_name[f"images, {left} GB left: at a time of 4"] for left in ("4", "2", "1", "0.3")} == {
        "4": 2,  # guidance shows the UNet every image twice
        "2": 1,
        "1": "refused",
        "0.3": "refused",
    }


def test_a_failure_is_a_row_and_the_rows_before_it_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    table = Table(file, {"benchmark": "gpu"})

    def fails() -> Iterator[Row]:
        yield Row(name="before", value=1.5, unit="ms")
        raise RuntimeError("CUDA error: an illegal memory access\nand more")

    assert not measure(table, 6, "a step", fails, seconds=60)
    assert measure(table, 7, "images", lambda: iter([holds("after", True)]), seconds=60)
    written = json.loads(file.read_text("utf-8"))
    assert [row["name"] for row in written["rows"]] == [
        *("before", "a step", "seconds of: a step", "after", "seconds of: images"),
    ]
    failure = written["rows"][1]
    assert (failure["value"], failure["met"]) == (None, False)
    assert failure["note"] == "RuntimeError: CUDA error: an illegal memory access"
    assert (written["met"], written["not_met"]) == (1, 1)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [
        *("before", "a", "seconds", "after", "seconds"),
    ]


def test_a_measurement_that_hangs_is_stopped_and_what_it_held_is_closed() -> None:
    table, closed = Table(None, {}), []

    def hangs() -> Iterator[Row]:
        try:
            yield Row(name="before", value=1)
            while True:
                time.sleep(0.01)
        finally:
            closed.append(True)

    assert not measure(table, 6, "a step", hangs, seconds=0.2)
    assert closed == [True]
    assert [row["note"] for row in table.outcome()["rows"]] == ["", "stopped after 0 s", ""]


def test_no_handler_of_exceptions_takes_the_end_of_time_for_its_own() -> None:
    taken = []

    def swallow() -> None:
        while True:
            try:
                time.sleep(10)
            except Exception as error:
                taken.append(error)

    with pytest.raises(OutOfTime), time_limit(0.05):
        swallow()
    assert taken == []


def test_values_that_are_not_finite_are_words_in_the_file(tmp_path: Path) -> None:
    table = Table(tmp_path / "rows.json", {})
    for value in (float("nan"), float("inf"), -float("inf"), 2.5):
        table.add(3, Row(name="loss", value=value))
    table.write()
    written = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    assert [row["value"] for row in written["rows"]] == ["nan", "inf", "-inf", 2.5]


def test_criteria_hold_at_their_limit_and_not_for_nan() -> None:
    assert [at_most("x", value, 2.0, "s").met for value in (1.9, 2.0, 2.1, float("nan"))] == [True, True, False, False]
    assert [at_least("x", value, 2.0, "s").met for value in (1.9, 2.0, 2.1, float("nan"))] == [False, True, True, False]
    assert at_most("x", 1.0, 0.05, "s").criterion == "<= 0.05"


def test_differences_by_hand() -> None:
    first = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([4.0])}
    second = {"a": torch.tensor([3.0, 0.5]), "b": torch.tensor([4.0])}
    assert relative_difference(second, first) == pytest.approx(0.5 / 5)
    black, grey = Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2), (0, 30, 0))
    assert levels_apart([black, black], [black, grey]) == pytest.approx(30 / 3 / 2)


def test_memory_that_is_left_on_a_cpu_is_simulated_by_rows() -> None:
    layer = torch.nn.Linear(2, 2)
    with Device(torch.device("cpu")).memory_left(2.0, layer):
        assert layer(torch.ones(2, 2)).shape == (2, 2)
        with pytest.raises(torch.OutOfMemoryError, match="simulated"):
            layer(torch.ones(3, 2))
    assert layer(torch.ones(3, 2)).shape == (3, 2)
