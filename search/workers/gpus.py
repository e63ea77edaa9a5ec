"""Which GPUs a search uses: asked on the driver's machine before any worker starts, and said when they have started."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from search.config.search_config import SearchConfig
from search.workers.client import WorkersClient
from search.workers.cluster import Capacity
from trainer.config import TrainingConfig
from trainer.models.device import gpu_versions, usable_gpus

NEWS_SECONDS = 1.0
"""Between two looks at which workers have started."""


class GpuError(ValueError):
    """GPUs that a search cannot use as it is asked to; the message names what is in the way and the remedy."""


def usable_capacity(config: SearchConfig, *, joined: bool) -> Capacity:
    """What Ray's nodes can give to workers, once the GPUs of this one are known to be usable; see `check_gpus`."""
    nodes, here = ray.nodes(), ray.get_runtime_context().get_node_id()
    check_gpus(nodes, here, config.possible_trainings(), joined=joined)
    return Capacity.of(nodes, config.seats)


def check_gpus(
    nodes: Sequence[Mapping[str, object]], here: str, trainings: Sequence[TrainingConfig], *, joined: bool
) -> None:
    """Compare what Ray counts on this machine with what torch can use, so that no search runs on the CPU unasked.

    Ray counts GPUs by NVML, which needs no CUDA: it also counts those for which the driver is too old for torch's
    wheel, and those of a machine whose wheel has no CUDA at all.

    Args:
        nodes: What `ray.nodes()` says.
        here: Ray's id of the driver's node. Other nodes are checked by their workers.
        trainings: What trials may ask for.
        joined: Whether Ray was started by others, who may have kept GPUs from it on purpose.

    Raises:
        GpuError: torch cannot use all of them, or none of them can do a training's `mixed_precision`.
    """
    resources: Any = next(node["Resources"] for node in nodes if node["NodeID"] == here)
    counted, usable = int(resources.get("GPU", 0)), usable_gpus()
    if usable < counted:
        raise GpuError(
            f"Ray counts {counted} GPU(s) on this machine, of which torch can use {usable} ({gpu_versions()}); install "
            "a driver and a wheel of torch that go together (docs/cluster.md says which), or hide the GPUs with "
            "CUDA_VISIBLE_DEVICES= to search on CPUs"
        )
    if counted == 0 and usable and not joined:
        raise GpuError(
            f"torch can use {usable} GPU(s) on this machine, but Ray counts none ({gpu_versions()}); see that "
            "nvidia-smi answers here, or hide the GPUs with CUDA_VISIBLE_DEVICES= to search on CPUs"
        )
    if counted and not joined:
        _check_precisions(usable, trainings)


def _check_precisions(usable: int, trainings: Sequence[TrainingConfig]) -> None:
    """Refuses what no card here can do: it would fail in every trial alike."""
    asked = {training.mixed_precision for training in trainings} - {"auto"}
    if not asked:
        return
    # Takes seconds to import.
    from trainer.job.acceleration import choose_precision
    from trainer.models.loading import choose_dtype

    devices = [torch.device("cuda", number) for number in range(usable)]
    for requested in asked:
        refusals = []
        for device in devices:
            try:
                choose_precision(requested, device, choose_dtype(device))
            except ValueError as error:
                refusals.append(str(error))
        if len(refusals) == len(devices):
            raise GpuError(f"training.{refusals[0]}")


class DeviceNews:
    """Says on what the workers compute, each once and as soon as it has started.

    Args:
        client: Is asked every now and then.
        say: Is given the lines.
    """

    def __init__(self, client: WorkersClient, say: Callable[[str], None]) -> None:
        self._client = client
        self._say = say
        self._told: dict[str, str] = {}

    def tell_until(self, end: threading.Event) -> None:
        """Returns when the event is set; for a thread of its own."""
        while not end.wait(NEWS_SECONDS):
            with suppress(RayError):  # news only: whatever has befallen Ray is others' affair
                self.tell()

    def tell(self) -> None:
        """Of workers that have started since the last call, or started again on something else."""
        devices = self._client.devices()
        news = {worker: device for worker, device in sorted(devices.items()) if self._told.get(worker) != device}
        for worker, device in news.items():
            self._say(f"{worker} computes on {device}")
        self._told |= devices
        formats = {device.rpartition(" ")[2] for device in self._told.values()}
        if news and len(formats) > 1:
            self._say(f"unlike weights, in {' and '.join(sorted(formats))}: equal adapters get slightly unequal scores")
