"""A Ray cluster of several nodes on one machine, for tests: a head without CPUs, and nodes of one CPU each.

Reads commands, one a line: `add` and `remove NUMBER`, in the order of adding. Answers each, and its start, with a line
of JSON: the cluster's address, its dashboard's, the folder of its logs and the process number of each node's raylet,
None for one that is gone.
"""

import json
import sys

from ray._private.node import Node
from ray._private.ray_constants import PROCESS_TYPE_RAYLET
from ray.cluster_utils import Cluster

LOOPBACK = "127.0.0.1"


def main() -> None:
    cluster = Cluster()
    head = cluster.add_node(
        num_cpus=0,
        node_ip_address=LOOPBACK,
        include_dashboard=True,
        dashboard_host=LOOPBACK,
        dashboard_port=0,
    )
    nodes: list[Node] = []
    raylets: list[int | None] = []
    try:
        tell(cluster, head, raylets)
        for line in sys.stdin:
            command, _, number = line.strip().partition(" ")
            if command == "add":
                node = cluster.add_node(num_cpus=1, node_ip_address=LOOPBACK)
                nodes.append(node)
                raylets.append(node.all_processes[PROCESS_TYPE_RAYLET][0].process.pid)
            else:
                cluster.remove_node(nodes[int(number)], allow_graceful=False)  # at once, as a node is taken away
                raylets[int(number)] = None
            tell(cluster, head, raylets)
    finally:
        cluster.shutdown()


def tell(cluster: Cluster, head: Node, raylets: list[int | None]) -> None:
    state = {
        "address": cluster.address,
        "dashboard": cluster.webui_url,
        "logs": head.get_logs_dir_path(),
        "raylets": raylets,
    }
    print(json.dumps(state), flush=True)


if __name__ == "__main__":
    main()
