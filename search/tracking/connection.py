"""The way to MLflow: whether it can be used is known before anything is trained, whether it answers at any time."""

from __future__ import annotations

import os
import socket
from contextlib import nullcontext
from pathlib import Path

# A call that nobody answers must not hold the thread for minutes, and is not sent again before it is known what the
# first one did (MLflow's defaults: 120 s, 7 times).
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
# A search says nothing to anybody.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import requests
import sqlalchemy
from mlflow import MlflowClient
from mlflow.utils.file_utils import ExclusiveFileLock
from sqlalchemy.engine import URL, make_url

from search.config.search_config import without_password
from trainer.files import why_unwritable

PROBE_SECONDS = 2.0
"""How long a server may take to say that it is well."""

SERVERS = ("http://", "https://")
DATABASES = {"postgresql": 5432, "mysql": 3306, "mssql": 1433, "sqlite": 0}
"""What MLflow keeps runs in without a server, with the usual port."""

REMEDIES = {
    "locked": "end the process that holds it",
    "not a database": "put back a copy of that file, or move it away",
    "malformed": "put back a copy of that file, or move it away",
    "readonly": "make the file and its folder writable",
    "unable to open": "it must be a file in a folder that can be written",
}
"""What to do besides naming another database, by SQLite's words."""


class TrackingError(ValueError):
    """MLflow cannot be used as configured; the message names the setting and the remedy."""


def default_uri(home: Path) -> str:
    """The URI of the sqlite database `mlflow.db` in a folder, whatever the folder is called."""
    path = str(home / "mlflow.db")
    escaped = path.replace("%", "%25").replace("?", "%3F")
    # Of a URI with the driver's name MLflow does not take the path apart itself, for which it knows no escapes.
    return f"sqlite:///{path}" if escaped == path else f"sqlite+pysqlite:///{escaped}"


class Connection:
    """A tracking URI and an experiment.

    Args:
        uri: Tracking URI; None for the sqlite database `mlflow.db` in `home`.
        experiment: Name of the MLflow experiment; made if it is missing.
        home: Folder of the default database and of its artifacts.
        make: Whether a database or experiment that is missing is made. False only looks: `client` is not to be called.

    Raises:
        TrackingError: no server or database could ever be used by this URI, or the one that is there cannot be used.
            One that is away raises nothing: see `reachable`.
    """

    def __init__(self, uri: str | None, experiment: str, home: Path, *, make: bool = True) -> None:
        self.uri = uri or default_uri(home)
        self.shown_uri = without_password(self.uri)
        """The tracking URI without a password."""
        self.experiment_id = ""
        """Empty until MLflow has been reached."""
        self._experiment = experiment
        self._home = home
        self._make = make
        self._client: MlflowClient | None = None
        self._database = database = self._parse()
        name = database.database if database is not None and database.get_backend_name() == "sqlite" else None
        self._file = Path(name) if name else None
        if not make and self._file is not None and not self._file.exists():
            if reason := why_unwritable(self._file.parent):
                raise self._refusal(OSError(f"unable to open {self._file}: {reason}"))
        elif self.reachable():
            self.client()

    def reachable(self) -> bool:
        """Whether MLflow answers; a database file always does, a server is asked for its health."""
        try:
            if self.uri.startswith(SERVERS):
                return requests.get(f"{self.uri.rstrip('/')}/health", timeout=PROBE_SECONDS).status_code < 500
            if self._database is not None and self._database.host:
                port = self._database.port or DATABASES[self._database.get_backend_name()]
                socket.create_connection((self._database.host, port), PROBE_SECONDS).close()
        except (requests.RequestException, OSError):
            return False
        return True

    def client(self) -> MlflowClient:
        """MLflow's own client, once the experiment is there.

        Raises:
            TrackingError: MLflow is there and cannot be used.
        """
        if self._client is None:
            try:
                self._client = self._open()
            except TrackingError:
                raise
            except Exception as error:  # MLflow raises whatever its stores and their drivers do.
                if self.uri.startswith(SERVERS) and not self.reachable():
                    raise
                raise self._refusal(error) from error
        return self._client

    def _open(self) -> MlflowClient:
        # Two searches that begin at the same time must not both make a database's tables.
        with self._alone(self._file) if self._file is not None and self._make else nullcontext():
            if self._database is not None:
                self._check_database(self._database)
            mlflow.set_tracking_uri(self.uri)
            client = MlflowClient(self.uri)
            known = client.get_experiment_by_name(self._experiment)
            if known is None and not self._make:
                return client
            if known is None:
                # Without a server MLflow would put artifacts below whatever folder the process happens to run in.
                local = (self._home / "mlartifacts").as_uri() if self._file is not None else None
                self.experiment_id = str(client.create_experiment(self._experiment, artifact_location=local))
                return client
        if known.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking.experiment {self._experiment!r} was deleted in MLflow at {self.shown_uri}; restore it "
                f"(mlflow experiments restore -x {known.experiment_id}), or name another with tracking.experiment"
            )
        self.experiment_id = str(known.experiment_id)
        return client

    @staticmethod
    def _alone(database: Path) -> ExclusiveFileLock:
        database.parent.mkdir(parents=True, exist_ok=True)
        return ExclusiveFileLock(str(database.with_name(f".{database.name}.lock")))

    def _parse(self) -> URL | None:
        """The database that the URI names, whose driver is installed; None for a server or a folder."""
        if self.uri.partition("://")[0].partition("+")[0] not in DATABASES:
            return None
        try:
            url = make_url(self.uri)
            url.get_dialect().import_dbapi()
        except ImportError as error:
            raise TrackingError(
                f"tracking.uri {self.shown_uri!r} cannot be used: its database driver is not installed ({error}); "
                "install it, or name another with tracking.uri, as postgresql+psycopg2://..."
            ) from error
        except sqlalchemy.exc.ArgumentError as error:
            raise self._refusal(error) from error
        return url

    def _check_database(self, url: URL) -> None:
        """Try the database once; MLflow itself would try ten times, without a word."""
        engine = sqlalchemy.create_engine(url)
        try:
            with engine.connect() as connection:
                if url.get_backend_name() == "sqlite":
                    connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
                    connection.exec_driver_sql("BEGIN IMMEDIATE")  # waits five seconds for another one's lock
        finally:
            engine.dispose()

    def _refusal(self, error: Exception) -> TrackingError:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = next((f"{text}, or " for words, text in REMEDIES.items() if words in said), "")
        return TrackingError(
            f"tracking.uri {self.shown_uri!r} cannot be used: {without_password(said)}; {remedy}name another with "
            "--set tracking.uri=URI"
        )
