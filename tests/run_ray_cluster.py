"""A Ray cluster of two nodes' processes, a processor each, in a process of its own: Ray may end the process it is in.

Prints the cluster's address. Reads ``kill``, kills the second node and prints ``killed``; ends with its input.
"""

import os
import sys

from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
TRIES = 4


def started() -> tuple[Cluster, object]:
    """A cluster and its second node. Ray gives a node 30 s to start, which a busy machine may need more than once."""
    try:
        cluster = Cluster(initialize_head=True, head_node_args=NODE)
        return cluster, cluster.add_node(**NODE)
    except Exception:
        tries = int(os.environ.get("TRIES", "1"))
        if tries >= TRIES:
            raise
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"TRIES": str(tries + 1)})


def main() -> None:
    cluster, second = started()
    try:
        print(f"\naddress {cluster.address}", flush=True)
        for line in sys.stdin:
            if line == "kill\n":
                cluster.remove_node(second, allow_graceful=False)
                print("\nkilled", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
