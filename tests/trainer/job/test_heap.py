"""Memory that is freed and asked for again, in processes with and without our settings of glibc's heap."""

import os
import platform
import subprocess
import sys

import pytest

from trainer.job.heap import GLIBC_SETTINGS, TUNABLES, heap_environment

MEGABYTES = 48
TURNS = 20

PAGES = MEGABYTES * 2**20 // 4096
"""Of one tensor; with huge pages there are fewer faults than that."""

FAULTS = f"""
import resource, threading, torch

def work():
    for turn in range({TURNS} + 1):
        torch.ones({MEGABYTES} * 2**18).add(1.0)  # two tensors
        if turn == 0:
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)

faults = []
thread = threading.Thread(target=work)  # as Ray Train's function runs in one
thread.start()
thread.join()
print(faults[1] - faults[0])
"""


def faults(environment: dict[str, str]) -> int:
    """Page faults of a process that makes and frees two tensors again and again, after the first turn."""
    without = {name: value for name, value in os.environ.items() if name != TUNABLES}
    run = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**without, **environment}, capture_output=True, text=True, check=True
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library knows no such settings")
def test_pages_are_cleared_once_and_not_in_every_turn() -> None:
    assert faults({}) > TURNS * PAGES, "a fresh page for each of two tensors, half of them at least"
    assert faults(heap_environment()) < PAGES


def test_what_the_user_tells_glibc_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TUNABLES, raising=False)
    ours = heap_environment()[TUNABLES]
    assert [setting.split("=") for setting in ours.split(":")] == [
        [name, str(size)] for name, size in GLIBC_SETTINGS.items()
    ]
    monkeypatch.setenv(TUNABLES, "glibc.malloc.arena_max=8")
    assert heap_environment() == {TUNABLES: f"{ours}:glibc.malloc.arena_max=8"}
