"""What people really give to the commands: each input is used as it is meant, or refused by name with the remedy.

Every refusal comes before Ray starts, with exit code 2, without a traceback, and leaves nothing behind. The inputs are
in the files `*_cases.py` beside this one.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
import typer
from typer.testing import CliRunner

from tests.odd_input.case import CONFIGURATION, TRAINING, Case
from tests.support.short_search import DEMO

SEARCH = """\
name: t
model: base
photos: {folder: photos, trigger: sks}
training: {resolution: 64, batch_size: 4}
space:
  learning_rate: {low: 1e-3, high: 1e-2, log: true}
  steps: {low: 20, high: 40, step: 20}
trials: 2
stopping: {grace_period: 20}
evaluation:
  prompts: prompts/validation.txt
  seeds: [1]
  every: 20
  clip: clip
  generation: {steps: 18, guidance_scale: 3, resolution: 64, batch_size: 24}
  faces: {recognizer: Dlib, detector: dlib}
  others: {count: 0}
final: {prompts: prompts/final.txt, seeds: [101], candidates: 1, retrain: 0, strengths: []}
"""
RUN = """\
name: one
model: base
photos: {folder: photos, trigger: sks}
training: {learning_rate: 1e-3, rank: 4, alpha: 4, steps: 6, resolution: 64, batch_size: 2}
output: out
save_every: 3
"""


def cases() -> list[Case]:
    found: list[Case] = []
    for path in sorted(Path(__file__).parent.glob("*_cases.py")):
        found += importlib.import_module(f"tests.odd_input.{path.stem}").CASES
    assert len({case.name for case in found}) == len(found), "two cases have one name"
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small search and a small training in it; the command is started there.

    The big files are links, so that a case that changes one must put a file of its own in its place.
    """
    folder = tmp_path / "project"
    for part in ("photos", "prompts", "base", "clip"):
        shutil.copytree(DEMO / part, folder / part, copy_function=_copy)
    (folder / CONFIGURATION).write_text(SEARCH, "utf-8")
    (folder / TRAINING).write_text(RUN, "utf-8")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def _nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        pytest.fail("Ray was started")

    monkeypatch.setattr(ray, "init", refuse)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Offline; what a command sets in the environment of its process is forgotten afterwards."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Loggers keep the terminal of the command in which their library was imported, which is closed by now.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_it_is_used_as_meant_or_refused_by_name(case: Case, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case.change(project)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value.replace("{folder}", str(project)))
    before = _files(project)
    module, *arguments = case.command
    code, printed = run(module, arguments)

    assert code == case.exit_code, printed
    assert "Traceback" not in printed
    words = " ".join(printed.split())
    for text in case.says:
        assert text in words, printed
    for text in case.silent:
        assert text not in words, printed
    left = {path for path in _files(project) - before if not any(Path(path).match(each) for each in case.leaves)}
    assert not left, "left behind"


def run(module: str, arguments: list[str]) -> tuple[int, str]:
    """Exit code of `python -m module arguments` in this process, and what it prints, stdout and stderr together.

    Raises:
        BaseException: what the command itself raises; a user would see a traceback.
    """
    app = typer.Typer(add_completion=False)
    app.command()(_main(module))
    done = CliRunner().invoke(app, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def _main(module: str) -> Callable[..., None]:
    try:
        found = importlib.import_module(f"{module}.__main__")
    except ModuleNotFoundError:
        found = importlib.import_module(module)
    main: Callable[..., None] = found.main
    return main


def _files(folder: Path) -> set[str]:
    return {str((Path(root) / name).relative_to(folder)) for root, _, names in os.walk(folder) for name in names}


def _copy(source: str, target: str) -> None:
    """Weights as links: a copy of them for each case takes longer than the case."""
    if source.endswith(".safetensors"):
        Path(target).symlink_to(source)
    else:
        shutil.copyfile(source, target)
