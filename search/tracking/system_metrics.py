"""How busy the driver's machine is: processor, memory, disk, network, and GPUs where NVIDIA's library is installed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from search.tracking.outbox import Entry

PREFIX = "system/"
"""Under which MLflow's pages show system metrics."""

INTERVAL = 10.0
"""Seconds between two looks, as in MLflow."""


# MLflow's monitors carry no types.
MONITORS: tuple[Any, ...] = (CPUMonitor, DiskMonitor, NetworkMonitor)


class MachineMetrics:
    """Looks every ten seconds in a thread of its own, with MLflow's own monitors, from now until `close`.

    Args:
        tell: Gets the metrics by name, and their step, which counts the looks.
        known: What a former process of the same search has written down; its steps are gone on from.
    """

    def __init__(self, tell: Callable[[Mapping[str, float], int], None], known: Sequence[Entry] = ()) -> None:
        self._tell = tell
        looks = [entry.values["step"] for entry in known if entry.kind == "metrics" and _of_machine(entry)]
        self._step = max(looks, default=-1) + 1
        self._monitors = [*(monitor() for monitor in MONITORS), *_gpus()]
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="machine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Returns when nothing more is told."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(INTERVAL):
            self._tell(self.look(), self._step)
            self._step += 1

    def look(self) -> dict[str, float]:
        """One look: MLflow's names, with its prefix."""
        metrics: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            metrics |= {PREFIX + name: float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return metrics


def _of_machine(entry: Entry) -> bool:
    return any(name.startswith(PREFIX) for name in entry.values["metrics"])


def _gpus() -> list[Any]:
    monitor: Any = GPUMonitor
    try:
        return [monitor()]
    except (ImportError, RuntimeError):
        return []  # no NVIDIA library, or no GPU
