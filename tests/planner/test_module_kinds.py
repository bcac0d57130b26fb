"""Which modules hold the most at the peak."""

from __future__ import annotations

import lorakit as lora
from lorakit.planner.module_kinds import THE_MODEL, kinds_lines, module_kinds
from tests.planner.devices.models import LORA, SMALL

MODULES = {
    "": {"temporary": 5_000},
    "layers.0.q": {"base weights": 1_000, "activations": 2_000},
    "layers.1.q": {"base weights": 1_000},
    "head": {"base weights": 3_000},
}


def test_modules_of_a_kind_are_one_and_the_largest_is_first():
    kinds = module_kinds(MODULES)
    assert [(kind.name, kind.count, kind.total) for kind in kinds] == [
        (THE_MODEL, 1, 5_000),
        ("layers.*.q", 2, 4_000),
        ("head", 1, 3_000),
    ]
    assert kinds[1].bytes_by == {"base weights": 2_000, "activations": 2_000}


def test_methods_stand_side_by_side_with_what_is_largest_in_any():
    lines = kinds_lines({"lora": MODULES, "full": {"head": {"gradients": 9_000}}}, most=1)
    assert [line.split() for line in lines] == [
        ["held", "at", "the", "peak", "by", "modules", "lora", "full"],
        ["head", "1", "3.0", "kB", "9.0", "kB"],
        ["(the", "model", "itself)", "1", "5.0", "kB", "0.0", "kB"],
    ]


def test_weights_and_state_are_those_of_the_module_that_has_them():
    plan = lora.plan(SMALL, "lora", LORA, batch=2, length=16, dtype="fp32")
    query = plan.memory.modules["model.layers.1.self_attn.q_proj"]
    assert query["base weights"] == 4 * 48 * 48
    assert query["trained weights"] == 4 * 2 * 3 * 48
    assert query["optimizer state"] == 2 * (2 * 4 * 3 * 48 + 4)  # two moments and a count each


def test_gradients_are_those_of_the_module_that_has_the_weight():
    plan = lora.plan(SMALL, "full", batch=1, length=2, dtype="fp32")
    assert plan.memory.modules["lm_head"]["gradients"] == 4 * 333 * 48
