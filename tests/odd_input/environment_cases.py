"""The machine: folders that cannot be used, a cluster that is not there, a database of MLflow that is damaged."""

import sqlite3
from contextlib import closing
from pathlib import Path

from PIL import Image

from tests.odd_input.case import CONFIGURATION, Case, setting

DRY_RUN = ("search.run", CONFIGURATION, "--dry-run")
SEARCH = ("search.run", CONFIGURATION)
PHOTOS = ("search.photos", "photos", "--recognizer", "Dlib", "--detector", "dlib")
COMMANDS = (("", DRY_RUN), ("-search", SEARCH))


def a_file(folder: Path) -> None:
    (folder / "notafolder").write_text("")


def runs_is_a_file(folder: Path) -> None:
    (folder / "runs").write_text("")


def run_exists(folder: Path) -> None:
    (folder / "runs/t").mkdir(parents=True)
    (folder / "runs/t/journal.log").write_text("")


def damaged_database(folder: Path) -> None:
    (folder / "mlflow.db").write_bytes(b"\x17" * 8192)


def folder_as_database(folder: Path) -> None:
    (folder / "mlflow.db").mkdir()


def other_database(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('0123456789ab')")
        database.commit()


def no_faces(folder: Path) -> None:
    """Photos of a wall, each another colour: none shows a face."""
    for path in (folder / "photos").iterdir():
        path.unlink()
    for number in range(6):
        Image.new("RGB", (96, 96), (40 * number, 90, 200 - 30 * number)).save(folder / f"photos/{number}.png")
        (folder / f"photos/{number}.txt").write_text("a photo of {trigger} man")


CASES = [
    *(
        Case(
            f"face-weights-in-a-file{name}",
            a_file,
            command=command,
            environment={"DEEPFACE_HOME": "{folder}/notafolder"},
            says=(
                "DEEPFACE_HOME: the weights of face models are kept in",
                "notafolder/.deepface/weights",
                "set DEEPFACE_HOME",
            ),
        )
        for name, command in (*COMMANDS, ("-photos", PHOTOS))
    ),
    *(
        Case(
            f"{variable}-is-a-file{name}",
            a_file,
            command=command,
            environment={variable: "{folder}/notafolder"},
            says=(f"{variable} is", "notafolder, where Ray keeps its files", "is a file; name another folder"),
        )
        for variable in ("TMPDIR", "RAY_TMPDIR")
        for name, command in COMMANDS
    ),
    *(
        Case(
            f"cluster-that-is-dead{name}",
            command=(*command, "--address", "127.0.0.1:1"),
            says=("--address 127.0.0.1:1: no Ray cluster answers there (Connection refused)", "correct the address"),
        )
        for name, command in COMMANDS
    ),
    Case("cluster-without-a-port", command=(*DRY_RUN, "--address", "head"), says=("--address head: give HOST:PORT",)),
    *(
        Case(
            f"runs-is-a-file{name}",
            runs_is_a_file,
            command=command,
            says=("runs: no run can be kept in", "runs is a file", "--set runs=FOLDER"),
        )
        for name, command in COMMANDS
    ),
    *(
        Case(
            f"name-in-use{name}",
            run_exists,
            command=command,
            says=("exists already; give another --name, or go on with it: --resume",),
        )
        for name, command in COMMANDS
    ),
    *(
        Case(
            f"photos-without-faces{name}",
            no_faces,
            command=command,
            says=(
                "no face was found in the photos to compare with",
                "nor in the photos to train on",
                *(f"{number}.png" for number in range(6)),
                "choose another evaluation.faces.detector than dlib",
            ),
        )
        for name, command in COMMANDS
    ),
    *(
        Case(
            f"mlflow-{what}{name}",
            change,
            command=command,
            says=("tracking.uri 'sqlite:////", words, "name another with --set tracking.uri=URI"),
            leaves=(".mlflow.db.lock",),
        )
        for name, command in COMMANDS
        for what, change, words in (
            ("database-damaged", damaged_database, "file is not a database; put back a copy"),
            ("database-is-a-folder", folder_as_database, "unable to open database file"),
            ("database-of-another-version", other_database, "Can't locate revision"),
        )
    ),
    *(
        Case(
            f"face-weights-not-at-hand{name}",
            command=command,
            says=("the recognizer 'GhostFaceNet' cannot be loaded", "HF_HUB_OFFLINE is set", "use recognizer Dlib"),
        )
        for name, command in (
            ("-dry-run", setting("evaluation.faces={recognizer: GhostFaceNet, detector: dlib}")),
            (
                "",
                tuple(
                    w
                    for w in setting("evaluation.faces={recognizer: GhostFaceNet, detector: dlib}")
                    if w != "--dry-run"
                ),
            ),
            ("-photos", ("search.photos", "photos", "--recognizer", "GhostFaceNet", "--detector", "dlib")),
        )
    ),
    Case(
        "mlflow-in-no-folder",
        a_file,
        command=setting("tracking.uri=sqlite:///notafolder/mlflow.db"),
        says=("tracking.uri 'sqlite:///notafolder/mlflow.db' cannot be used", "notafolder is a file"),
    ),
]
