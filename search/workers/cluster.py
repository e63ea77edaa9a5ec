"""What a cluster can give to workers: the nodes that are there, and those that an autoscaler may start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from search.config.sections import SeatsConfig

Resources = Mapping[str, float]

ROUNDING = 1e-6
"""Ray counts resources in ten-thousandths; three thirds of a GPU are a whole one."""


class CapacityError(ValueError):
    """The cluster can never hold the workers that are asked for; the message says what is missing and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """Nodes, each by its resources as Ray names them: `CPU` and `GPU`, in cores and devices."""

    present: tuple[Resources, ...]
    coming: tuple[Resources, ...] = ()

    @classmethod
    def of(cls, nodes: Sequence[Mapping[str, object]], config: SeatsConfig) -> Capacity:
        """The capacity of a cluster.

        Args:
            nodes: What `ray.nodes()` says.
            config: Names the nodes that may come.
        """
        present = tuple(node["Resources"] for node in nodes if node["Alive"])
        more = config.coming
        coming = ({"CPU": more.cpus, "GPU": more.gpus},) * more.nodes if more is not None else ()
        return cls(present=present, coming=coming)  # type: ignore[arg-type] # Ray's own dictionary is untyped

    @property
    def gpus(self) -> bool:
        """Whether workers use GPUs: where there is one, or will be, they do."""
        return any(node.get("GPU", 0) > 0 for node in (*self.present, *self.coming))

    def workers(self, config: SeatsConfig) -> int:
        """How many workers to start: as many as are asked for, else as many as fit.

        A process lies on one node; the processes of one worker may lie on several.

        Raises:
            CapacityError: they would be waited for without end.
        """
        process = process_resources(config, gpus=self.gpus)
        nodes = (*self.present, *self.coming)
        fitting = sum(_processes(node, process) for node in nodes) // config.workers
        count = config.count or max(1, fitting)
        if count > fitting:
            needs = " and ".join(f"{share * config.workers * count:g} {kind}s" for kind, share in process.items())
            each = " and ".join(f"{share:g} {kind}s" for kind, share in process.items())
            remedy = "lower seats.count, seats.workers, seats.threads or seats.gpus_per_worker"
            if not self.coming:
                remedy += ", or name the nodes that an autoscaler may start in seats.coming"
            raise CapacityError(
                f"{count} worker(s) of {config.workers} process(es) need {needs}, {each} on one node for each process, "
                f"but Ray has {_sums(self.present, process)}"
                + (f" and may come to have {_sums(self.coming, process)} more" if self.coming else "")
                + f", which is enough for {fitting} worker(s); {remedy}"
            )
        return count


def process_resources(config: SeatsConfig, *, gpus: bool) -> dict[str, float]:
    """What each process of a worker reserves."""
    return {"GPU": config.gpus_per_worker, "CPU": 1.0} if gpus else {"CPU": float(config.threads)}


def _processes(node: Resources, process: Resources) -> int:
    return min(int(node.get(kind, 0) / share + ROUNDING) for kind, share in process.items())


def _sums(nodes: Sequence[Resources], process: Resources) -> str:
    """`4 GPUs and 16 CPUs on 4 node(s)`."""
    sums = " and ".join(f"{sum(node.get(kind, 0) for node in nodes):g} {kind}s" for kind in process)
    return f"{sums} on {len(nodes)} node(s)"
