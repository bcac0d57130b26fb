"""Two Ray nodes on this machine's loopback, kept by a process of their own: `python nodes.py`.

It prints the address, kills the second node when it is told what that has to be at, waits until
nothing runs, and ends both when its standard input does, whatever has become of the test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""With the first variable Ray listens on loopback alone."""
_NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "node_ip_address": "127.0.0.1"}


class Nodes:
    """The process that keeps the nodes."""

    def __init__(self, commands: IO[str], answers: IO[str]) -> None:
        self._commands, self._answers = commands, answers
        self.address = self._answers.readline().strip()

    def kill_second(self, function: str) -> None:
        """Wait until a task of this name runs on the second node, and kill it with SIGKILL."""
        self._do("kill", function)

    def wait_until_idle(self, function: str) -> None:
        """Wait until no node runs a task of this name."""
        self._do("idle", function)

    def _do(self, action: str, function: str) -> None:
        self._commands.write(f"{action} {function}\n")
        self._commands.flush()
        assert self._answers.readline().split() == ["done", action, function]


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """A cluster of two nodes with a core each."""
    command = [sys.executable, str(Path(__file__))]
    with subprocess.Popen(
        command,
        env={**os.environ, **LOOPBACK},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Nodes(process.stdin, process.stdout)
        finally:
            process.stdin.close()


def _keep() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={**_NODE, "include_dashboard": False})
    try:
        second = cluster.add_node(**_NODE)
        print(cluster.address, flush=True)
        for line in sys.stdin:
            action, function = line.split()
            if action == "kill":
                _wait(function, [second], until=True)
                _kill(cluster, second)
            else:
                _wait(function, cluster.list_all_nodes(), until=False)
            print("done", action, function, flush=True)
    finally:
        cluster.shutdown()


def _kill(cluster: Any, node: Any) -> None:
    """With SIGKILL, and with all that runs on it, which would else answer before it sees that."""
    import psutil

    workers = psutil.Process(_raylet(node)).children(recursive=True)
    cluster.remove_node(node, allow_graceful=False)
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    psutil.wait_procs(workers, timeout=10)


def _wait(function: str, nodes: Iterable[Any], until: bool) -> None:
    while (function in _running(nodes)) != until:
        time.sleep(0.05)


def _running(nodes: Iterable[Any]) -> set[str]:
    """What their processes are at."""
    import psutil

    raylets = [psutil.Process(_raylet(node)) for node in nodes]
    return {_title(child) for raylet in raylets for child in raylet.children()}


def _raylet(node: Any) -> int:
    """The process of which all others on the node are children."""
    return int(node.all_processes["raylet"][0].process.pid)


def _title(process: Any) -> str:
    """Ray calls a process by the function that it runs."""
    import psutil

    try:
        return "".join(process.cmdline()[:1]).removeprefix("ray::")
    except psutil.NoSuchProcess:  # it has just ended
        return ""


if __name__ == "__main__":
    _keep()
