"""Imported as `sitecustomize` by every Python process of a test: a host whose disk is slow and whose clock jumps.

The file named by the environment holds JSON: `fsync`, the seconds that each synchronisation takes, and `jump`, the
seconds by which the wall clock is wrong, once ahead and once behind from each second to the next. It is read again all
the time; while it is missing or empty, nothing is broken.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

CONTROL = "LIKENESS_TEST_BROKEN_HOST"


def _faults() -> dict[str, float]:
    try:
        return dict(json.loads(Path(os.environ[CONTROL]).read_text("utf-8")))
    except (OSError, ValueError):
        return {}


def _install() -> None:
    fsync, now = os.fsync, time.time

    def slow_fsync(descriptor: int) -> None:
        time.sleep(_faults().get("fsync", 0.0))
        fsync(descriptor)

    def wrong_time() -> float:
        true = now()
        return true + _faults().get("jump", 0.0) * (1 if int(true) % 2 else -1)

    os.fsync, time.time = slow_fsync, wrong_time  # type: ignore[assignment]


if CONTROL in os.environ and __name__ == "sitecustomize":
    _install()
