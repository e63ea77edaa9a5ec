"""`optuna-dashboard runs/NAME/journal.log` opens the study of a search."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from search.config.space import Choice, FloatRange, Space
from search.study.samplers.study_sampler import OptunaSampler
from tests.support.command import CEILING, until

SPACE: Space = {"learning_rate": FloatRange(low=1e-4, high=1e-2, log=True), "rank": Choice(values=(4, 8))}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Of two trials: one that ran to its end, one that was stopped."""
    path = tmp_path / "journal.log"
    sampler = OptunaSampler(
        SPACE,
        metric="search_value",
        journal=path,
        study_name="anna",
        seed=0,
        first_trials=[{"learning_rate": 1e-3, "rank": 8}],
        trials=2,
        steps=200,
    )
    for name, steps in {"a": (100, 200), "b": (100,)}.items():
        sampler.suggest(name)
        for step in steps:
            sampler.on_trial_result(name, {"step": step, "search_value": step / 1000})
        sampler.on_trial_complete(name)
    return path


@pytest.fixture
def dashboard(journal: Path) -> Iterator[str]:
    """Address of the dashboard, started by its command on this machine alone."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [str(program), str(journal), "--port", str(port), "--server", "wsgiref"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: process.poll() is not None or _answers(address))
            if process.poll() is not None:
                pytest.fail(f"optuna-dashboard ended: {process.communicate()[1]}")
            yield address
        finally:
            process.kill()
            process.communicate()


def _answers(address: str) -> bool:
    try:
        fetch(address, "/")
    except URLError:
        return False
    return True


def fetch(address: str, path: str) -> bytes:
    with urllib.request.urlopen(address + path, timeout=CEILING) as answer:
        content: bytes = answer.read()
        return content


def values(address: str, path: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(fetch(address, path))
    return content


def test_the_dashboard_opens_the_study(dashboard: str) -> None:
    assert b"Optuna Dashboard" in fetch(dashboard, "/dashboard")
    (study,) = values(dashboard, "/api/studies")["study_summaries"]
    assert (study["study_name"], study["directions"]) == ("anna", ["maximize"])
    trials = values(dashboard, f"/api/studies/{study['study_id']}?after=0")["trials"]
    assert [trial["state"] for trial in trials] == ["Complete", "Pruned"]
    assert trials[0]["values"] == [0.2]
    assert [(one["step"], one["value"]) for one in trials[0]["intermediate_values"]] == [(100, 0.1), (200, 0.2)]
    assert {one["name"] for one in trials[1]["params"]} == {"learning_rate", "rank"}
