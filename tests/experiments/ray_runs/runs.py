"""A run as a node returns it, and a cluster that is this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorakit.experiments.jobs import Job
from lorakit.experiments.ray_runs.cluster import Node, Share
from lorakit.experiments.ray_runs.node import Trained
from lorakit.recipe.schema import from_mapping
from lorakit.recipe.yaml_file import to_yaml
from tests.experiments.sweeps import result

MAPPING = {"base": "org/name", "data": {"train": "t.csv", "task": "classification"}}


def job(place: Path, **changes: Any) -> Job:
    """A job with its recipe."""
    found = Job("a/b/lora seed 0", "a/b/lora", place / "seed-0")
    recipe = from_mapping({**MAPPING, "output": str(found.directory), **changes})
    found.recipe.write_text(to_yaml(recipe))
    return found


def trained(error: str | None = None, **files: bytes) -> Trained:
    """The answer of a node on which the run stood in a directory that is gone."""
    recipe = {**MAPPING, "method": "lora", "output": "/tmp/gone/run", "training": {"seed": 0}}
    found = Trained("step 1\n", 2.5, None, recipe, result(recipe, {"accuracy": 0.5}), files)
    return found if error is None else replace(found, error=error, recipe={}, result={}, files={})


class Here:
    """A cluster of nodes that are not there: it gives the answers that it is made with."""

    has_gpus = False

    def __init__(self, answers: Mapping[str, Any], nodes: Sequence[Node] = ()) -> None:
        self.answers, self.nodes, self.share = answers, nodes, Share(cores=2)
        self.asked: list[tuple[Any, Any]] = []

    @property
    def at_once(self) -> int:
        """As many as nodes with room."""
        return sum(map(self.room, self.nodes))

    def room(self, node: Node) -> int:
        """One for each two cores."""
        return node.cores // self.share.cores

    def ask(
        self, nodes: Sequence[Node], function: Callable[[Any], Any], argument: Any
    ) -> dict[Node, Any]:
        """The answers by the nodes' names."""
        self.asked.append(([node.name for node in nodes], argument))
        return {node: self.answers[node.name] for node in nodes}

    def run(
        self, function: Callable[[Any], Any], arguments: Mapping[Job, Any]
    ) -> Generator[tuple[Job, Any], None, None]:
        """That a job has begun, and its answer."""
        for found in arguments:
            yield found, None
            yield found, self.answers[found.name]
