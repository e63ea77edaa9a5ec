"""What cannot be used is refused at once, with the setting and the remedy; what is only away is not."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from search.tracking.connection import Connection, TrackingError, default_uri
from tests.support.command import CEILING

DEMO = Path(__file__).parents[3] / "demo" / "search.yaml"
NAME_ANOTHER = "name another with --set tracking.uri=URI"


def refused(uri: str | None, home: Path, experiment: str = "people") -> str:
    with pytest.raises(TrackingError) as error:
        Connection(uri, experiment, home)
    return str(error.value)


def beginning(uri: str) -> str:
    return f"tracking.uri {uri!r} cannot be used: "


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"\x17" * 8192)
    message = refused(None, tmp_path)
    assert message.startswith(beginning(f"sqlite:///{tmp_path / 'mlflow.db'}"))
    assert message.endswith(
        f"file is not a database; put back a copy of that file, or move it away, or {NAME_ANOTHER}"
    ), message
    assert (tmp_path / "mlflow.db").read_bytes() == b"\x17" * 8192


def test_a_database_that_another_process_has_locked_is_refused(empty_database: Path, tmp_path: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        message = refused(None, tmp_path)
    assert message.endswith(f"database is locked; end the process that holds it, or {NAME_ANOTHER}"), message


def test_a_database_that_another_search_writes_to_for_a_moment_is_not(empty_database: Path, tmp_path: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db", check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = threading.Timer(1.0, other.rollback)
        done.start()
        assert Connection(None, "people", tmp_path).experiment_id
        done.join()


def test_a_folder_in_the_databases_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    message = refused(None, tmp_path)
    assert message.endswith(
        f"unable to open database file; it must be a file in a folder that can be written, or {NAME_ANOTHER}"
    ), message


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """As a user who may not write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def open_to_all(folder: Path) -> None:
    """Let other users into a test's folder; how deep it lies depends on how many processes run the tests."""
    shared = Path(tempfile.gettempdir())
    for place in (folder, *folder.parents):
        if shared in place.parents:
            place.chmod(0o755)


def test_a_folder_that_cannot_be_written_is_refused(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o555)
    open_to_all(tmp_path)
    request.getfixturevalue("unprivileged")
    message = refused(None, home)
    assert "Permission denied" in message
    assert message.endswith(NAME_ANOTHER)


def test_a_database_that_cannot_be_written_is_refused(
    request: pytest.FixtureRequest, empty_database: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    (home / "mlflow.db").chmod(0o444)
    home.chmod(0o777)
    open_to_all(tmp_path)
    request.getfixturevalue("unprivileged")
    message = refused(None, home)
    assert message.endswith(
        f"attempt to write a readonly database; make the file and its folder writable, or {NAME_ANOTHER}"
    ), message


@pytest.mark.parametrize("uri", ["mysql://me:secret@127.0.0.1/x", "mssql+pyodbc://me:secret@127.0.0.1/x"])
def test_a_driver_that_is_missing_is_refused_though_nobody_answers(uri: str, tmp_path: Path) -> None:
    message = refused(uri, tmp_path)
    shown = uri.replace(":secret", "")
    assert message.startswith(f"{beginning(shown)}its database driver is not installed (No module named ")
    assert "secret" not in message
    assert message.endswith("install it, or name another with tracking.uri, as postgresql+psycopg2://...")


def test_an_unknown_scheme_is_refused(tmp_path: Path) -> None:
    assert refused("nonsense://somewhere", tmp_path).startswith(beginning("nonsense://somewhere"))
    message = refused("postgresql+nonsense://me@somewhere/x", tmp_path)
    assert message.endswith(f"Can't load plugin: sqlalchemy.dialects:postgresql.nonsense; {NAME_ANOTHER}"), message


def test_a_database_in_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    uri = f"sqlite:///{tmp_path}/file/folder/mlflow.db"
    message = refused(uri, tmp_path)
    assert message.startswith(beginning(uri))
    assert "Not a directory" in message


@pytest.mark.parametrize("name", ["what?", "50%25", "50% off #1 d'Or; ünï &c?x=y"])
def test_the_database_lies_in_its_folder_whatever_that_is_called(
    name: str, empty_database: Path, tmp_path: Path
) -> None:
    home = tmp_path / name
    home.mkdir()
    shutil.copy(empty_database, home / "mlflow.db")
    connection = Connection(None, "people", home)
    connection.client().create_run(connection.experiment_id)
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert {path.name for path in home.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}
    (experiment,) = MlflowClient(connection.uri).search_experiments(filter_string="name = 'people'")
    assert experiment.experiment_id == connection.experiment_id
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,)


def test_a_look_makes_neither_database_nor_experiment(empty_database: Path, tmp_path: Path) -> None:
    assert Connection(None, "people", tmp_path / "new", make=False).experiment_id == ""
    assert not list(tmp_path.iterdir())
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    assert Connection(None, "people", tmp_path, make=False).experiment_id == ""
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db"}
    names = {each.name for each in MlflowClient(default_uri(tmp_path)).search_experiments()}
    assert names == {"Default"}


def test_a_look_refuses_what_a_search_would(empty_database: Path, tmp_path: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    client = MlflowClient(default_uri(tmp_path))
    client.delete_experiment(client.create_experiment("people"))
    with pytest.raises(TrackingError, match="'people' was deleted in MLflow"):
        Connection(None, "people", tmp_path, make=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingError, match=r"file is a file; it must be a file in a folder that can be written"):
        Connection(None, "people", tmp_path / "file", make=False)


def test_an_experiment_that_was_deleted_is_refused(empty_database: Path, tmp_path: Path) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    number = client.create_experiment("people")
    client.delete_experiment(number)
    assert refused(uri, tmp_path) == (
        f"tracking.experiment 'people' was deleted in MLflow at {uri}; restore it (mlflow experiments restore -x "
        f"{number}), or name another with tracking.experiment"
    )
    client.restore_experiment(number)
    assert Connection(uri, "people", tmp_path).experiment_id == number


def test_a_server_that_refuses_a_call_is_refused(tmp_path: Path) -> None:
    """It is well, but knows nothing of MLflow."""
    from http.server import BaseHTTPRequestHandler, HTTPServer

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/health"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        message = refused(uri, tmp_path)
        server.shutdown()
    assert message.startswith(beginning(uri))


@pytest.mark.parametrize("uri", ["http://127.0.0.1:{port}", "postgresql+psycopg2://me@127.0.0.1:{port}/x"])
def test_a_server_that_is_away_is_not_refused(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGDialect_psycopg2, "import_dbapi", lambda: None)  # as if its driver were installed
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    connection = Connection(uri.format(port=port), "people", tmp_path)
    assert (connection.reachable(), connection.experiment_id) == (False, "")


def test_two_searches_that_begin_at_once_make_one_database(tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from search.tracking.connection import Connection; "
    program += "Connection(None, sys.argv[1], Path(sys.argv[2]))"
    both = [
        subprocess.Popen([sys.executable, "-c", program, name, str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for name in ("anna", "bert")
    ]
    answers = [process.communicate(timeout=CEILING)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    experiments = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_experiments()
    assert {experiment.name for experiment in experiments} == {"Default", "anna", "bert"}


@pytest.mark.parametrize("case", ["mlflow.db", "runs"])
def test_the_command_refuses_before_anything_starts(case: str, tmp_path: Path) -> None:
    (tmp_path / case).write_bytes(b"\x17" * 8192)
    done = subprocess.run(
        [sys.executable, "-m", "search.run", str(DEMO), "--name", "anna", "--set", f"runs={tmp_path / 'runs'}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=CEILING,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    if case == "runs":
        runs = tmp_path / "runs"
        assert line == f"runs: no run can be kept in {runs} ({runs} is a file); name another with --set runs=FOLDER"
        assert not (tmp_path / "mlflow.db").exists()
    else:
        assert line.startswith(beginning(f"sqlite:///{tmp_path / 'mlflow.db'}"))
        assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}, "the name is still free"
