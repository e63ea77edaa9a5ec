"""Workers whose start fails, in real pools (`start_drill.py`): who is given up, who goes on, what the user is told."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Command

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("starts")
    program = [sys.executable, str(ROOT / "tests" / "support" / "start_drill.py"), str(home)]
    with Command(program, home, {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}) as drill:
        done = drill.finish()
    assert done.code == 0, done.output
    told: dict[str, Any] = json.loads(next(line for line in done.output.splitlines() if line.startswith("{")))
    return told


def test_a_worker_whose_card_is_full_is_given_up_alone_after_its_tries(seen: dict[str, Any]) -> None:
    pool = seen["full"]
    assert pool["starts"]["worker-1"] == 2
    assert (
        "worker-1 is given up: it could not start 2 times, at last: process 0: RuntimeError: CUDA error: out of "
        "memory; 1 of 2 workers are left"
    ) in pool["said"]
    assert pool["jobs"]["light"] == ["finished", ""]
    assert pool["closed"] is True


def test_a_job_that_kills_its_worker_for_want_of_memory_is_done_at_half(seen: dict[str, Any]) -> None:
    pool = seen["full"]
    loss = "lost its worker after step 0: process 0: CUDA error: out of memory"
    assert pool["jobs"]["heavy"] == ["finished", "", loss]
    assert pool["halvings"] == [0, 1], "the light job was done whole, the heavy one at half"
    assert pool["starts"]["worker-0"] == 2
    assert pool["said"].count("worker-0 computes on the CPU, played") == 1


def test_a_wrong_input_ends_the_search_at_once(seen: dict[str, Any]) -> None:
    pool = seen["mistaken"]
    assert pool["starts"] == {"worker-0": 1}
    reason = "worker-0 could not start: ValueError: base model 'x' is neither a folder nor on the hub"
    assert pool["jobs"] == {"light": ["failed", reason]}
    assert pool["said"] == []


def test_the_search_ends_when_no_worker_is_left(seen: dict[str, Any]) -> None:
    pool = seen["dead"]
    assert pool["starts"] == {"worker-0": 1}
    reason = (
        "no worker is left; worker-0 is given up: it could not start 1 times, at last: process 0: RuntimeError: CUDA "
        "error: uncorrectable ECC error encountered"
    )
    assert pool["jobs"] == {"light": ["failed", reason]}
