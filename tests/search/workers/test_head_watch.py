"""Whether the head of a cluster is missed: soon enough, not too soon, and never after the search has left."""

import queue
import socket

import pytest

from search.workers import head_watch
from search.workers.head_watch import HeadWatch
from tests.support.command import CEILING


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_watch, "LOOK_SECONDS", 0.02)


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def test_a_head_that_is_gone_is_told_once_with_its_address() -> None:
    told: queue.Queue[str] = queue.Queue()
    head = listener()
    port = head.getsockname()[1]
    with HeadWatch(f"127.0.0.1:{port}", 0.1, told.put):
        head.accept()[0].close()
        head.close()
        assert told.get(timeout=CEILING) == (
            f"the head of the Ray cluster at 127.0.0.1:{port} has not answered for 0.1 s: it was killed, or the "
            "network is gone; what was written is kept"
        )
    assert told.empty()


def test_a_head_that_comes_back_within_the_patience_was_never_lost() -> None:
    """It misses a knock twice; each time the patience begins anew when it answers."""
    watch = HeadWatch("127.0.0.1:1", 10.0, lambda told: pytest.fail(told))
    knocks = [(True, 0.0), (False, 9.0), (True, 9.5), (False, 19.0), (False, 19.4), (False, 19.5)]
    assert [watch.missed(answers, now) for answers, now in knocks] == [False] * 5 + [True]


def test_a_watch_that_has_left_tells_nothing() -> None:
    told: queue.Queue[str] = queue.Queue()
    head = listener()
    with HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", 0.05, told.put) as watch:
        head.accept()[0].close()
    head.close()
    assert not watch._thread.is_alive()
    assert told.empty()
