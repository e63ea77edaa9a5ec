"""Ray in folders whose paths are too long for its sockets, and clusters that are not there."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import ray

from search.workers import ray_session as session
from search.workers.ray_session import RayError, check_ray, ray_session
from tests.support.command import CEILING

PROGRAM = """
from contextlib import nullcontext
import ray
from search.workers.ray_session import ray_session
with ray_session(None, starting=nullcontext(), lost=print):
    print(ray.get(ray.remote(lambda: 7).remote()), ray._private.worker.global_worker.node.temp_dir)
"""


def run(**variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=CEILING,
        check=False,
    )


def test_a_folder_too_long_for_sockets_is_done_without_and_nothing_is_left(tmp_path: Path) -> None:
    long = tmp_path / "people" / "anna" / "slurm_jobdir" / "1355700" / "tmp.t0016"
    long.mkdir(parents=True)
    done = run(TMPDIR=str(long))
    assert done.returncode == 0, done.stderr
    answer, folder = done.stdout.split()
    assert answer == "7"
    assert Path(folder).parent == session.SHORT_FOLDER
    assert not Path(folder).exists()
    assert not list(long.iterdir())


def test_a_cluster_that_auto_does_not_find_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(RayError, match=r"--address auto \(RAY_ADDRESS 127.0.0.1:1\): no Ray cluster answers there"):
        check_ray("auto")
    monkeypatch.delenv("RAY_ADDRESS")
    check_ray("auto")

    def refuse(**options: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(RayError, match=r"--address auto: the Ray cluster cannot be used: Could not find any running"),
        ray_session("auto", starting=nullcontext(), lost=print),
    ):
        pytest.fail("it was not refused")


@pytest.mark.parametrize("length", [39, 40])
def test_the_longest_folder_whose_sockets_fit(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """107 bytes less a slash and `ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store`, 67 bytes."""
    monkeypatch.setattr(session, "SOCKET_BYTES", 107)
    assert session._sockets_fit(Path("/" + "x" * (length - 1))) == (length == 39)


def test_a_folder_is_not_needed_to_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "new" / "folder"))
    check_ray(None)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(session, "SHORT_FOLDER", tmp_path / "file")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RAY_TMPDIR", f"/{'x' * 60}")
    with pytest.raises(
        RayError,
        match=r"too long for the sockets of Ray, and .*file is a file; set RAY_TMPDIR to a folder of at most 39 bytes",
    ):
        check_ray(None)


def test_a_machine_too_busy_for_ray_is_a_reason_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(**options: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr(ray, "init", late)
    with (
        pytest.raises(RayError, match=r"Ray does not start: The current node timed out during startup"),
        ray_session(None, starting=nullcontext(), lost=print),
    ):
        pass
