"""A compiled model: one graph, whatever adapters come, go and are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.testing import assert_close

import lorakit
from tests.adapters.files import Build, loaded_set, output, save, save_all
from tests.adapters.test_rows import NAMES, WORLDS, batch_of, mixed
from tests.injection import zoo
from tests.tolerances import MODEL, TOLERANCES


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def world_of(name: str) -> tuple[Build, dict[str, dict[str, object]]]:
    """A model with one layer, so that less is traced, and its adapters."""
    build, configs = WORLDS[name]
    return (build if build is mixed else partial(build, num_hidden_layers=1)), configs


class Graphs:
    """A backend that counts what is compiled."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.count += 1
        return graph.forward


@pytest.mark.parametrize("world", WORLDS)
def test_compiled_rows_are_eagers_in_one_graph(world: str, tmp_path: Path) -> None:
    build, configs = world_of(world)
    paths, batch, model = save_all(build, tmp_path, configs), batch_of(build), build()
    adapters = loaded_set(model, paths)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with adapters.rows(NAMES):
        assert_close(output(compiled, **batch), output(model, **batch), **MODEL)
    for name in configs:
        adapters.activate(name)
        assert_close(output(compiled, **batch), output(model, **batch), **MODEL)


def test_autocast_is_as_it_was_where_the_model_was_traced(tmp_path: Path) -> None:
    """A graph has its casts in it; heads and norms are computed outside of it."""
    build, configs = world_of("heads and biases")
    paths, batch, model = save_all(build, tmp_path, configs), batch_of(build), build()
    adapters = loaded_set(model, paths)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16), adapters.rows(NAMES):
        expected = output(model, **batch)
        assert_close(output(compiled, **batch), expected, **TOLERANCES[torch.bfloat16])


def test_nothing_is_compiled_anew(tmp_path: Path) -> None:
    """Other adapters, ranks, rows, more of them loaded, and none."""
    build, configs = world_of("DoRA beside LoRA")
    paths, model, batch = save_all(build, tmp_path, configs), build(), batch_of(build)
    base = output(build(), **batch)
    adapters, graphs = loaded_set(model, paths), Graphs()
    compiled = torch.compile(model, fullgraph=True, backend=graphs)
    assert_close(output(compiled, **batch), base, **MODEL)
    for name in configs:
        adapters.activate(name)
        output(compiled, **batch)
    for more in range(5):
        wide = save(build, tmp_path / f"wide{more}", more, r=8, target_modules=["q_proj"])
        adapters.load(f"wide{more}", wide)
    with adapters.rows(["wide4", "a", None, "b", "c", "a", "wide1", "b"]):
        assert_close(output(compiled, **batch), output(model, **batch), **MODEL)
    with adapters.rows(["a"] * 8):
        output(compiled, **batch)
    with lorakit.disabled(model):
        assert_close(output(compiled, **batch), base, **MODEL)
    assert graphs.count == 1


@pytest.mark.parametrize("world", WORLDS)
def test_switching_and_mixing_recompile_nothing(world: str, tmp_path: Path) -> None:
    """DoRA, heads, slices, embeddings; any rank, any number of adapters in a batch."""
    build, configs = world_of(world)
    paths, batch, model = save_all(build, tmp_path, configs), batch_of(build), build()
    adapters = loaded_set(model, {"a": paths["a"]})
    adapters.activate("a")
    compiled = torch.compile(model, fullgraph=True, backend="eager")  # what is traced decides
    output(compiled, **batch)
    for name in ("b", "c"):
        adapters.load(name, paths[name])
    output(compiled, **batch)  # modules that had no adapter before are traced anew, once
    adapters.deactivate()
    output(compiled, **batch)
    before = counters["stats"]["unique_graphs"]
    with torch.compiler.set_stance("fail_on_recompile"):
        for name in configs:
            adapters.activate(name)
            assert_close(output(compiled, **batch), output(model, **batch), **MODEL)
        rows: list[list[str | None]] = [NAMES, ["a"] * 8, ["a", None] * 4, ["c", "b"] * 4]
        for names in rows:
            with adapters.rows(names):
                assert_close(output(compiled, **batch), output(model, **batch), **MODEL)
    assert counters["stats"]["unique_graphs"] == before


def test_an_adapter_of_any_rank_recompiles_nothing(tmp_path: Path) -> None:
    """There is no maximum: ranks are no part of a graph."""
    q = {"target_modules": ["q_proj"]}
    ranks = {f"r{r}": {"r": r, "use_dora": r == 8, **q} for r in (1, 8, 64)}
    build = partial(zoo.llama, num_hidden_layers=1)
    paths, batch, model = save_all(build, tmp_path, ranks), batch_of(build), build()
    adapters = loaded_set(model, {"r1": paths["r1"]})
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    output(compiled, **batch)
    with torch.compiler.set_stance("fail_on_recompile"):
        for name, path in paths.items():
            if name != "r1":
                adapters.load(name, path)
            adapters.activate(name)
            assert_close(output(compiled, **batch), output(model, **batch), **MODEL)


class ByName(nn.Module):
    """Gives its layer the input by name."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(input=x)
        return y


def by_name() -> nn.Module:
    torch.manual_seed(1)
    return ByName().eval()


def test_compiled_inputs_have_names(tmp_path: Path) -> None:
    path = save(by_name, tmp_path, r=2, target_modules=["linear"])
    model, x = by_name(), torch.randn(2, 3, 8)
    adapters = loaded_set(model, {"a": path})
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with adapters.rows(["a", None]):
        assert_close(output(compiled, x=x), output(model, x=x), **MODEL)
