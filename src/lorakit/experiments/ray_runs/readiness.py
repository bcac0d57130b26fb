"""Whether the nodes of a cluster can make a sweep's runs, asked before the first is begun."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lorakit.errors import ConfigError
from lorakit.experiments.ray_runs.cluster import Cluster, Lost, Node
from lorakit.experiments.ray_runs.node import facts
from lorakit.text import plural


def require_ready(cluster: Cluster, sources: Iterable[str]) -> None:
    """Raise ConfigError that names what each node with room for a run lacks.

    It would fail run after run, and faster than others make theirs.
    """
    nodes = [node for node in cluster.nodes if cluster.room(node)]
    sources = list(sources)
    here = facts([]).version
    problems = [
        f"{node.name} {problem}"
        for node, answer in cluster.ask(nodes, facts, sources).items()
        for problem in _problems(answer, here)
    ]
    if problems:
        raise ConfigError(
            "Nodes of the Ray cluster cannot make these runs; put files at the same path on each "
            "node or on a file system that all share, install the same lorakit, or take the node "
            "out:",
            problems,
        )


def require_room(cluster: Cluster) -> None:
    """Raise ConfigError that says what nodes have, if a run fits on none of them."""
    if not cluster.at_once:
        gpu = " and a GPU" if cluster.has_gpus else ""
        raise ConfigError(
            f"Each run asks for {plural(cluster.share.cores, 'core')}{gpu}, and no node of the Ray "
            "cluster has that; ask for fewer cores:",
            [_has(node) for node in cluster.nodes],
        )


def _problems(answer: Any, version: str) -> Iterator[str]:
    if isinstance(answer, Lost):
        yield f"cannot run lorakit: {answer.reason}"
        return
    yield from (f"lacks {path}" for path in answer.missing)
    if answer.version != version:
        yield f"has lorakit {answer.version}, and here is {version}"


def _has(node: Node) -> str:
    return f"{node.name} has {plural(node.cores, 'core')} and {plural(node.gpus, 'GPU')}"
