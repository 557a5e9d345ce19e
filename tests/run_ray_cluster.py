"""A Ray cluster of two nodes' processes, a processor each, in a process of its own: Ray may end the process it is in.

Prints the cluster's address. Reads ``kill``, kills the second node and prints ``killed``; ends with its input.
"""

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        second = cluster.add_node(**node)
        print(f"\naddress {cluster.address}", flush=True)
        for line in sys.stdin:
            if line == "kill\n":
                cluster.remove_node(second, allow_graceful=False)
                print("\nkilled", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
