"""Configurations and reports to test the search with."""

import ipaddress
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from search.storage.trial_record import CheckpointResult
from tests.support.mlflow_server import Server

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    """A configuration file's content; the files it names exist beside it."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model_index.json").write_text("{}")
    (tmp_path / "validation.txt").write_text(
        "a photo of {trigger} man\n# a comment\n\na photo of {trigger} man, happy\n"
    )
    (tmp_path / "final.txt").write_text("a photo of {trigger} man, sad\n")
    return {
        "name": "anna",
        "model": "base",
        "photos": {"folder": "photos"},
        "training": {"resolution": 64, "batch_size": 2},
        "space": {
            "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
            "rank": {"values": [4, 8, 16]},
            "alpha": {"low": 1, "high": 32},
            "steps": {"low": 50, "high": 150, "step": 50},
        },
        "trials": 4,
        "evaluation": {
            "prompts": "validation.txt",
            "every": 50,
            "generation": {"resolution": 64, "batch_size": 4},
        },
        "final": {"prompts": "final.txt"},
        "runs": str(tmp_path / "runs"),
    }


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Writes a configuration file into the test's folder."""

    def write(content: dict[str, Any]) -> Path:
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump(content), "utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests, since it takes long to start; whether it runs is up to them."""
    server = Server(tmp_path_factory.mktemp("mlflow-server"))
    yield server
    server.stop()


@pytest.fixture
def make_checkpoint(tmp_path: Path) -> Callable[..., CheckpointResult]:
    """Makes a report with plausible metrics."""

    def make(step: int, objective: float, *, unfit: tuple[str, ...] = ()) -> CheckpointResult:
        metrics = {
            "objective": objective,
            "search_value": objective - bool(unfit),
            "excess": float(bool(unfit)),
            "likeness": objective,
            "fidelity": 1.0,
            "faceless_rate": 0.0,
        }
        return CheckpointResult(step=step, metrics=metrics, rows=(), folder=tmp_path / f"step-{step}", unfit=unfit)

    return make


@pytest.fixture(scope="session")
def beyond_loopback() -> Callable[[int], list[str]]:
    """Finds the sockets on which a process and its children listen to other machines: `command address port`."""

    def find(pid: int) -> list[str]:
        process = psutil.Process(pid)
        found = []
        for each in (process, *process.children(recursive=True)):
            try:
                sockets = [(each.name(), socket) for socket in each.net_connections("inet")]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            for name, socket in sockets:
                address = ipaddress.ip_address(socket.laddr.ip.removeprefix("::ffff:"))
                if socket.status == psutil.CONN_LISTEN and not address.is_loopback:
                    found.append(f"{name} {address} {socket.laddr.port}")
        return found

    return find
