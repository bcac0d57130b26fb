"""What the check of a device measures, in small on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity

from benchmarks import accelerator, inputs, provenance
from benchmarks.gpu import kernels, memory, planned, shapes, steps
from benchmarks.planned_peaks_cells import MODELS, Cell
from benchmarks.registry import Settings, Unavailable
from lorakit import timing

QUICK = Settings(quick=True)


@pytest.fixture(autouse=True)
def short_rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small tensors, of which threads would only wait for each other."""
    monkeypatch.setattr(timing, "CALL_SECONDS", 1e-4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("steps", 8),
        ("kernels", 8 * (2 + kernels.MOST_ROWS)),
        ("decoding", 5),
        pytest.param("compiled", 3, marks=pytest.mark.slow),
    ],
)
def test_each_cell_has_a_row(name, count):
    found = list(import_module(f"benchmarks.gpu.{name}").rows(QUICK))
    assert len(found) == count
    assert all(row.keys() == found[0].keys() for row in found)


def test_models_have_the_sizes_of_their_names():
    sizes = []
    for model in shapes.MODELS:
        with torch.device("meta"):
            built = model.build(**model.sizes)
        names = {n.rpartition(".")[2] for n, m in built.named_modules() if isinstance(m, nn.Linear)}
        assert names == set(model.all_linear)
        sizes.append(round(sum(p.numel() for p in built.parameters()) / 1e9, 2))
    assert sizes == [0.35, 1.24]


def test_a_shared_copy_has_the_weights_and_other_modules():
    base = shapes.build(QUICK, inputs.SMALL[-1])
    copy = shapes.share(base)
    assert all(a is b for a, b in zip(base.parameters(), copy.parameters(), strict=True))
    assert not set(base.modules()) & set(copy.modules())
    adapted = steps.adapt("peft", base, ("q_proj",), 0.0)
    assert sum(isinstance(module, nn.Linear) for module in base.modules()) < sum(
        isinstance(module, nn.Linear) for module in adapted.modules()
    )


@pytest.mark.parametrize("model", inputs.SMALL[1:], ids=lambda model: model.name)
def test_the_floor_to_compile_trains_a_bias_of_the_first_q_and_v(model):
    base = shapes.build(QUICK, model)
    floor = shapes.biased_floor(base, model)
    training = [name for name, p in floor.named_parameters() if p.requires_grad]
    assert [name.split(".")[-2:] for name in training] == [[n, "bias"] for n in model.query_value]
    ids = shapes.batch(QUICK, model, 16)
    output, expected = (m.eval()(input_ids=ids).last_hidden_state for m in (floor, base))
    assert torch.equal(output, expected)


def test_a_plan_is_beside_the_peak_of_an_accelerator(monkeypatch):
    with pytest.raises(Unavailable, match="accelerators only"):
        planned.check(QUICK)
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.accelerator, "max_memory_allocated", lambda: 2 * 2**20)
    tiny = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    monkeypatch.setitem(MODELS, "tiny", ("bert", {**tiny, "intermediate_size": 64}))
    row = planned.row(QUICK, Cell("tiny", "full", "bf16", False, 2, 16))
    assert row["measured"] == 2
    assert row["predicted / measured"] == row["predicted"] / 2 > 1


def test_peak_memory_is_that_of_an_accelerator(monkeypatch):
    with pytest.raises(Unavailable, match="accelerators only"):
        memory.check(QUICK)
    readings = iter(2**20 * n for n in range(1, 100))
    monkeypatch.setattr(torch.accelerator, "memory_allocated", lambda: 2**20)
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.accelerator, "max_memory_allocated", lambda: next(readings))
    found = list(memory.cells(QUICK, inputs.SMALL[-1], 16))
    assert [row["lorakit"] for row in found] == [1, 3, 5, 7]
    assert [row["peft"] for row in found] == [2, 4, 6, 8]
    assert {(row["base"], row["floor"], row["full"]) for row in found} == {(1, 9, 10)}


def test_a_profiler_looks_at_the_device():
    found = [kernels.activity(device) for device in ("cpu", "cuda", "cuda:1")]
    assert found == [ProfilerActivity.CPU, ProfilerActivity.CUDA, ProfilerActivity.CUDA]


def test_operations_are_listed_by_how_much_they_differ():
    adapted = {kernels.STEP: (5.0, 1), "a": (1.0, 1), "b": (3.0, 2)}
    floor = {kernels.STEP: (4.0, 1), "a": (1.5, 1), "c": (0.1, 1)}
    rows = kernels.differences(adapted, floor)
    assert [row["operation"] for row in rows] == [kernels.STEP, kernels.SUM, "b", "a", "c"]
    assert [row["difference, ms"] for row in rows] == pytest.approx([1.0, 2.4, 3.0, -0.5, -0.1])


def test_an_accelerator_of_another_kind_has_a_name():
    assert accelerator.describe("xpu") == {"name": "xpu"}


def test_where_numbers_come_from_is_said_without_git_and_without_a_distribution(
    monkeypatch, tmp_path
):
    def version(package: str) -> Any:
        raise provenance.PackageNotFoundError(package)

    monkeypatch.setattr(provenance, "version", version)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = provenance.describe(QUICK)
    assert (found["commit"], found["uncommitted_changes"]) == (None, None)
    assert found["versions"]["lorakit"] is None
    monkeypatch.undo()
    monkeypatch.setattr(provenance, "ROOT", tmp_path)  # a folder of another project's checkout
    assert provenance.git("status") is None
