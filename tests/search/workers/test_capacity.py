"""How many workers a cluster can hold, counted by hand."""

from typing import Any

import pytest

from search.config.sections import SeatsConfig
from search.workers.cluster import Capacity, CapacityError

HEAD = {"CPU": 0.0, "memory": 4e9}
CPU_NODE = {"CPU": 4.0}
GPU_NODE = {"CPU": 8.0, "GPU": 2.0}


def workers(*present: dict[str, float], **settings: Any) -> int:
    config = SeatsConfig.model_validate(settings)
    nodes: list[dict[str, object]] = [{"Alive": True, "Resources": node} for node in present]
    lost: dict[str, object] = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    return Capacity.of([*nodes, lost], config).workers(config)


@pytest.mark.parametrize(
    ("present", "settings", "count"),
    [
        ([CPU_NODE], {}, 4),
        ([CPU_NODE, CPU_NODE], {}, 8),
        ([CPU_NODE, CPU_NODE], {"threads": 3}, 2),  # 8 cores, but a worker of 3 threads leaves one over on each
        ([CPU_NODE, CPU_NODE], {"threads": 3, "workers": 2}, 1),  # a worker over both
        ([GPU_NODE], {}, 2),  # by its GPUs, not its cores
        ([GPU_NODE, CPU_NODE], {}, 2),  # where there are GPUs, no worker goes without
        ([GPU_NODE], {"gpus_per_worker": 0.5}, 4),
        ([{"CPU": 8.0, "GPU": 1.0}], {"gpus_per_worker": 1 / 3}, 3),
        ([{"CPU": 1.0, "GPU": 2.0}], {}, 1),  # each worker takes a core besides
        ([CPU_NODE], {"count": 3}, 3),
        ([HEAD], {"coming": {"nodes": 3, "cpus": 4, "gpus": 1}}, 3),
        ([HEAD], {"coming": {"nodes": 3, "cpus": 4, "gpus": 1}, "count": 2}, 2),
        ([CPU_NODE], {"coming": {"nodes": 3, "cpus": 4, "gpus": 1}}, 3),  # the GPUs to come decide
        ([CPU_NODE], {"coming": {"nodes": 2, "cpus": 4}}, 12),
    ],
)
def test_workers_are_counted_node_by_node(
    present: list[dict[str, float]], settings: dict[str, Any], count: int
) -> None:
    assert workers(*present, **settings) == count


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(CapacityError) as raised:
        workers(CPU_NODE, CPU_NODE, count=3, threads=3)
    assert str(raised.value) == (
        "3 worker(s) of 1 process(es) need 9 CPUs, 3 CPUs on one node for each process, but Ray has 8 CPUs on 2 "
        "node(s), which is enough for 2 worker(s); lower seats.count, seats.workers, seats.threads or "
        "seats.gpus_per_worker, or name the nodes that an autoscaler may start in seats.coming"
    )


def test_what_can_never_come_is_named() -> None:
    with pytest.raises(CapacityError) as raised:
        workers(HEAD, count=2, workers=4, coming={"nodes": 4, "cpus": 4, "gpus": 1})
    assert str(raised.value) == (
        "2 worker(s) of 4 process(es) need 8 GPUs and 8 CPUs, 1 GPUs and 1 CPUs on one node for each process, but Ray "
        "has 0 GPUs and 0 CPUs on 1 node(s) and may come to have 4 GPUs and 16 CPUs on 4 node(s) more, which is "
        "enough for 1 worker(s); lower seats.count, seats.workers, seats.threads or seats.gpus_per_worker"
    )


def test_a_head_without_cores_holds_no_worker() -> None:
    with pytest.raises(CapacityError, match=r"Ray has 0 CPUs on 1 node\(s\), which is enough for 0 worker\(s\)"):
        workers(HEAD)
