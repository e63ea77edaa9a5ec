"""Main memory of this process, as Linux counts it."""

from __future__ import annotations

from pathlib import Path

_PROCESS = Path("/proc/self")


def forget_peak() -> None:
    """From now on `peak_memory` counts anew; where there is no Linux it does nothing."""
    if (file := _PROCESS / "clear_refs").exists():
        file.write_text("5")  # resets the high-water mark, see man 5 proc


def resident_memory() -> float | None:
    """MiB in main memory now; None where there is no Linux."""
    return _read("VmRSS")


def peak_memory() -> float | None:
    """The most MiB in main memory since `forget_peak`; None where there is no Linux."""
    return _read("VmHWM")


def _read(name: str) -> float | None:
    if not (file := _PROCESS / "status").exists():
        return None
    (line,) = (line for line in file.read_text("utf-8").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
