"""Plans of several methods side by side."""

from __future__ import annotations

from transformers import LlamaConfig

from lorakit.planner.bases import model_on_meta
from lorakit.planner.settings import StepSettings
from lorakit.planner.table import method_steps, plan_steps

TINY = LlamaConfig(
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=64,
    vocab_size=64,
)


def test_progress_is_told_of_every_method():
    told: list[int] = []
    configs = {"lora": None, "full": None}
    step = StepSettings(batch=1, length=8)
    table = plan_steps(method_steps(model_on_meta(TINY), step, configs), lambda: told.append(1))
    assert list(table.plans) == ["lora", "full"]
    assert len(told) == 2
