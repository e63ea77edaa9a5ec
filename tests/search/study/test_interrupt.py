"""Signals: the first asks, the second ends all, a terminal that is gone does no harm."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from search.study.stop import Interrupts, Stop
from tests.support.command import CEILING

BUSY = """
import subprocess, time
from search.study.stop import Interrupts
from search.study.stop import Stop
stop = Stop()
with Interrupts(stop), stop.watching():
    subprocess.Popen(["sleep", "600"])
    print("ready", flush=True)
    while not stop.requested:
        time.sleep(0.01)
    print(stop.reason, flush=True)
    time.sleep(600)
"""


@contextmanager
def busy() -> Iterator[subprocess.Popen[str]]:
    """A program in the middle of its work."""
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGINT, "Ctrl-C"),
        (signal.SIGTERM, "SIGTERM"),
        (signal.SIGHUP, "SIGHUP, as the terminal was closed"),
    ],
)
def test_the_first_signal_asks_and_the_second_ends_all_processes(number: signal.Signals, words: str) -> None:
    with busy() as process:
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 1
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.readline() == f"interrupted by {words}\n"
        assert process.poll() is None, "it has not ended"
        process.send_signal(number)
        assert process.wait(CEILING) == 130
        assert psutil.wait_procs(children, timeout=CEILING)[1] == []


def test_two_signals_at_once_are_two() -> None:
    with busy() as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(CEILING) == 130


def test_where_nobody_watches_the_stop_a_signal_raises_as_it_always_does() -> None:
    stop = Stop()
    before = signal.getsignal(signal.SIGTERM)
    with Interrupts(stop), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    assert (stop.reason, stop.interrupted) == ("interrupted by SIGTERM", True)
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_what_is_ignored_stays_ignored() -> None:
    """As by `nohup`."""
    stop = Stop()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(stop):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not stop.requested


def test_processes_that_ignore_signals_outlive_a_closed_terminal() -> None:
    with Interrupts(Stop()) as interrupts:
        with interrupts.children_ignoring_hangups():
            child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        os.kill(child.pid, signal.SIGHUP)
        child.communicate(b"\n")
    assert child.returncode == 0
