"""A Ray cluster as sweeps use it: its nodes, and functions that run on them.

Ray decides what runs where and when, and runs again what a lost process or node was at.

Source: https://docs.ray.io/en/latest/ray-core/fault-tolerance.html
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)

_CHECKS = 120
"""Seconds until a node has to have answered."""
_RETRIES = 3


@dataclass(frozen=True)
class Share:
    """What a run takes of a node."""

    cores: int = 1
    """Cores, which are also its threads."""
    runs_per_gpu: int = 1
    """How many runs a GPU has at a time, if there are GPUs in the cluster."""


@dataclass(frozen=True)
class Node:
    """A living node."""

    id: str
    name: str
    """Host name and address."""
    cores: int
    gpus: int


@dataclass(frozen=True)
class Lost:
    """What stands in place of an answer: why there is none."""

    reason: str


class Cluster:
    """The nodes of a cluster, and the functions that run on them."""

    def __init__(self, ray: ModuleType, share: Share) -> None:
        self._ray = ray
        self.share = share
        self.has_gpus = ray.cluster_resources().get("GPU", 0) >= 1

    @property
    def nodes(self) -> list[Node]:
        """Those that are alive."""
        return [_node(found) for found in self._ray.nodes() if found["Alive"]]

    @property
    def at_once(self) -> int:
        """How many runs there is room for at a time."""
        return sum(map(self.room, self.nodes))

    def room(self, node: Node) -> int:
        """How many runs a node has room for at a time."""
        runs = node.cores // self.share.cores
        return min(runs, node.gpus * self.share.runs_per_gpu) if self.has_gpus else runs

    def ask(self, nodes: Sequence[Node], function: Callable[[Any], Any], argument: Any) -> Answers:
        """What `function` of the argument returns on each node; those that have died are left out.

        Waits for no node that is busy.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        errors = self._ray.exceptions
        task = self._ray.remote(num_cpus=0, max_retries=0)(function)
        on = {node: NodeAffinitySchedulingStrategy(node.id, soft=False) for node in nodes}
        asked = {task.options(scheduling_strategy=on[node]).remote(argument): node for node in on}
        self._ray.wait(list(asked), num_returns=len(asked), timeout=_CHECKS)
        answers: dict[Node, Any] = {}
        for answer, node in asked.items():
            try:
                answers[node] = self._ray.get(answer, timeout=0)
            except (errors.TaskUnschedulableError, errors.NodeDiedError):
                continue
            except errors.GetTimeoutError:
                answers[node] = Lost(f"it did not answer within {_CHECKS} s")
            except errors.RayError as error:
                answers[node] = Lost(_words(error))
        return answers

    def run(
        self, function: Callable[[Any], Iterator[Any]], arguments: Mapping[Key, Any]
    ) -> Generator[tuple[Key, Any], None, None]:
        """What `function` yields for each argument, as it comes, with the argument's key.

        Where a process or node is lost, Ray calls the function again elsewhere; what it had yielded
        is not given twice. A call that is lost each time yields Lost. When this is closed, the
        calls that run are ended.
        """
        task = self._ray.remote(
            num_cpus=self.share.cores,
            num_gpus=1 / self.share.runs_per_gpu if self.has_gpus else 0,
            num_returns="streaming",
            max_retries=_RETRIES,
            retry_exceptions=False,
            max_calls=1,  # a process for each, with memory and settings of its own
        )(function)
        waiting = {task.remote(argument): key for key, argument in arguments.items()}
        try:
            while waiting:
                [first], _ = self._ray.wait(list(waiting), num_returns=1)
                try:
                    yield waiting[first], self._ray.get(next(first))
                except StopIteration:
                    del waiting[first]
                except self._ray.exceptions.RayError as error:
                    yield waiting.pop(first), Lost(_words(error))
        finally:
            for call in waiting:
                self._ray.cancel(call, force=True)


Answers = Mapping[Node, Any]


def _node(found: Mapping[str, Any]) -> Node:
    resources = found["Resources"]
    return Node(
        found["NodeID"],
        f"{found['NodeManagerHostname']} ({found['NodeManagerAddress']})",
        int(resources.get("CPU", 0)),
        int(resources.get("GPU", 0)),
    )


def _words(error: Exception) -> str:
    """What happened, without the traceback of the other process."""
    cause = getattr(error, "cause", None)
    lines = str(cause or error).strip().splitlines() or [type(error).__name__]
    if cause is None:
        return lines[0]
    if any(line.startswith("Traceback") for line in lines):  # a function that could not be read
        return lines[-1]
    return f"{type(cause).__name__}: {cause}"
