"""The table of a run: one row a figure, printed and written as soon as it is measured."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from trainer.files import write_file

Value = float | int | str | None


class OutOfTime(BaseException):
    """A measurement took longer than it may. Not an Exception: nothing on the way may take it for a failed step."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure, and whether it is what is wanted."""

    name: str
    value: Value
    unit: str = ""
    criterion: str = ""
    """What is wanted, in words; empty for a figure without a wish."""
    met: bool | None = None
    """None: there is no criterion, or it says nothing on this device."""
    note: str = ""


def at_most(name: str, value: float, limit: float, unit: str, *, note: str = "") -> Row:
    """A row that is met by a value of at most `limit`."""
    return Row(name=name, value=value, unit=unit, criterion=f"<= {limit:g}", met=value <= limit, note=note)


def at_least(name: str, value: float, limit: float, unit: str, *, note: str = "") -> Row:
    """A row that is met by a value of at least `limit`."""
    return Row(name=name, value=value, unit=unit, criterion=f">= {limit:g}", met=value >= limit, note=note)


def holds(name: str, fact: bool, *, note: str = "") -> Row:
    """A row that is met if something is true."""
    return Row(name=name, value="yes" if fact else "no", criterion="yes", met=fact, note=note)


def not_measured(name: str, reason: str) -> Row:
    """A row without a value."""
    return Row(name=name, value=None, note=f"not measured: {reason}")


class Table:
    """Keeps all rows; prints each at once and writes all of them to a file.

    Args:
        file: JSON file that holds all rows so far, replaced in one move; None: no file.
        head: What the outcome says of the run beside its rows.
    """

    def __init__(self, file: Path | None, head: Mapping[str, Any]) -> None:
        self._file = file
        self._head = dict(head)
        self._rows: list[dict[str, Any]] = []

    def add(self, measurement: int, row: Row) -> None:
        """Print and keep a row of the measurement with this number."""
        self._rows.append({"measurement": measurement, **asdict(row)})
        value = f"{row.value:.4g}" if isinstance(row.value, float) else "-" if row.value is None else str(row.value)
        verdict = {True: "met", False: "NOT MET", None: ""}[row.met]
        cells = (
            f"{measurement:2d}",
            row.name.ljust(58),
            f"{value} {row.unit}".strip().rjust(16),
            row.criterion.rjust(10),
        )
        typer.echo("  ".join((*cells, verdict.ljust(7), row.note)).rstrip())

    def write(self) -> None:
        """Write all rows so far; numbers that are not finite become words, so that the file is JSON."""
        if self._file is not None:
            text = json.dumps(self.outcome(), indent=1, allow_nan=False)
            write_file(self._file, lambda path: path.write_text(text + "\n", "utf-8"))

    def outcome(self) -> dict[str, Any]:
        """All that is known."""
        verdicts = [row["met"] for row in self._rows]
        return {
            **self._head,
            "met": verdicts.count(True),
            "not_met": verdicts.count(False),
            "rows": [{**row, "value": _finite(row["value"])} for row in self._rows],
        }


def _finite(value: Value) -> Value:
    return str(value) if isinstance(value, float) and value - value != 0 else value


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime within the block, in the main thread, when the time is over."""

    def over(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(f"stopped after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(
    table: Table,
    number: int,
    title: str,
    rows: Callable[[], Iterator[Row]],
    *,
    seconds: float,
) -> bool:
    """All rows of one measurement, those before a failure included; the failure is a row, too.

    Returns:
        Whether it came to its end.
    """
    began = time.perf_counter()
    failure = ""
    try:
        with time_limit(seconds):
            for row in rows():
                table.add(number, row)
    except OutOfTime as error:
        failure = str(error)
    except Exception as error:  # A measurement that fails is a row with its reason; the others go on.
        failure = f"{type(error).__name__}: {(str(error).strip() or '-').splitlines()[0][:300]}"
    if failure:
        table.add(number, Row(name=title, value=None, criterion="no error", met=False, note=failure))
    table.add(number, Row(name=f"seconds of: {title}", value=time.perf_counter() - began, unit="s"))
    table.write()
    return not failure
