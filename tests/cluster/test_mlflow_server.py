"""MLflow's server, started as the head of a cluster starts it: who may ask it."""

import configparser
import http.client
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.command import CEILING, until

UNIT = Path(__file__).resolve().parents[2] / "cluster" / "mlflow.service"
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def command(home: Path, port: int) -> list[str]:
    """The unit's command, with this machine's program and a free port."""
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.read(UNIT)
    words = shlex.split(unit["Service"]["ExecStart"].replace("%h", str(home)).replace("5000", str(port)))
    assert words[0] == f"{home}/likeness/.venv/bin/mlflow"
    return [sys.executable, "-m", "mlflow", *words[1:]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Process, int]]:
    home = tmp_path_factory.mktemp("mlflow")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{home}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(home / "artifacts"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with subprocess.Popen(
        command(home, port), cwd=home, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as started:
        process = psutil.Process(started.pid)
        try:
            until(lambda: started.poll() is not None or answers(port))
            assert started.poll() is None, "the server ended"
            yield process, port
        finally:
            tree = [*process.children(recursive=True), process]
            for each in tree:
                each.kill()
            psutil.wait_procs(tree, timeout=CEILING)


def answers(port: int) -> bool:
    try:
        return ask(port, "/health", f"127.0.0.1:{port}") == 200
    except OSError:
        return False


def ask(port: int, path: str, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CEILING)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


def test_it_answers_this_machine_and_refuses_foreign_names(server: tuple[psutil.Process, int]) -> None:
    _, port = server
    hosts = {name: ask(port, SEARCH, name) for name in (f"localhost:{port}", f"127.0.0.1:{port}")}
    assert set(hosts.values()) == {200}, hosts
    # The last two MLflow would answer by default: any private address is as good as its own.
    for name in ("evil.example", f"evil.example:{port}", f"localhost.evil.example:{port}", "10.0.0.1", "192.168.0.1"):
        assert ask(port, SEARCH, name) == 403, name


def test_it_listens_on_loopback_only(server: tuple[psutil.Process, int]) -> None:
    process, port = server
    listening = {
        socket.laddr[:2]
        for each in (process, *process.children(recursive=True))
        for socket in each.net_connections("inet")
        if socket.status == psutil.CONN_LISTEN
    }
    assert listening == {("127.0.0.1", port)}
