"""The shipped sweeps: each is whole, as large as it says, and quotes the figures as they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    RobertaConfig,
)

from lorakit.experiments.plan import Plan, PlannedRun
from lorakit.experiments.published import published_figures
from lorakit.experiments.recipes import recipe_of, recipe_problems
from lorakit.experiments.sweep_file import load_sweep, planned, runnable
from lorakit.experiments.sweep_table import sweep_table
from lorakit.experiments.table import AVERAGE
from lorakit.methods import METHODS
from lorakit.recipe_files import sweep_files
from tests.experiments.published_tables import COLUMNS, SOURCES, SPREADS, TABLES

RUNS = {
    "glue-paper": (800, 288),
    "glue-readme": (160, 64),
    "low-data": (48, 48),
    "minilm": (108, 108),
    "minilm-rank": (30, 0),
    "minilm-weights": (21, 0),
    "nlg-readme": (72, 48),
    "reviews": (9, 8),
    "smollm2": (8, 8),
    "training-cost": (24, 0),
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


WIDTHS = {"minilm": [384], "low-data": [768], "nlg-readme": [1024, 1280], "smollm2": [576]}
"""Of the bases of the sweeps that choose learning rates for virtual tokens."""


@pytest.mark.parametrize("name", WIDTHS)
def test_learning_rates_to_choose_from_lie_around_the_default_of_virtual_tokens(name):
    found = 0
    for variant, _ in plan_of(name).cells:
        method = METHODS[variant.method.settings["method"]]
        rates = variant.method.own["choose"].get("training.learning_rate")
        if rates and method.name.startswith("prefix"):
            found += 1
            for width in WIDTHS[name]:
                assert min(rates) < method.learning_rate(width) < max(rates), variant.name
    assert found


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


@pytest.mark.parametrize("name", TABLES)
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


@pytest.mark.parametrize("name", TABLES)
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


@pytest.mark.parametrize("name", TABLES)
def test_published_figures_of_another_base_are_left_out(name):
    plan = plan_of(name, "base=/models/mine")
    bases = {base.name for base in plan.entries.bases}
    assert not any(row.base in bases for row, _, _ in published_figures(plan, []))


CONFIGS = {
    "RoBERTa-base": RobertaConfig(vocab_size=50265),
    "roberta-base": RobertaConfig(vocab_size=50265),
    "RoBERTa-large": RobertaConfig(
        vocab_size=50265, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
        intermediate_size=4096,
    ),
    "all-MiniLM-L6-v2": BertConfig(
        hidden_size=384, num_hidden_layers=6, intermediate_size=1536, vocab_size=30522
    ),
    "GPT-2 medium": GPT2Config(n_embd=1024, n_layer=24, n_head=16),
    "GPT-2 large": GPT2Config(n_embd=1280, n_layer=36, n_head=20),
    "SmolLM2-135M-Instruct": LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
    ),
}  # fmt: skip


def parameters(name: str, base: str, row: str) -> int:
    """What the first run of a row trains, heads apart."""
    plan, config = plan_of(name), CONFIGS[base]
    run = next(r for r in runs_of(plan) if (r.variant.base.name, r.variant.name) == (base, row))
    recipe = recipe_of(plan, run)
    generates = isinstance(config, GPT2Config | LlamaConfig)
    kind = AutoModelForCausalLM if generates else AutoModelForSequenceClassification
    with torch.device("meta"):
        model = kind.from_config(config)
    return METHODS[recipe.method].apply(model, recipe.method_config).adapter_parameters


@pytest.mark.parametrize(
    ("name", "base", "row", "count"),
    [
        ("glue-paper", "RoBERTa-base", "LoRA", 294_912),
        ("glue-paper", "RoBERTa-base", "BitFit", 102_144),
        ("glue-paper", "RoBERTa-base", "AdapterDrop", 298_176),
        ("glue-paper", "RoBERTa-base", "Pfeiffer 48", 894_528),
        ("glue-paper", "RoBERTa-large", "Pfeiffer 64", 3_171_840),
        ("glue-paper", "RoBERTa-large", "Pfeiffer 16", 811_392),
        ("glue-paper", "RoBERTa-large", "Houlsby 64", 6_343_680),
        ("glue-paper", "RoBERTa-large", "Houlsby 8", 835_968),
        ("glue-paper", "RoBERTa-large", "LoRA alone", 786_432),
        ("nlg-readme", "GPT-2 medium", "Adapter", 368_784),  # 0.37 M
        ("nlg-readme", "GPT-2 medium", "LoRA", 393_216),
        ("nlg-readme", "GPT-2 medium", "Prefix", 393_216),
        ("nlg-readme", "GPT-2 large", "Adapter", 875_808),  # 0.88 M
        ("nlg-readme", "GPT-2 large", "LoRA", 737_280),
        ("nlg-readme", "GPT-2 large", "Prefix", 737_280),
    ],
)
def test_rows_of_the_paper_have_its_parameters(name, base, row, count):
    assert parameters(name, base, row) == count


def test_which_weights_compares_them_at_an_equal_budget():
    rows = [variant.name for variant in plan_of("which-weights").variants]
    assert {parameters("which-weights", "roberta-base", row) for row in rows} == {147_456}


@pytest.mark.parametrize(
    ("name", "base", "rows"),
    [
        (
            "minilm", "all-MiniLM-L6-v2",
            ("lora", "houlsby", "pfeiffer", "lin", "adapter_drop", "prefix_layer", "lora_prefix"),
        ),
        ("smollm2", "SmolLM2-135M-Instruct", ("LoRA", "Adapter", "Prefix")),
    ],
)  # fmt: skip
def test_what_is_compared_with_lora_has_about_its_parameters(name, base, rows):
    lora, *others = [parameters(name, base, row) for row in rows]
    assert all(abs(count / lora - 1) < 0.07 for count in others)


def test_the_papers_table_is_made_for_a_base_of_six_layers(tmp_path):
    """AdapterDrop leaves out eight layers of RoBERTa's, and of this one as many as it is for."""
    CONFIGS["all-MiniLM-L6-v2"].save_pretrained(tmp_path / "minilm")
    settings = [f"base={tmp_path / 'minilm'}", "tasks=[mrpc]", "output=x"]
    plan = runnable(load_sweep(sweep_files()["glue-paper"], settings))
    recipes = {run.variant.name: recipe_of(plan, run) for run in runs_of(plan)}
    assert len(recipes) == 10
    assert recipes["AdapterDrop"].method_config.dropped_of(6) == 2


def test_a_shipped_sweep_takes_a_part_of_its_tasks_and_methods():
    plan = plan_of("glue-paper", "tasks=[mrpc]", "methods={LoRA: {method: lora}}")
    problems: list[str] = []
    found = published_figures(plan, problems)
    assert problems == []
    assert {(row.base, row.name, task) for row, task, _ in found} == {
        (base, "LoRA", task)
        for base in ("RoBERTa-base", "RoBERTa-large")
        for task in ("mrpc", "average")
    }


@pytest.mark.parametrize("settings", [(), ("base=/models/mine",)])
def test_a_shipped_sweep_takes_a_part_of_its_grid(settings):
    """As the header of its file says."""
    plan = plan_of("which-rank-nlg", "grid.lora.r=[1, 8, 64]", *settings)
    problems: list[str] = []
    found = published_figures(plan, problems)
    assert problems == recipe_problems(plan) == []
    rows = ["LoRA, lora.r=1", "LoRA, lora.r=8", "LoRA, lora.r=64"]
    assert [row.name for row, _, _ in found] == [variant.name for variant in plan.variants] == rows


def test_the_papers_table_shows_its_averages_with_their_source():
    table = sweep_table(plan_of("glue-paper"))
    assert table.columns[-1] == AVERAGE
    published = {(row.base, row.name): row.cells[-1].published for row in table.rows}
    lora = published["RoBERTa-base", "LoRA"]
    assert lora is not None
    assert lora.value == pytest.approx(0.872)
    assert lora.source == "arXiv 2106.09685, table 2, started from MNLI"
    assert sum(one is not None for one in published.values()) == 12


def test_the_papers_table_says_its_settings_once():
    text = sweep_files()["glue-paper"].read_text()
    assert text.count("epochs: 20") == 1
