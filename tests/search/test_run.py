"""The command: its flags, and what it answers to bad input before anything is started."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from search import run
from search.search import SearchInterrupted
from tests.support.command import CEILING

Write = Callable[[dict[str, Any]], Path]

WITHOUT_RAY = """
import runpy, sys
sys.argv = ["search.run", *sys.argv[1:]]
try:
    runpy.run_module("search.run", run_name="__main__")
except SystemExit as error:
    assert "ray" not in sys.modules and "torch" not in sys.modules, "started what takes seconds"
    raise
"""


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=CEILING,
        check=False,
    )


def test_the_flags_are_these_and_no_others() -> None:
    """A flag is a promise. What can be said in the configuration needs none."""
    options = typer.main.get_command(_app()).params
    assert sorted(name for option in options for name in option.opts) == [
        "--address",
        "--dry-run",
        "--max-cost",
        "--max-gpu-hours",
        "--max-minutes",
        "--name",
        "--preset",
        "--resume",
        "--set",
        "--trials",
        "config",
    ]


def _app() -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(run.main)
    return app


def test_a_misspelt_key_is_answered_at_once(document: dict[str, Any], write_config: Write, tmp_path: Path) -> None:
    document["evaluation"]["promts"] = document["evaluation"].pop("prompts")
    done = command(str(write_config(document)), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "evaluation.promts: there is no such key; did you mean 'prompts'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    done = command("nowhere.yaml", cwd=tmp_path)
    assert (done.returncode, "nowhere.yaml cannot be read" in done.stderr) == (2, True)


def test_bad_photos_are_all_named_and_nothing_is_started(
    document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    (photos / "alone.png").write_bytes(b"")
    (photos / "letter.jpg").write_text("this is text")
    (photos / "letter.txt").write_text("a photo of {trigger} man")
    done = subprocess.run(
        [sys.executable, "-m", "search.run", str(write_config(document))],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=CEILING,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    for words in ("alone.png: is empty (0 bytes)", "alone.png: has no caption", "letter.jpg: is not a JPEG"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists(), "no run was begun"


@pytest.mark.parametrize(
    "arguments",
    [["--trials", "0"], ["--set", "name=a/b"], ["--max-minutes", "0"], ["--max-cost", "5"], ["--preset", "quik"]],
)
def test_values_of_flags_are_checked_like_the_files(
    arguments: list[str], document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    assert command(str(write_config(document)), *arguments, cwd=tmp_path).returncode == 2


def test_the_demo_finds_a_name_of_its_own_each_time(tmp_path: Path) -> None:
    assert run._free_name(tmp_path, "demo") == "demo"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo-2").mkdir()
    assert run._free_name(tmp_path, "demo") == "demo-3"


def test_a_run_that_does_not_exist_cannot_go_on(tmp_path: Path) -> None:
    done = command("--resume", "runs/anna", cwd=tmp_path)
    assert (done.returncode, "is not a run: it holds no search.yaml" in done.stderr) == (2, True)


def test_a_search_whose_disk_is_full_says_so_and_how_to_go_on(
    document: dict[str, Any],
    write_config: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "runs" / "anna"
    reason = f"{folder} could not be written: No space left on device; make room there, or repair it"

    def full(*arguments: object, **keywords: object) -> None:
        raise SearchInterrupted(folder, reason)

    monkeypatch.setattr("search.search.run_search", full)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(typer.Exit) as ended:
        run.main(write_config(document))
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err.splitlines() == [
        reason,
        "interrupted; go on with: python -m search.run --resume runs/anna",
    ]
