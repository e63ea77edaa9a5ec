"""The outcome of a benchmark: how its figures are shown, and the JSON line that ends every benchmark's output."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from trainer.files import write_file


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(values: Sequence[float]) -> str:
    """Median of at least one value, with the smallest and the largest, as text."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} ... {max(values):.2f})"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of equal length as columns; the first row is the heading."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    for row in ruled:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def conclude(outcome: Mapping[str, Any], file: Path | None) -> None:
    """Print the outcome as one line of JSON, and write the same into `file`.

    Raises:
        ValueError: a figure is not finite.
    """
    text = json.dumps(outcome, allow_nan=False)
    if file is not None:
        write_file(file, lambda path: path.write_text(text + "\n", "utf-8"))
    typer.echo(text)
