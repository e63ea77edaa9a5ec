"""The benchmark of reports, run for real on two small ones. How fast they open does not matter here."""

import json
import shutil
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from benchmarks.scale.report import main


@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="no browser")
def test_a_quick_run_weighs_and_opens_two_reports(tmp_path: Path) -> None:
    application = Typer()
    application.command()(main)
    file = tmp_path / "outcome.json"
    run = CliRunner().invoke(application, ["--quick", "--json", str(file)])
    assert run.exit_code == 0, run.output
    heading, _, two, three, last = run.stdout.splitlines()
    assert heading.split()[:2] == ["trials", "megabytes"]
    assert (two.split()[0], three.split()[0]) == ("2", "3")
    outcome = json.loads(last)
    assert outcome == json.loads(file.read_text("utf-8"))
    assert set(outcome) == {"benchmark", "cores", "goals", "met", "trials"}
    assert outcome["met"]["megabytes"] is True
    for measured in outcome["trials"].values():
        assert len(measured["loaded"]) == 1
        assert measured["loaded"][0] > 0
