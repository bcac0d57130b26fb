"""A sweep is refused before its first run where nodes cannot make it; the message names each."""

from __future__ import annotations

import pytest

from lorakit.errors import ConfigError
from lorakit.experiments.ray_runs.cluster import Lost, Node
from lorakit.experiments.ray_runs.node import Facts, facts
from lorakit.experiments.ray_runs.readiness import require_ready, require_room
from tests.experiments.ray_runs.runs import Here

VERSION = facts([]).version
NODES = [Node("1", "one (10.0.0.1)", 4, 0), Node("2", "two (10.0.0.2)", 2, 0)]
SMALL = Node("3", "head (10.0.0.3)", 1, 0)


def test_nodes_that_have_everything_are_ready() -> None:
    cluster = Here({node.name: Facts(VERSION, ()) for node in NODES}, [*NODES, SMALL])
    require_ready(cluster, ["/data/t.csv"])
    assert cluster.asked == [(["one (10.0.0.1)", "two (10.0.0.2)"], ["/data/t.csv"])]


def test_a_path_that_a_node_lacks_is_named_with_the_node() -> None:
    answers = [Facts(VERSION, ()), Facts(VERSION, ("/data/t.csv", "/models/bert"))]
    cluster = Here(dict(zip([node.name for node in NODES], answers, strict=True)), NODES)
    with pytest.raises(ConfigError) as found:
        require_ready(cluster, ["/data/t.csv", "/models/bert"])
    assert found.value.problems == (
        "two (10.0.0.2) lacks /data/t.csv",
        "two (10.0.0.2) lacks /models/bert",
    )


def test_another_lorakit_is_named_with_the_node() -> None:
    answers = {node.name: Facts("0.0.1", ()) for node in NODES[:1]}
    with pytest.raises(ConfigError) as found:
        require_ready(Here(answers, NODES[:1]), [])
    assert found.value.problems == (f"one (10.0.0.1) has lorakit 0.0.1, and here is {VERSION}",)


def test_a_node_without_lorakit_is_named() -> None:
    answers = {NODES[0].name: Lost("ModuleNotFoundError: No module named 'lorakit'")}
    with pytest.raises(ConfigError, match=r"one \(10\.0\.0\.1\) cannot run lorakit: ModuleNot"):
        require_ready(Here(answers, NODES[:1]), [])


def test_a_run_that_fits_on_no_node_is_refused_with_what_they_have() -> None:
    require_room(Here({}, [SMALL, NODES[1]]))
    with pytest.raises(ConfigError, match="asks for 2 cores, and no node") as found:
        require_room(Here({}, [SMALL]))
    assert found.value.problems == ("head (10.0.0.3) has 1 core and 0 GPUs",)
