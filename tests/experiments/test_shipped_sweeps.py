"""The shipped sweeps: each is whole, as large as it says, and quotes the figures as they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, RobertaConfig

from lorakit.experiments.plan import Plan, PlannedRun
from lorakit.experiments.published import published_figures
from lorakit.experiments.recipes import recipe_of, recipe_problems
from lorakit.experiments.sweep_file import load_sweep, planned
from lorakit.methods import METHODS
from lorakit.recipe_files import sweep_files
from tests.experiments.published_tables import COLUMNS, SOURCES, SPREADS, TABLES

RUNS = {
    "glue-paper": (800, 288),
    "glue-readme": (160, 64),
    "minilm-rank": (30, 0),
    "minilm-weights": (21, 0),
    "reviews": (9, 8),
    "which-rank": (45, 0),
    "which-rank-nlg": (11, 0),
    "which-weights": (21, 0),
}
"""How many runs the cells of each have, and how many are made to choose by."""


def plan_of(name: str, *settings: str) -> Plan:
    return planned(load_sweep(sweep_files()[name], settings))


def runs_of(plan: Plan) -> Iterator[PlannedRun]:
    for variant, task in plan.cells:
        yield from plan.runs(variant, task, plan.only_choice(variant))


def test_each_shipped_sweep_is_counted():
    assert {*RUNS} == {*sweep_files()}


@pytest.mark.parametrize("name", RUNS)
def test_a_shipped_sweep_has_a_recipe_for_each_of_its_runs(name):
    plan = plan_of(name)
    assert recipe_problems(plan) == []
    candidates = [run for cell in plan.cells for run in plan.candidates(*cell)]
    assert (len(list(runs_of(plan))), len(candidates)) == RUNS[name]


@pytest.mark.parametrize("name", RUNS)
def test_a_shipped_sweep_takes_a_base_that_is_at_hand(name):
    plan = plan_of(name, "base=/models/mine")
    assert [base.own["base"] for base in plan.entries.bases] == ["/models/mine"]
    assert recipe_problems(plan) == []


@pytest.mark.parametrize("name", sorted(TABLES.keys() & RUNS.keys()))
def test_published_figures_are_those_of_their_sources(name):
    problems: list[str] = []
    found = published_figures(plan_of(name), problems)
    assert problems == []
    expected = {
        (*row, *column): value
        for row, values in TABLES[name].items()
        for column, value in zip(COLUMNS[name], values, strict=True)
        if value is not None
    }
    scales = {"nist": 1, "cider": 1}
    figures = {
        (row.base, row.name, task, metric): round(one.value * scales.get(metric, 100), 2)
        for (row, task, metric), one in found.items()
    }
    assert figures == expected
    begins = {next(s for s in SOURCES[name] if one.source.startswith(s)) for one in found.values()}
    assert begins == SOURCES[name]


@pytest.mark.parametrize("name", sorted(TABLES.keys() & RUNS.keys()))
def test_published_spreads_are_those_of_their_sources(name):
    found = published_figures(plan_of(name), [])
    expected = {
        (base, row, *column): value
        for (sweep, base, row), values in SPREADS.items()
        if sweep == name
        for column, value in zip(COLUMNS[name], values, strict=True)
        if value is not None
    }
    scales = {"nist": 1, "cider": 1}
    assert {
        (row.base, row.name, task, metric): round(one.spread * scales.get(metric, 100), 2)
        for (row, task, metric), one in found.items()
        if one.spread is not None
    } == expected


@pytest.mark.parametrize("name", sorted(TABLES.keys() & RUNS.keys()))
def test_published_figures_of_another_base_are_left_out(name):
    plan = plan_of(name, "base=/models/mine")
    bases = {base.name for base in plan.entries.bases}
    assert not any(row.base in bases for row, _, _ in published_figures(plan, []))


def on_meta(config: RobertaConfig) -> nn.Module:
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


ROBERTA = {
    "RoBERTa-base": RobertaConfig(vocab_size=50265),
    "roberta-base": RobertaConfig(vocab_size=50265),
    "RoBERTa-large": RobertaConfig(
        vocab_size=50265, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
        intermediate_size=4096,
    ),
}  # fmt: skip


def parameters(name: str, base: str, row: str, config: RobertaConfig) -> int:
    """What the first run of a row trains, heads apart."""
    plan = plan_of(name)
    run = next(r for r in runs_of(plan) if (r.variant.base.name, r.variant.name) == (base, row))
    recipe = recipe_of(plan, run)
    report = METHODS[recipe.method].apply(on_meta(config), recipe.method_config)
    return report.adapter_parameters


@pytest.mark.parametrize(
    ("base", "row", "count"),
    [
        ("RoBERTa-base", "LoRA", 294_912),
        ("RoBERTa-base", "BitFit", 102_144),
        ("RoBERTa-base", "AdapterDrop", 298_176),
        ("RoBERTa-base", "Pfeiffer 48", 894_528),
        ("RoBERTa-large", "Pfeiffer 64", 3_171_840),
        ("RoBERTa-large", "Pfeiffer 16", 811_392),
        ("RoBERTa-large", "Houlsby 64", 6_343_680),
        ("RoBERTa-large", "Houlsby 8", 835_968),
        ("RoBERTa-large", "LoRA alone", 786_432),
    ],
)
def test_rows_of_the_paper_have_its_parameters(base, row, count):
    assert parameters("glue-paper", base, row, ROBERTA[base]) == count


def test_which_weights_compares_them_at_an_equal_budget():
    rows = [variant.name for variant in plan_of("which-weights").variants]
    config = ROBERTA["roberta-base"]
    found = {parameters("which-weights", "roberta-base", row, config) for row in rows}
    assert found == {147_456}
