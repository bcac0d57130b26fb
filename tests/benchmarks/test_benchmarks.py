"""The benchmarks themselves: that they run, and that they count and compare what they say."""

from __future__ import annotations

from collections import Counter
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import __main__ as benchmarks_main
from benchmarks import compiled_step, inputs, kept_bytes, peers, rounds, training_step
from benchmarks.registry import NAMES, Settings
from lorakit import timing

QUICK = Settings(quick=True)
TARGETS = ("q and v", "all linear")
CHECKED = (
    "adapter_algebra",
    "adapter_analysis",
    "forward_calls",
    "kept_bytes",
    "many_adapters",
    "mixed_training",
    "operation",
    "planned_peaks",
    "training_step",
)


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    benchmarks_main.main()


def test_list_says_what_there_is(monkeypatch, capsys):
    run_command(monkeypatch, "--list")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert all(len(line.split()) > 4 for line in lines)  # each has its title


@pytest.mark.parametrize("name", NAMES)
def test_each_has_what_the_command_needs(name):
    benchmark = import_module(f"benchmarks.{name}")
    assert callable(benchmark.check)
    assert callable(benchmark.rows)
    assert benchmark.CONDITIONS


@pytest.mark.parametrize("name", CHECKED)
def test_its_own_check_holds(name):
    import_module(f"benchmarks.{name}").check(QUICK)


def test_quick_prints_a_table_and_keeps_nothing(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(benchmarks_main, "RESULTS", tmp_path)
    monkeypatch.setattr(timing, "CALL_SECONDS", 1e-4)
    run_command(monkeypatch, "--quick", "operation")
    out = capsys.readouterr().out
    cells = [line for line in out.splitlines() if line.startswith("| 32 | 64 | 8 ")]
    assert len(cells) == 4  # two dtypes, with and without dropout
    assert "| floor again | lorakit | peft | loralib | full | peft / lorakit |" in out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor"
)  # torch's, past a floor's hook
def test_quick_compiles_every_candidate():
    found = list(compiled_step.rows(QUICK))
    adapted = {f"{library}, {targets}" for library in ("peft", "lorakit") for targets in TARGETS}
    assert {row["candidate"] for row in found} == {"floor", "full", *adapted}
    assert all(row["compiling, s"] > 0 for row in found)
    assert next(iter(found))["over the compiled floor"]["median"] == 1


@pytest.mark.slow
def test_quick_measures_every_cell():
    found = list(training_step.rows(QUICK))
    models, targets_and_dora = len(inputs.models(QUICK)), 3
    assert len(found) == models * targets_and_dora * len(inputs.DTYPES)
    assert all(row.keys() == found[0].keys() for row in found)


def test_a_device_that_is_not_there_is_skipped(monkeypatch, capsys):
    run_command(monkeypatch, "--device", "cuda:99", "operation")
    assert capsys.readouterr().out == "Skipped: no device cuda:99 here.\n"


def test_full_inputs_are_those_of_the_readme():
    cells = inputs.operations(Settings())
    assert len(cells) == len(set(cells)) == 3 * 3 * 2 * 2 * 2
    parameters = []
    for model in inputs.MODELS:
        with torch.device("meta"):
            built = model.build(**model.sizes)
        names = [n.rpartition(".")[2] for n, m in built.named_modules() if isinstance(m, nn.Linear)]
        assert set(names) == set(model.all_linear)  # no linear layer is left out
        parameters.append(sum(parameter.numel() for parameter in built.parameters()))
    assert [round(n / 1e6, 1) for n in parameters] == [22.6, 124.1, 134.5]


# --- rounds


def test_turning_gives_each_candidate_each_place():
    places = Counter()
    for order in rounds.turning("abc", 6):
        places.update(enumerate(order))
    assert set(places.values()) == {2}
    assert len(places) == 9


def test_ratios_are_taken_within_a_round():
    times = {"base": [1.0, 10.0, 2.0], "one": [1.1, 11.0, 2.2]}
    assert rounds.over(times, "one", "base")["max"] == pytest.approx(1.1)


# --- bytes kept


class Hidden(torch.autograd.Function):
    """Keeps a copy of its input where autograd's hooks do not look."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.copy = x.clone()
        return x * 2

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return dy * 2


def test_bytes_hidden_from_autograd_are_seen():
    x = torch.ones(8, requires_grad=True)
    assert kept_bytes.counted(lambda: [Hidden.apply(x)], [], x) == (0, 32)


def test_a_weight_is_not_counted_and_its_copy_is():
    x, weight = torch.ones(2, 4, requires_grad=True), nn.Parameter(torch.ones(4, 4))
    assert kept_bytes.counted(lambda: [x @ weight.t()], [weight], x) == (32, 0)
    assert kept_bytes.counted(lambda: [x @ weight.t().clone()], [weight], x) == (96, 64)


def test_the_peers_keep_what_was_found_of_them():
    kept = {
        (mode, dropout): kept_bytes.qkv(Settings(), "peft", mode, dropout)[0]
        for mode in ("float32", "bfloat16")
        for dropout in (0.0, 0.1)
    }
    assert [round(value, 2) for value in kept.values()] == [1.03, 6.03, 6.06, 12.06]


# --- models


@pytest.mark.parametrize("library", peers.INSTALLED)
def test_factors_have_one_name_in_every_library(library):
    base = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 4))
    adapted = peers.INSTALLED[library](base, peers.Adapter(("1",), rank=2))
    found = {name: tuple(factor.shape) for name, factor in peers.factors(adapted.model).items()}
    assert found == {"1.lora_A": (2, 3), "1.lora_B": (4, 2)}


def test_a_library_that_computes_something_else_is_found():
    model = inputs.SMALL[0]
    base, ids = model.build(**model.sizes), torch.arange(6).view(1, 6)
    adapted = [training_step.adapt("lorakit", base, model.query_value, seed) for seed in (0, 1)]
    with pytest.raises(AssertionError, match="not close"):
        training_step.assert_equal_steps(adapted, ids)
