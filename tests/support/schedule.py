"""Which tests share a process when two run them: those of a file, and those of a folder that shares one search."""

from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

WHOLE_SEARCHES = PurePosixPath("tests/search/whole")
"""In each folder below it all files look at one search, which the folder's `conftest.py` runs once a process."""

LONGEST = (
    "tests/search/whole/interrupted",
    "tests/search/workers/test_faults.py",
    "tests/search/workers/test_nodes.py",
    "tests/search/workers/test_worker_start.py",
    "tests/search/whole/weighted",
    "tests/search/whole/pareto",
    "tests/trainer/job/test_memory.py",
    "tests/search/workers/test_out_of_memory.py",
    "tests/benchmarks/test_trial_overhead.py",
    "tests/benchmarks/test_truth.py",
)
"""What takes half a minute and more, the longest first: begun last, it would keep one process busy alone."""


def unit(nodeid: str) -> str:
    """The file, or the folder of files, that runs in one process."""
    file = PurePosixPath(nodeid.split("::", 1)[0])
    return str(file.parent if file.parent.parent == WHOLE_SEARCHES else file)


def rank(nodeid: str) -> int:
    """The place of a test's unit in the order of running; that of all short ones is the last."""
    name = unit(nodeid)
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def scheduling(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """Gives units to processes in the order in which they were collected, each to the first that is free."""
    config.option.loadscopereorder = False
    files = LoadFileScheduling(config, log)
    files._split_scope = unit
    return files
