"""`python -m trainer.run`, in this process or in one of its own, and the files that it writes."""

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import typer
from typer.testing import CliRunner

from tests.support.command import Command, Ended
from trainer import run
from trainer.adapters.adapter_files import read_adapter_file

ROOT = Path(__file__).parents[2]


def invoke(path: Path) -> SimpleNamespace:
    application = typer.Typer(add_completion=False)
    application.command()(run.main)
    done = CliRunner().invoke(application, [str(path)])
    return SimpleNamespace(code=done.exit_code, stdout=done.stdout, stderr=done.stderr)


def start(path: Path, *staged: int) -> Ended:
    """The command's end; `staged` is a signal and the step after which it comes (`staged_training.py`)."""
    program = (
        [str(ROOT / "tests" / "support" / "staged_training.py"), *map(str, staged)] if staged else ["-m", "trainer.run"]
    )
    with Command([sys.executable, *program, str(path)], path.parent) as command:
        return command.finish()


def same_content(one: Path, other: Path) -> bool:
    """Bit for bit, but for the order of the texts in the header, which safetensors leaves to chance."""
    (tensors, header), (others, other_header) = (read_adapter_file(path) for path in (one, other))
    return (
        header == other_header
        and tensors.keys() == others.keys()
        and all(torch.equal(tensor, others[name]) for name, tensor in tensors.items())
    )
