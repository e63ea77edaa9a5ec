"""What dies under a worker that lies on two nodes, or goes wrong under it: see `fault_drill.py`, and docs/faults.md."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from search.workers.pool import in_short
from tests.support.broken_host import CONTROL
from tests.support.command import Command
from tests.support.fault_drill import NODES, SCORE_AT, STRIKE_AT
from trainer.adapters.adapter_files import WEIGHTS_FILE

ROOT = Path(__file__).parents[3]
SUPPORT = ROOT / "tests" / "support"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drill")


@pytest.fixture(scope="module")
def seen(home: Path) -> dict[str, Any]:
    (home / "site").mkdir()
    shutil.copy(SUPPORT / "broken_host.py", home / "site" / "sitecustomize.py")
    paths = [str(home / "site"), str(ROOT)]
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(paths),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # nodes and driver call this machine 127.0.0.1
        CONTROL: str(home / "faults.json"),
    }
    with Command([sys.executable, str(SUPPORT / "fault_drill.py"), str(home)], home, environment) as drill:
        done = drill.finish()
    assert done.code == 0, done.output
    told: dict[str, Any] = json.loads(next(line for line in done.output.splitlines() if line.startswith("{")))
    print(json.dumps(told, indent=1))
    return told


def test_the_processes_of_one_worker_lie_on_two_nodes(seen: dict[str, Any]) -> None:
    """Data parallel, a photo of each batch on each node; another worker waits all the while and disturbs nobody."""
    assert seen["nodes"] == 2
    assert (seen["undisturbed"]["state"], seen["undisturbed"]["losses"]) == ("finished", [])


@pytest.mark.parametrize("fault", ["dispatcher", "storage and clock", "controller"])
def test_a_job_that_was_hit_ends_with_the_weights_of_one_that_was_not(
    fault: str, seen: dict[str, Any], home: Path
) -> None:
    job = seen[fault]
    assert (job["state"], job["reason"], job["steps"]) == ("finished", "", list(SCORE_AT))
    assert SCORE_AT[0] < job["struck"] == STRIKE_AT < SCORE_AT[-1], "hit between its two checkpoints"
    for step in SCORE_AT:
        own, others = (load_file(home / name / f"step-{step}" / WEIGHTS_FILE) for name in (fault, "undisturbed"))
        assert own.keys() == others.keys()
        assert all(np.array_equal(own[name], others[name]) for name in own)
    assert sorted(path.name for path in (home / fault).iterdir()) == [f"step-{step}" for step in SCORE_AT]


def test_a_dead_dispatcher_costs_no_worker(seen: dict[str, Any]) -> None:
    assert seen["dispatcher"]["losses"] == []


def test_on_slow_storage_and_under_jumping_clocks_no_worker_is_taken_for_dead(seen: dict[str, Any]) -> None:
    """Every write waits 0.2 s for each file, and the wall clock is a day ahead and a day behind in turn."""
    assert seen["storage and clock"]["losses"] == []


def test_a_dead_controller_is_a_lost_worker_with_a_reason(seen: dict[str, Any]) -> None:
    (loss,) = seen["controller"]["losses"]
    assert re.fullmatch(r"lost its worker after step \d+: the worker's controller died", loss)


def test_a_waiting_worker_is_ended_though_the_dispatcher_has_just_forgotten_it(seen: dict[str, Any]) -> None:
    """The dispatcher is killed as the pool closes: whom it has to end and that it is closed it is told once more."""
    assert seen["closed"] is True


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (
            RuntimeError(
                "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR "
                "Worker exit detail: Worker unexpectedly exits with a connection error code 2. End of file. ..."
            ),
            "The actor is dead because its worker process has died",
        ),
        (
            RuntimeError(
                "ray::train()\n  File ...\nStorageError: state could not be written: No space left; make room\n"
            ),
            "StorageError: state could not be written: No space left; make room",
        ),
        (RuntimeError(), "RuntimeError"),
        (None, "it died without an error"),
    ],
)
def test_how_a_worker_was_lost_is_told_in_a_line(error: Exception | None, short: str) -> None:
    assert in_short(error) == short


def test_all_cpus_are_free_in_the_end(seen: dict[str, Any]) -> None:
    assert seen["free"] == NODES
